"""What a detector is, and what it finds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Detection:
    """Something that was found.

    Attributes:
        box: x, y, width, height, or the four corners x1, y1 … x4, y4 of a tilted one, in pixels, inside the image.
        label: name of the class, or the text.
        confidence: 0 to 1.
    """

    box: tuple[float, ...]
    label: str
    confidence: float


class Detector(Protocol):
    """Finds things in images. Calls may come from several threads at once; each uses one thread."""

    @property
    def id(self) -> str:
        """What decides what is found: name, sha256 of the model, thresholds."""

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """What is in an image, the surest first.

        Args:
            pixels: H x W x 3, uint8, RGB, upright, at full size.
        """


class PerThread(Generic[_Part]):
    """A part that serves one thread at a time: each thread gets one of its own, made when it first asks."""

    def __init__(self, make: Callable[[], _Part]) -> None:
        self._make = make
        self._local = threading.local()

    def __call__(self) -> _Part:
        """That of this thread."""
        if not hasattr(self._local, "part"):
            self._local.part = self._make()
        part: _Part = self._local.part
        return part


def inside(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Boxes x1, y1, x2, y2 (n x 4) cut off at the edges of an image."""
    limits = np.array([width, height, width, height], dtype=np.float64)
    return np.clip(boxes, 0, limits)


def strongest(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], classes: Sequence[int] | NDArray[np.int64], overlap: float
) -> NDArray[np.int64]:
    """Non-maximum suppression within each class: rows of the boxes that stay, the surest first.

    Args:
        boxes: n x 4: x1, y1, x2, y2.
        scores: n.
        classes: n.
        overlap: a box that overlaps a surer one of its class by more than this (intersection over union) goes.
    """
    if not len(boxes):
        return np.empty(0, dtype=np.int64)
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        corners.tolist(), [float(s) for s in scores], [int(c) for c in classes], 0.0, overlap
    )
    rows = np.asarray(kept, dtype=np.int64).ravel()
    return rows[np.argsort(-np.asarray(scores)[rows], kind="stable")]
