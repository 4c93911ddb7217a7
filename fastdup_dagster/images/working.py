"""The one small square that statistics, thumbnail and model share."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images.decode import Decoded
from fastdup_dagster.schemas import THUMBNAIL_SIDE

WORKING_SIDE = 224


def to_square(pixels: NDArray[np.uint8], side: int = WORKING_SIDE) -> NDArray[np.uint8]:
    """`side` x `side` x 3 by area averaging; a direction that must grow is interpolated. Aspect is lost."""
    height, width = pixels.shape[:2]
    if height == width == side:
        return pixels
    if height >= side and width >= side:
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    if height > side or width > side:
        shrunk = (min(width, side), min(height, side))
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)


def working_image(image: Decoded) -> NDArray[np.uint8]:
    """What is measured: 224 x 224 x 3 if either true side is over 224, else the image itself."""
    return to_square(image.pixels) if max(image.width, image.height) > WORKING_SIDE else image.pixels


def thumbnail(working: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """16 x 16 x 3 by area averaging of the working image."""
    return to_square(working, THUMBNAIL_SIDE)
