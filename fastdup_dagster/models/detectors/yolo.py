"""YOLOv5 in ONNX, as its own `export.py` writes it: letterboxing, decoding and suppression are done here.

The rules are those of YOLOv5's `detect.py` (v7.0): a square of grey 114 around the resized image, classes scored by
objectness times class score, one class a box, suppression within each class.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.detectors.base import Detection, inside, strongest
from fastdup_dagster.models.files import model_sha256
from fastdup_dagster.models.session import Session, open_session

_GREY = 114
_CONFIDENCE, _OVERLAP, _MOST = 0.25, 0.45, 1000
_DEFAULT_SIDE = 640
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies in the square that a model sees.

    Attributes:
        pixels: side x side x 3, uint8.
        left, top: of the image in it, pixels.
        across, down: how many times larger it is there.
    """

    pixels: NDArray[np.uint8]
    left: int
    top: int
    across: float
    down: float

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], height: int, width: int) -> Letterbox:
        """Resizes an image to fit and puts it in the middle; an odd row or column goes below or right."""
        rows, columns = pixels.shape[:2]
        ratio = min(height / rows, width / columns)
        high, wide = max(1, round(rows * ratio)), max(1, round(columns * ratio))
        if (high, wide) != (rows, columns):
            pixels = np.asarray(cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        left, top = (width - wide) // 2, (height - high) // 2
        square = np.full((height, width, 3), _GREY, dtype=np.uint8)
        square[top : top + high, left : left + wide] = pixels
        return cls(square, left, top, wide / columns, high / rows)

    def back(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes x1, y1, x2, y2 (n x 4) of the square as those of the image."""
        offset = np.array([self.left, self.top] * 2, dtype=np.float64)
        return (boxes - offset) / np.array([self.across, self.down] * 2)


def yolo_id(path: Path) -> str:
    """What decides which objects are found: the model's hash, and the thresholds."""
    return f"yolov5 {path.stem}@{model_sha256(path)} {_CONFIDENCE} {_OVERLAP}"


class YoloDetector:
    """Any YOLOv5 of one input n x 3 x height x width, float32 or float16, and one output n x boxes x (5 + classes).

    Args:
        path: the .onnx file.
        providers: the preferred one first.
        callers: threads that call at once.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such model.
    """

    def __init__(self, path: Path, providers: Sequence[str] = ("cpu",), callers: int = 1) -> None:
        self._session = open_session(path, providers, callers=callers, batch=1)
        self._input = self._session.get_inputs()[0]
        if self._input.type not in _DTYPES or len(self._input.shape) != 4 or self._input.shape[1] != 3:
            raise ValueError(f"{path}: input {self._input.type} {self._input.shape}; expected float [n, 3, side, side]")
        sides = (side if isinstance(side, int) else _DEFAULT_SIDE for side in self._input.shape[2:])
        self._height, self._width = sides
        self._path = path
        self._names = _names(self._session)
        self.id = yolo_id(path)
        self.detect(np.zeros((self._height, self._width, 3), dtype=np.uint8))

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The objects in an image H x W x 3, uint8, RGB; the surest first."""
        letterbox = Letterbox.of(pixels, self._height, self._width)
        found = self._run(letterbox.pixels)
        scores = found[:, 4:5] * found[:, 5:]
        classes = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), classes]
        sure = np.flatnonzero((found[:, 4] > _CONFIDENCE) & (best > _CONFIDENCE))
        centre, half = found[sure, :2], found[sure, 2:4] / 2
        square = np.concatenate([centre - half, centre + half], axis=1)
        kept = strongest(square, best[sure], classes[sure], _OVERLAP)[:_MOST]
        boxes = inside(letterbox.back(square[kept]), *pixels.shape[:2])
        return [
            Detection((x1, y1, x2 - x1, y2 - y1), self._name(int(classes[row])), float(best[row]))
            for (x1, y1, x2, y2), row in zip(boxes.tolist(), sure[kept], strict=True)
            if x2 > x1 and y2 > y1
        ]

    def _run(self, square: NDArray[np.uint8]) -> NDArray[np.float64]:
        values = (square.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)).astype(
            _DTYPES[self._input.type]
        )
        output = np.asarray(self._session.run(None, {self._input.name: values})[0])
        # a later YOLO has n x (4 + classes) x boxes, and no objectness: fewer columns than rows tell them apart
        if output.ndim != 3 or output.shape[2] < 6 or output.shape[1] < output.shape[2]:
            raise ValueError(
                f"{self._path}: output {list(output.shape)}; expected [n, boxes, 5 + classes], as YOLOv5 has it"
            )
        return output[0].astype(np.float64)

    def _name(self, number: int) -> str:
        return self._names.get(number, f"class {number}")


def _names(session: Session) -> dict[int, str]:
    """The names of the classes that the export wrote into the file; empty if it did not."""
    text = session.get_modelmeta().custom_metadata_map.get("names", "")
    try:
        names: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if isinstance(names, list):
        names = dict(enumerate(names))
    return {k: str(v) for k, v in names.items() if isinstance(k, int)} if isinstance(names, dict) else {}
