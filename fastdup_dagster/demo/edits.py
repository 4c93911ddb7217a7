"""What is done to an image to plant a defect. Images are H x W x 3, uint8, RGB."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from fastdup_dagster.demo.photos import Image

QUALITY = 92


def encode(pixels: Image, quality: int = QUALITY) -> bytes:
    """The image as a baseline JPEG."""
    done, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {pixels.shape}")
    return bytes(data)


def crop(pixels: Image, share: float, rng: Random) -> Image:
    """A part with `share` of either side, at a random place."""
    height, width = (round(side * share) for side in pixels.shape[:2])
    y = rng.randint(0, pixels.shape[0] - height)
    x = rng.randint(0, pixels.shape[1] - width)
    return pixels[y : y + height, x : x + width]


def resize(pixels: Image, factor: float) -> Image:
    """The image at `factor` times its size, by area averaging."""
    return _uint8(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def flip(pixels: Image) -> Image:
    """Mirrored left to right."""
    return np.ascontiguousarray(pixels[:, ::-1])


def gain(pixels: Image, factor: float, offset: float = 0.0) -> Image:
    """Every value times `factor` plus `offset`, clipped to 0 and 255."""
    return _uint8(np.clip(np.rint(pixels * np.float32(factor) + np.float32(offset)), 0, 255))


def gaussian_blur(pixels: Image, sigma: float) -> Image:
    """Gaussian blur, sigma in pixels."""
    return _uint8(cv2.GaussianBlur(pixels, (0, 0), sigma))


def expose(pixels: Image, mean: float) -> Image:
    """The image with one offset added to all values, clipped, so that their mean is `mean`, 0 to 255.

    This is how a wrong exposure looks: a dark image keeps its highlights only, a bright one its shadows.
    """
    low, high = -255.0, 255.0
    for _ in range(30):
        middle = (low + high) / 2
        if gain(pixels, 1.0, middle).mean() < mean:
            low = middle
        else:
            high = middle
    return gain(pixels, 1.0, high)


def half(data: bytes) -> bytes:
    """The first half of a file, as after a broken copy."""
    return data[: len(data) // 2]


def _uint8(values: object) -> Image:
    return np.asarray(values).astype(np.uint8)
