"""Measure an exported model: copy detection, throughput, and whether its bits depend on batch size or threads.

Copy detection: every photo is edited in 15 ways; the edits are the queries, the untouched photos the database, and
cosine is the score. Every run makes the same edits (the random ones are seeded by photo and edit).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

Array = npt.NDArray[Any]
Edit = Callable[[Array, np.random.Generator], Array]

SIDE = 224
SEED = 20261122
FEATURES = "features"
EMBEDDINGS = (FEATURES, "embedding_576", "embedding_960")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
EVERY_OUTPUT = ("embedding_576", "embedding_960", "logits")
TIMED_SECONDS = 3.0


# --- the 15 edits: uint8 [height, width, 3] RGB in and out -----------------------------------------------------------


def _shrink(image: Array, _: np.random.Generator) -> Array:
    return cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)


def _compress(image: Array, _: np.random.Generator) -> Array:
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    return _rgb(cv2.imdecode(encoded, cv2.IMREAD_COLOR), "the JPEG of an edit")


def _crop(side: float) -> Edit:
    """Keep `side` of the width and of the height, at a random place."""

    def edit(image: Array, random: np.random.Generator) -> Array:
        height, width = (round(length * side) for length in image.shape[:2])
        top = int(random.integers(0, image.shape[0] - height + 1))
        left = int(random.integers(0, image.shape[1] - width + 1))
        return image[top : top + height, left : left + width]

    return edit


def _flip(image: Array, _: np.random.Generator) -> Array:
    return cv2.flip(image, 1)


def _brighten(image: Array, _: np.random.Generator) -> Array:
    return cv2.convertScaleAbs(image, alpha=1.5, beta=20)


def _darken(image: Array, _: np.random.Generator) -> Array:
    return cv2.convertScaleAbs(image, alpha=0.5)


def _blur(image: Array, _: np.random.Generator) -> Array:
    return cv2.GaussianBlur(image, (0, 0), 3)


def _tilt(image: Array, _: np.random.Generator) -> Array:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 15, 1.0)
    return cv2.warpAffine(image, matrix, (width, height))


def _turn(image: Array, _: np.random.Generator) -> Array:
    return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)


def _write_text(image: Array, _: np.random.Generator) -> Array:
    """White letters across the whole width, in the middle."""
    text, font = "SAMPLE TEXT", cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _baseline = cv2.getTextSize(text, font, 1.0, 2)
    scale = image.shape[1] / width
    origin = (0, int((image.shape[0] + height * scale) / 2))
    return cv2.putText(image.copy(), text, origin, font, scale, (255, 255, 255), max(2, round(3 * scale)))


def _grey(image: Array, _: np.random.Generator) -> Array:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _saturate(image: Array, _: np.random.Generator) -> Array:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = cv2.convertScaleAbs(hsv[..., 1], alpha=2.0).reshape(hsv.shape[:2])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _border(image: Array, _: np.random.Generator) -> Array:
    return cv2.copyMakeBorder(image, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def _widen(image: Array, _: np.random.Generator) -> Array:
    return cv2.resize(image, None, fx=1.5, fy=1.0, interpolation=cv2.INTER_LINEAR)


EDITS: dict[str, Edit] = {
    "resize 0.4": _shrink,
    "JPEG quality 20": _compress,
    "crop 80 %": _crop(0.8),
    "crop 50 %": _crop(0.5),
    "horizontal flip": _flip,
    "x1.5 + 20": _brighten,
    "x0.5": _darken,
    "blur sigma 3": _blur,
    "rotate 15": _tilt,
    "rotate 90": _turn,
    "text": _write_text,
    "grey": _grey,
    "saturation x2": _saturate,
    "border 60 px": _border,
    "width x1.5": _widen,
}


# --- copy detection --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CopyDetection:
    """How well edits find their originals.

    Attributes:
        recall_at_1: share of queries whose best match is their original.
        micro_ap: average precision of all (query, original) pairs ranked together (uAP).
        recall_at_p95: largest recall at which precision is still 95 %.
        by_edit: recall at 1 of each edit.
    """

    recall_at_1: float
    micro_ap: float
    recall_at_p95: float
    by_edit: dict[str, float]


def score(originals: Array, queries: Array) -> CopyDetection:
    """Judge embeddings by cosine.

    Args:
        originals: float [photos, d], the database.
        queries: float [edits, photos, d]; query [e, p] is edit e of photo p.
    """
    edits, photos = queries.shape[:2]
    similarity = _unit(queries.reshape(edits * photos, -1)) @ _unit(originals).T
    truth = np.tile(np.arange(photos), edits)
    found = (similarity.argmax(axis=1) == truth).reshape(edits, photos).mean(axis=1)

    order = np.argsort(-similarity, axis=None, kind="stable")
    relevant = (truth[:, None] == np.arange(photos)[None, :]).ravel()[order]
    hits = np.cumsum(relevant)
    precision = hits / np.arange(1, len(hits) + 1)
    precise = np.flatnonzero(precision >= 0.95)
    return CopyDetection(
        recall_at_1=float(found.mean()),
        micro_ap=float(precision[relevant].mean()),
        recall_at_p95=float(hits[precise[-1]] / len(truth)) if len(precise) else 0.0,
        by_edit=dict(zip(EDITS, found.tolist(), strict=True)),
    )


def _unit(vectors: Array) -> Array:
    unit: Array = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit


def read_rgb(path: Path) -> Array:
    """Decode at full size: uint8 [height, width, 3]. Raises ValueError for a file that is not an image."""
    return _rgb(cv2.imread(str(path), cv2.IMREAD_COLOR), path.name)


def _rgb(image: Array | None, name: str) -> Array:
    if image is None:
        raise ValueError(f"not a readable image: {name}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pixels_of(image: Array, side: int = SIDE) -> Array:
    """What the graph takes: uint8 [side, side, 3], resized by area."""
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def edited_pixels(photos: Sequence[Path], side: int = SIDE) -> tuple[Array, Array]:
    """Inputs of the originals, uint8 [photos, side, side, 3], and of their edits, [edits, photos, side, side, 3]."""
    originals = np.empty((len(photos), side, side, 3), np.uint8)
    queries = np.empty((len(EDITS), *originals.shape), np.uint8)
    for number, path in enumerate(photos):
        image = read_rgb(path)
        originals[number] = pixels_of(image, side)
        for kind, edit in enumerate(EDITS.values()):
            random = np.random.default_rng([SEED, number, kind])
            queries[kind, number] = pixels_of(edit(image, random), side)
    return originals, queries


# --- sessions --------------------------------------------------------------------------------------------------------


def with_features(path: Path) -> bytes:
    """The model with its pooled features, float32 [N, 1280], as a further output."""
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["N", 1280]))
    serialised: bytes = model.SerializeToString()
    return serialised


def session(model: bytes, threads: int) -> ort.InferenceSession:
    """A CPU session on so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(runner: ort.InferenceSession, names: Sequence[str], pixels: Array, batch: int) -> dict[str, Array]:
    """The named outputs for all of `pixels`, uint8 [n, 224, 224, 3], computed in batches."""
    parts = [runner.run(names, {"pixels": pixels[at : at + batch]}) for at in range(0, len(pixels), batch)]
    return {name: np.concatenate([part[at] for part in parts]) for at, name in enumerate(names)}


