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
    if height >= side and width >= side:
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    if height > side or width > side:
        shrunk = (min(width, side), min(height, side))
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)


def working_image(image: Decoded, square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What statistics are taken on: the 224 square if either true side is over 224, else the image itself."""
    return square if max(image.width, image.height) > WORKING_SIDE else image.pixels


def thumbnail(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """16 x 16 x 3 by area averaging of the working square (14 x 14 blocks)."""
    return cv2.resize(square, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
