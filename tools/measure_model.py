"""Measure an exported model: copy detection, throughput, and whether its bits depend on batch size or threads.

Copy detection: every photo is edited in 15 ways; the edits are the queries, the untouched photos the database, and
cosine is the score. Every run makes the same edits (the random ones are seeded by photo and edit).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

# The edits and their score are the benchmark's, which needs no more than this environment has.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from edits import EDITS, edited, read_rgb
from scores import Array, copy_detection

SIDE = 160
FEATURES = "features"
EMBEDDINGS = (FEATURES, "embedding_576", "embedding_960")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
EVERY_OUTPUT = ("embedding_576", "embedding_960")
TIMED_SECONDS = 3.0


def pixels_of(image: Array) -> Array:
    """What the graph takes: uint8 [160, 160, 3], resized by area."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def edited_pixels(photos: Sequence[Path]) -> tuple[Array, Array]:
    """Inputs of the originals, uint8 [photos, 160, 160, 3], and of their edits, [edits, photos, 160, 160, 3]."""
    originals = np.empty((len(photos), SIDE, SIDE, 3), np.uint8)
    queries = np.empty((len(EDITS), *originals.shape), np.uint8)
    for number, path in enumerate(photos):
        image = read_rgb(path)
        originals[number] = pixels_of(image)
        for kind, edit in enumerate(EDITS):
            queries[kind, number] = pixels_of(edited(image, number, edit))
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
    """The named outputs for all of `pixels`, uint8 [n, 160, 160, 3], computed in batches."""
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
            results[path.stem, name] = copy_detection(
                known[name], np.stack([part[name] for part in asked]), list(EDITS)
            )
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