def images_per_cpu_second(
    runner: ort.InferenceSession, names: Sequence[str], pixels: Array, batch: int
) -> tuple[float, float]:
    """(images per CPU second, images per second), the best of rounds over `pixels` within a few seconds."""
    run(runner, names, pixels[:batch], batch)
    per_cpu, per_wall, stop = 0.0, 0.0, time.perf_counter() + TIMED_SECONDS
    while time.perf_counter() < stop:
        cpu, wall = time.process_time(), time.perf_counter()
        run(runner, names, pixels, batch)
        per_cpu = max(per_cpu, len(pixels) / (time.process_time() - cpu))
        per_wall = max(per_wall, len(pixels) / (time.perf_counter() - wall))
    return per_cpu, per_wall


def bits_differ(model: bytes, pixels: Array) -> list[str]:
    """Batch sizes (1 to 16) and threads (1, 2) whose outputs are not bit for bit those of one image on one thread."""
    expected = run(session(model, 1), EVERY_OUTPUT, pixels, batch=1)
    found = []
    for threads in (1, 2):
        runner = session(model, threads)
        for batch in range(1, 17):
            outputs = run(runner, EVERY_OUTPUT, pixels, batch)
            wrong = [name for name in EVERY_OUTPUT if outputs[name].tobytes() != expected[name].tobytes()]
            found += [f"batch {batch}, {threads} threads: {', '.join(wrong)}"] if wrong else []
    return found


