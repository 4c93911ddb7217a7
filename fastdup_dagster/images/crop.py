"""The part of an image that an instance is: checked, widened by a margin, cut out of the full-size pixels.

A box is x, y, width, height, or the four corners x1, y1 … x4, y4 of a rotated one, in pixels. It must lie in the
image; the margin around it is cut off at the image's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images.decode import MIN_SIDE, Decoded, ImageError
from fastdup_dagster.settings import Settings

# Coordinates that were computed in float32 or written with few digits may stick out by this much, in pixels.
_SLACK = 0.5
# Sides of a rotated box come from its corners, 10 pixels as 9.9999999.
_ROUNDING = 1e-3
_FACE_MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class Margins:
    """How much wider than its box a crop is: shares of width and height on both sides, or pixels on every side."""

    horizontal: float = 0.0
    vertical: float = 0.0
    pixels: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Margins:
        """The margins that the settings ask for; a fifth of its size around a face that was found, as in V1."""
        horizontal, vertical = settings.augmentation_horiz, settings.augmentation_vert
        if settings.bounding_box == "face" and not (horizontal or vertical or settings.augmentation_additive_margin):
            horizontal = vertical = _FACE_MARGIN
        return cls(horizontal, vertical, settings.augmentation_additive_margin)

    def around(self, width: float, height: float) -> tuple[float, float]:
        """Pixels to add left and right, and above and below, of a box of this size."""
        return width * self.horizontal + self.pixels, height * self.vertical + self.pixels


NO_MARGINS = Margins()


def corners(box: Sequence[float]) -> NDArray[np.float64]:
    """The four corners of a box, clockwise as seen: 4 x 2, float64, pixels.

    Raises:
        ImageError: BAD_BOUNDING_BOX for anything but 4 or 8 finite numbers.
    """
    values = np.asarray(box, dtype=np.float64)
    if values.shape not in ((4,), (8,)) or not np.isfinite(values).all():
        raise ImageError("BAD_BOUNDING_BOX", f"box {list(box)}: expected 4 or 8 finite numbers")
    if values.size == 4:
        x, y, width, height = values
        if min(width, height) < 0:
            raise ImageError("BAD_BOUNDING_BOX", f"box {list(box)}: negative width or height")
        return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    points = values.reshape(4, 2)
    following = np.roll(points, -1, axis=0)
    doubled_area = np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1])
    # Corners that run the other way round would give a mirror image.
    return points if doubled_area >= 0 else points[[0, 3, 2, 1]]


def crop(image: Decoded, box: Sequence[float], margins: Margins = NO_MARGINS) -> Decoded:
    """Cuts a box and its margin out of an image.

    Args:
        image: decoded at its full size.
        box: 4 or 8 numbers; rotated boxes are turned upright (bilinear), upright ones are cut at whole pixels.
        margins: how much more to take around it, as far as the image goes.

    Raises:
        ImageError: BAD_BOUNDING_BOX if the box is under 10 pixels on a side or not inside the image.
    """
    height, width = image.pixels.shape[:2]
    points = corners(box)
    across, down = (float(box[2]), float(box[3])) if len(box) == 4 else _sides(points)
    if min(across, down) < MIN_SIDE - (0 if len(box) == 4 else _ROUNDING):
        raise ImageError("BAD_BOUNDING_BOX", f"box of {across:g} x {down:g} pixels: under {MIN_SIDE} on a side")
    if (points < -_SLACK).any() or (points > np.array([width, height]) + _SLACK).any():
        raise ImageError("BAD_BOUNDING_BOX", f"box {list(box)} is not inside the image of {width} x {height} pixels")
    wide, high = margins.around(across, down)
    if len(box) == 4:
        pixels = _upright(image.pixels, points, wide, high)
    else:
        pixels = _deskewed(image.pixels, points, wide, high)
    return replace(image, pixels=pixels, width=pixels.shape[1], height=pixels.shape[0])


def geometry(box: Sequence[float], margins: Margins = NO_MARGINS) -> str:
    """What tells a crop of a file from another one of the same file."""
    values = [*(float(v) for v in box), margins.horizontal, margins.vertical, margins.pixels]
    return ",".join(repr(value) for value in values)


def _sides(points: NDArray[np.float64]) -> tuple[float, float]:
    """Width and height: means of the opposite sides."""
    lengths = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    return float(lengths[0] + lengths[2]) / 2, float(lengths[1] + lengths[3]) / 2


def _upright(pixels: NDArray[np.uint8], points: NDArray[np.float64], wide: float, high: float) -> NDArray[np.uint8]:
    size = (pixels.shape[1], pixels.shape[0])
    margin = np.array([wide, high])
    left, top = np.clip(np.floor(points[0] - margin + 0.5), 0, size).astype(int)
    right, bottom = np.clip(np.floor(points[2] + margin + 0.5), 0, size).astype(int)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _deskewed(pixels: NDArray[np.uint8], points: NDArray[np.float64], wide: float, high: float) -> NDArray[np.uint8]:
    points = _widened(points, wide, high, pixels.shape[1], pixels.shape[0])
    width, height = (max(1, round(side)) for side in _sides(points))
    # Corners are edges of pixels, OpenCV counts from their centres.
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32) - 0.5
    # Only the box's surroundings: OpenCV takes no image of over 32,767 pixels a side here.
    start = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, None)
    end = np.ceil(points.max(axis=0)).astype(int) + 1
    pixels = pixels[start[1] : end[1], start[0] : end[0]]
    turn = cv2.getPerspectiveTransform((points - start - 0.5).astype(np.float32), target)
    return np.asarray(
        cv2.warpPerspective(pixels, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        dtype=np.uint8,
    )


def _widened(points: NDArray[np.float64], wide: float, high: float, width: int, height: int) -> NDArray[np.float64]:
    """Corners moved outwards along the box's own sides; as far as all of them stay in the image."""
    if not wide and not high:
        return points
    right, below = points[1] - points[0], points[3] - points[0]
    right, below = right / np.linalg.norm(right) * wide, below / np.linalg.norm(below) * high
    moves = np.array([-right - below, right - below, right + below, below - right])
    room = np.where(moves > 0, np.array([width, height]) - points, points)
    shares = np.divide(np.maximum(room, 0), np.abs(moves), out=np.ones_like(room), where=np.abs(moves) > 1e-9)
    return points + moves * min(1.0, float(shares.min()))
