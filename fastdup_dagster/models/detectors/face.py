"""Faces, by YuNet through OpenCV's FaceDetectorYN."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.detectors.base import Detection, PerThread, inside, strongest
from fastdup_dagster.models.files import model_sha256

# YuNet's authors: it finds faces of about 10 to 300 pixels. Larger ones are seen in the smaller copy of the image.
_LONGER_SIDES = (1280, 320)
_CONFIDENCE, _OVERLAP, _MOST = 0.7, 0.3, 5000
_SCORE = 14


def face_id(path: Path) -> str:
    """What decides which faces are found: the model's hash, and the thresholds."""
    return f"face {path.stem}@{model_sha256(path)} {_CONFIDENCE} {_OVERLAP} {_LONGER_SIDES}"


class FaceDetector:
    """YuNet.

    Args:
        path: the .onnx file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no YuNet.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no model file at {path}")
        self._path = path
        self._net = PerThread(self._open)
        self.id = face_id(path)
        try:
            self.detect(np.zeros((64, 64, 3), dtype=np.uint8))
        except cv2.error as error:
            raise ValueError(f"{path}: not a YuNet face detector: {error.err or error}") from error

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The faces in an image H x W x 3, uint8, RGB; the surest first."""
        found = np.concatenate([self._at(pixels, side) for side in self._sides(pixels)])
        boxes, scores = found[:, :4], found[:, 4]
        kept = strongest(boxes, scores, np.zeros(len(boxes), dtype=np.int64), _OVERLAP)
        boxes = inside(boxes[kept], *pixels.shape[:2])
        return [
            Detection((x1, y1, x2 - x1, y2 - y1), "face", float(np.clip(score, 0, 1)))
            for (x1, y1, x2, y2), score in zip(boxes.tolist(), scores[kept], strict=True)
            if x2 > x1 and y2 > y1
        ]

    def _open(self) -> cv2.FaceDetectorYN:
        return cv2.FaceDetectorYN.create(str(self._path), "", (64, 64), _CONFIDENCE, _OVERLAP, _MOST)

    @staticmethod
    def _sides(pixels: NDArray[np.uint8]) -> list[int]:
        longer = max(pixels.shape[:2])
        return [side for side in _LONGER_SIDES if side < longer] + ([longer] if longer < _LONGER_SIDES[0] else [])

    def _at(self, pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
        """x1, y1, x2, y2, score (n x 5) of the faces found when the longer side is `side` pixels."""
        height, width = pixels.shape[:2]
        ratio = side / max(height, width)
        wide, high = (max(1, round(length * ratio)) for length in (width, height))
        seen = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        if (high, wide) != (height, width):
            seen = cv2.resize(seen, (wide, high), interpolation=cv2.INTER_AREA)
        net = self._net()
        net.setInputSize((wide, high))
        _, faces = net.detect(seen)
        if faces is None:
            return np.empty((0, 5))
        rows = np.asarray(faces, dtype=np.float64)
        back = np.array([width / wide, height / high] * 2)
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return np.concatenate([corners * back, rows[:, _SCORE : _SCORE + 1]], axis=1)