# --- report ----------------------------------------------------------------------------------------------------------


def report_quality(models: Sequence[Path], originals: Array, queries: Array) -> None:
    """Print a row per model and embedding, then the recall of each edit."""
    results = {}
    for path in models:
        runner = session(with_features(path), threads=2)
        known = run(runner, EMBEDDINGS, originals, batch=8)
        asked = [run(runner, EMBEDDINGS, edit, batch=8) for edit in queries]
        for name in EMBEDDINGS:
            results[path.stem, name] = score(known[name], np.stack([part[name] for part in asked]))
    print(f"\n{'model':26} {'embedding':14} recall@1   uAP     recall at 95% precision")
    for (model, name), result in results.items():
        row = f"{result.recall_at_1:.4f}     {result.micro_ap:.4f}  {result.recall_at_p95:.4f}"
        print(f"{model:26} {name:14} {row}")
    for (model, name), result in results.items():
        worst = sorted(result.by_edit.items(), key=lambda item: item[1])[:4]
        print(f"{model} {name}: worst edits " + ", ".join(f"{edit} {value:.3f}" for edit, value in worst))


def report_speed(models: Sequence[Path], pixels: Array) -> None:
    """Print images per CPU second and per second, by outputs asked for and threads."""
    print(f"\n{'model':26} {'outputs':38} threads  images per CPU second / per second, batch 8")
    for path in models:
        for threads in (1, 2):
            runner = session(path.read_bytes(), threads)
            for names in (("embedding_576",), EVERY_OUTPUT):
                per_cpu, per_wall = images_per_cpu_second(runner, names, pixels, batch=8)
                print(f"{path.stem:26} {', '.join(names):38} {threads:7}  {per_cpu:.0f} / {per_wall:.0f}")


def main() -> None:
    """Print the three reports."""
    parser = argparse.ArgumentParser(
        description="Measure exported models on a folder of photos.",
        epilog="""examples:
  python tools/measure_model.py photos
  python tools/measure_model.py photos --model build/float32.onnx --only speed""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bundled = Path(__file__).resolve().parents[1] / "fastdup_dagster/models/bundled/efficientnet_lite0_int8.onnx"
    parser.add_argument("photos", type=Path, help="folder of photos; never the ones that calibrated the model")
    parser.add_argument("--model", type=Path, nargs="+", default=[bundled], metavar="FILE", help="default: bundled")
    parser.add_argument("--only", choices=("quality", "speed", "bits"), help="one of the three reports")
    arguments = parser.parse_args()

    photos = sorted(path for path in arguments.photos.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    few = np.stack([pixels_of(read_rgb(path)) for path in photos[:64]])
    if arguments.only in (None, "speed"):
        report_speed(arguments.model, few)
    if arguments.only in (None, "bits"):
        for path in arguments.model:
            differing = bits_differ(path.read_bytes(), few[:35])
            print(f"\n{path.stem}: bits over batches of 1 to 16 and 1 or 2 threads: {differing or 'identical'}")
    if arguments.only in (None, "quality"):
        originals, queries = edited_pixels(photos)
        print(f"\n{len(photos)} photos, {len(EDITS)} edits, {queries.shape[0] * queries.shape[1]} queries")
        report_quality(arguments.model, originals, queries)


if __name__ == "__main__":
    main()
