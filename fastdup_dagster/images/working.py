"""The one small square that statistics, thumbnail and model share, and what the model takes of it."""

from __future__ import annotations

import contextlib
import functools
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
# Bands at a time: what they take stays in a core's own cache, and each call lets another thread have Python's lock.
_BANDS = 7
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

    Whole ratios, large images and sides that are no whole bands are left to OpenCV.
    """
    height, width = pixels.shape[:2]
    if pixels.size > _FLOAT_VALUES or side % _BAND or not (height % side or width % side):
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    rows = pixels.reshape(height, width * 3)
    square = np.empty((side, side, 3), dtype=np.uint8)
    for top, covered, weights in _bands(height, side):
        bands = rows.take(covered, axis=0).astype(np.float32).reshape(len(weights), -1, width * 3)
        averages = _product(weights, bands).reshape(-1, width, 3)
        across = cv2.resize(averages, (side, len(averages)), interpolation=cv2.INTER_AREA)
        cv2.convertScaleAbs(across, dst=square[top : top + len(averages)])  # rounds, as the sum of bytes would be
    return square


def _product(weights: NDArray[np.float32], bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Matrix products of n x `_BAND` x k and n x k x w, in pieces that are small enough each."""
    step = max(1, _PRODUCT // weights[0].size)
    if bands.shape[2] <= step:
        return np.matmul(weights, bands)
    product = np.empty((*weights.shape[:2], bands.shape[2]), dtype=np.float32)
    for left in range(0, bands.shape[2], step):
        np.matmul(weights, bands[..., left : left + step], out=product[..., left : left + step])
    return product


@functools.lru_cache(maxsize=256)
def _bands(length: int, side: int) -> list[tuple[int, NDArray[np.intp], NDArray[np.float32]]]:
    """How `side` rows are averages of `length` others, some bands at a time.

    Returns:
        First row; the rows that each of the bands covers, one after another; weights, n x `_BAND` x covered by one.
    """
    ratio = length / side
    lows = np.arange(0, side, _BAND) * ratio
    count = min(int((np.ceil(lows + _BAND * ratio) - np.floor(lows)).max()), length)
    covered = np.minimum(np.floor(lows).astype(np.intp), length - count)[:, None] + np.arange(count)
    edges = np.arange(side + 1).reshape(-1, 1) * ratio
    upper, lower = (part.reshape(-1, _BAND, 1) for part in (edges[1:], edges[:-1]))
    shares = np.minimum(upper, covered[:, None] + 1) - np.maximum(lower, covered[:, None])
    weights = (np.maximum(shares, 0) / ratio).astype(np.float32)
    parts = (slice(first, first + _BANDS) for first in range(0, len(lows), _BANDS))
    return [(part.start * _BAND, covered[part].ravel(), weights[part]) for part in parts]


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
