"""The one small square that statistics, thumbnail and model share, and what the model takes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images.decode import Decoded
from fastdup_dagster.schemas import THUMBNAIL_SIDE

WORKING_SIDE = 224
# Under this ratio of the sides an average is over little more than one pixel: it would blur and save no aliasing.
_HARDLY_SMALLER = 1.25
# Four times the memory of the bytes: not for large images.
_FLOAT_VALUES = 3_000_000


def to_square(pixels: NDArray[np.uint8], side: int = WORKING_SIDE) -> NDArray[np.uint8]:
    """`side` x `side` x 3 by area averaging; a direction that must grow is interpolated. Aspect is lost."""
    height, width = pixels.shape[:2]
    if height == width == side:
        return pixels
    if height >= side and width >= side:
        return _averaged(pixels, side)
    if height > side or width > side:
        shrunk = (min(width, side), min(height, side))
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)


def _averaged(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Area averages. OpenCV sums floats faster than bytes, to the same results, but for whole ratios."""
    height, width = pixels.shape[:2]
    if pixels.size > _FLOAT_VALUES or not (height % side or width % side):
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    averages = cv2.resize(pixels.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(averages)  # rounds, as the sum of bytes would be


def model_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`side` x `side` x 3 for a model: a small one of the working image, a large one of the image itself.

    By area averaging, or bicubic where the working image is hardly larger.
    """
    if side <= WORKING_SIDE < max(pixels.shape[:2]):
        pixels = to_square(pixels)
    height, width = pixels.shape[:2]
    if height >= side and width >= side and max(height, width) <= side * _HARDLY_SMALLER:
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC)
    return to_square(pixels, side)


def working_image(image: Decoded) -> NDArray[np.uint8]:
    """What is measured: 224 x 224 x 3 if either true side is over 224, else the image itself."""
    return to_square(image.pixels) if max(image.width, image.height) > WORKING_SIDE else image.pixels


def thumbnail(working: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """16 x 16 x 3 by area averaging of the working image."""
    return to_square(working, THUMBNAIL_SIDE)


@contextlib.contextmanager
def opencv_alone() -> Iterator[None]:
    """Runs OpenCV without threads of its own, which would only fight with the caller's; its setting is put back."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
