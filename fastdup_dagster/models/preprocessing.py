"""From decoded pixels to what a model takes: its square, and its scale of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastdup_dagster.images.working import model_square

Values = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a model wants its images. Means and deviations are of RGB values from 0 to 1.

    Attributes:
        name: part of the model's id.
        mean: subtracted from each channel.
        deviation: what the rest is divided by.
        shorter: length in pixels that the shorter side is resized to before the centre is cropped; None squeezes the
            whole image into the square by area averaging.
        filter: of that resize. `bicubic` is Pillow's, which averages over the source pixels where it shrinks (as
            torchvision's on images); `linear` is OpenCV's, which does not.
    """

    name: str
    mean: Values = (0.0, 0.0, 0.0)
    deviation: Values = (1.0, 1.0, 1.0)
    shorter: int | None = None
    filter: Literal["bicubic", "linear"] = "bicubic"

    @property
    def id(self) -> str:
        """What tells it from another one: numbers that no file of a model holds."""
        return self.name if self.shorter is None else f"{self.name}-{self.filter}{self.shorter}"

    def square(self, pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        """`side` x `side` x 3 of an image H x W x 3, uint8."""
        if self.shorter is None:
            return model_square(pixels, side)
        return _cropped(_resized(pixels, self.shorter, self.filter), side)

    def scaled(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The numbers that go in, float32, of RGB images n x side x side x 3."""
        mean, deviation = (np.array(values, dtype=np.float32) for values in (self.mean, self.deviation))
        return (images.astype(np.float32) / np.float32(255) - mean) / deviation


# The numbers are those that the models' authors publish.
IMAGENET: tuple[Values, Values] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Values, Values] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# (x - 127) / 128 of bytes
CENTRED: tuple[Values, Values] = ((127 / 255,) * 3, (128 / 255,) * 3)
RAW = Preprocessing("raw")
# by the names that `model_preprocessing` takes
SCALINGS = {
    "raw": RAW,
    "unit": Preprocessing("unit"),
    "symmetric": Preprocessing("symmetric", (0.5,) * 3, (0.5,) * 3),
    "imagenet": Preprocessing("imagenet", *IMAGENET),
    "clip": Preprocessing("clip", *CLIP),
}


def _resized(pixels: NDArray[np.uint8], shorter: int, resample: str) -> NDArray[np.uint8]:
    """The shorter side at `shorter` pixels; the longer one rounded down, as torchvision does."""
    height, width = pixels.shape[:2]
    if min(height, width) == shorter:
        return pixels
    wide, high = (max(shorter, shorter * length // min(height, width)) for length in (width, height))
    if resample == "linear":
        return np.asarray(cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((wide, high), Image.Resampling.BICUBIC))


def _cropped(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    # Python's rounding to even, as in torchvision's centre crop
    top, left = round((height - side) / 2), round((width - side) / 2)
    return pixels[top : top + side, left : left + side]
