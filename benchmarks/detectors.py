"""How many annotated persons a YOLOv5 finds, how its boxes compare with another decode, and how long it takes.

  python benchmarks/detectors.py IMAGES --annotations instances.json --model yolov5n.onnx

Recall: of the annotated persons (crowds left out), the share that a box labelled `person` overlaps by an IoU of .5 or
more, each box standing for one person. The other decode is written anew below: YOLOv5's rules one box at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
from common import Inputs, images_in

from fastdup_dagster.images import decode
from fastdup_dagster.models.detectors.yolo import YoloDetector

Array = npt.NDArray[np.float64]
_PERSON = "person"


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box x1, y1, x2, y2 with n others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / (areas - shared))


def found_of(annotated: Array, boxes: Array) -> int:
    """How many annotated boxes are met by a box of their own, the surest box first."""
    free = np.ones(len(annotated), dtype=bool)
    for box in boxes:
        shares = np.where(free, overlaps(box, annotated), 0)
        if len(shares) and shares.max() >= 0.5:
            free[shares.argmax()] = False
    return int((~free).sum())


class Reference:
    """The same model, decoded with nothing but numpy; the resize is the same, so that decodes are compared."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path))
        self._input = self._session.get_inputs()[0]

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> list[tuple[Array, int]]:
        """x1, y1, x2, y2 and class of each object, the surest first."""
        side = int(self._input.shape[2])
        height, width = pixels.shape[:2]
        ratio = min(side / height, side / width)
        wide, high = round(width * ratio), round(height * ratio)
        square = np.full((side, side, 3), 114, dtype=np.uint8)
        left, top = (side - wide) // 2, (side - high) // 2
        square[top : top + high, left : left + wide] = cv2.resize(pixels, (wide, high))
        kind = np.float16 if "16" in self._input.type else np.float32
        values = (square / 255).astype(np.float32).astype(kind).transpose(2, 0, 1)[None]
        kept: list[tuple[float, int, Array]] = []
        rows = self._session.run(None, {self._input.name: values})[0][0].astype(np.float64)
        candidates = [(row[4] * row[5:].max(), int(row[5:].argmax()), row[:4]) for row in rows if row[4] > 0.25]
        for score, number, (x, y, w, h) in sorted(candidates, key=lambda item: -item[0]):
            box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            same = np.array([other for _, known, other in kept if known == number]).reshape(-1, 4)
            if score > 0.25 and not (overlaps(box, same) > 0.45).any():
                kept.append((score, number, box))
        limits, scale = np.array([width, height] * 2), np.array([width / wide, height / high] * 2)
        return [(np.clip((box - [left, top] * 2) * scale, 0, limits), number) for _, number, box in kept]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO instances.json")
    parser.add_argument("--model", type=Path, required=True, help="a YOLOv5 in ONNX that knows persons")
    given = parser.parse_args()
    coco = json.loads(given.annotations.read_text(encoding="utf-8"))
    category = next(item["id"] for item in coco["categories"] if item["name"] == _PERSON)
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    persons: dict[str, list[list[float]]] = {}
    for row in coco["annotations"]:
        if row["category_id"] == category and not row["iscrowd"]:
            x, y, w, h = row["bbox"]
            persons.setdefault(names[row["image_id"]], []).append([x, y, x + w, y + h])
    files = images_in(given.images)
    print(Inputs("images", given.images, files).describe())
    detector, reference = YoloDetector(given.model), Reference(given.model)
    wanted = found = boxes = other = 0
    worst = seconds = 0.0
    for path in files:
        pixels = decode(path.read_bytes()).pixels
        begun = time.perf_counter()
        detections = detector.detect(pixels)
        seconds += time.perf_counter() - begun
        corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (d.box for d in detections)]).reshape(-1, 4)
        labels = np.array([d.label for d in detections])
        annotated = np.array(persons.get(path.name, [])).reshape(-1, 4)
        wanted, found = wanted + len(annotated), found + found_of(annotated, corners[labels == _PERSON])
        expected = reference(pixels)
        boxes, other = boxes + len(corners), other + len(expected)
        for mine, (box, _) in zip(corners, expected, strict=False):
            worst = max(worst, float(np.abs(mine - box).max() / max(pixels.shape[:2])))
    print(f"persons annotated {wanted}, found {found}: recall at IoU .5 {found / wanted:.3f}")
    print(f"boxes {boxes}, by the other decode {other}; largest difference {worst:.5%} of the longer side")
    print(f"{len(files) / seconds:.1f} images/s on one thread")


if __name__ == "__main__":
    main()
