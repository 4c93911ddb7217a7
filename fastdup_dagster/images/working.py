"""The one small square that statistics, thumbnail and model share, and what the model takes of it."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images.decode import Decoded
from fastdup_dagster.schemas import THUMBNAIL_SIDE

WORKING_SIDE = 224
# Under this ratio of the sides a second average would blur more than it saves aliasing: copy detection says so.
_HARDLY_SMALLER = 1.45
# Four times the memory of the bytes: not for large images.
_FLOAT_VALUES = 3_000_000
# Rows that one matrix product averages at a time: a row is made of few others, so a product with all would be zeros.
_BAND = 8
# Multiplications of one product: from 2**18 on OpenBLAS wakes threads, which would fight with the caller's.
_PRODUCT = 200_000


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
    """Area averages: rows by matrix products, then columns by OpenCV. It takes bytes alone to the same, but slower.

    Whole ratios and large images are left to OpenCV.
    """
    height, width = pixels.shape[:2]
    if pixels.size > _FLOAT_VALUES or not (height % side or width % side):
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    averages = cv2.resize(_averaged_rows(pixels, side), (side, side), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(averages)  # rounds, as the sum of bytes would be


def _averaged_rows(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """`side` x W x 3: each row the mean of those that it covers."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    averages = np.empty((side, width * channels), dtype=np.float32)
    for top, low, weights in _bands(height, side):
        step = _PRODUCT // weights.size
        for left in range(0, width * channels, step):
            at = slice(left, left + step)
            covered = rows[low : low + weights.shape[1], at].astype(np.float32)
            np.matmul(weights, covered, out=averages[top : top + len(weights), at])
    return averages.reshape(side, width, channels)


@functools.lru_cache(maxsize=256)
def _bands(length: int, side: int) -> list[tuple[int, int, NDArray[np.float32]]]:
    """How `side` rows are averages of `length` others: first row of a band, first row that it covers, weights."""
    ratio = length / side
    bands = []
    for top in range(0, side, _BAND):
        edges = np.arange(top, min(top + _BAND, side) + 1) * ratio
        low, high = math.floor(edges[0]), min(math.ceil(edges[-1]), length)
        covered = np.arange(low, high)
        shares = np.minimum(edges[1:, None], covered + 1) - np.maximum(edges[:-1, None], covered)
        bands.append((top, low, (np.maximum(shares, 0) / ratio).astype(np.float32)))
    return bands


def model_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`side` x `side` x 3 for a model: a small one of the working image, a large one of the image itself.

    By area averaging, or bicubic where the working image is little larger.
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
