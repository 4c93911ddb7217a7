"""The part of an image that an instance is: its corners, and its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def corners(box: Sequence[float]) -> NDArray[np.float64]:
    """The four corners of a box: 4 x 2, float64, pixels.

    Args:
        box: x, y, width, height, or the four corners x1, y1, …, x4, y4.

    Raises:
        ValueError: for any other number of values, or one that is not finite.
    """
    values = np.asarray(box, np.float64)
    if values.shape not in ((4,), (8,)) or not np.isfinite(values).all():
        raise ValueError(f"box={list(box)!r}: expected 4 or 8 finite numbers")
    if values.size == 8:
        return values.reshape(4, 2)
    x, y, width, height = values
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def cut(pixels: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
    """The pixels in a box: upright ones as they are, rotated ones turned upright (bilinear).

    Args:
        pixels: H x W x 3, uint8.
        box: as `corners` takes it; what lies outside the image is left out of an upright one.

    Raises:
        ValueError: if nothing of the box is inside the image.
    """
    points = corners(box)
    height, width = pixels.shape[:2]
    if len(box) == 8:
        across, down = (round(float(np.linalg.norm(points[end] - points[0]))) for end in (1, 3))
        if across < 1 or down < 1 or (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= (width, height)).any():
            raise ValueError(f"box={list(box)!r} is outside the image of {width} x {height} pixels")
        target = np.array([[0, 0], [across, 0], [across, down], [0, down]], np.float32)
        turn = cv2.getPerspectiveTransform(points.astype(np.float32), target)
        return np.asarray(cv2.warpPerspective(pixels, turn, (across, down)), np.uint8)
    left, top = np.clip(np.floor(points[0]), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(points[2]), 0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        raise ValueError(f"box={list(box)!r} is outside the image of {width} x {height} pixels")
    return pixels[top:bottom, left:right]
