"""Images as a captioning model takes them: what `preprocessor_config.json` says, as transformers computes it.

The steps and their arithmetic are those of transformers' image processors on Pillow and numpy: resize, centre crop,
rescale (in float64, rounded to float32), normalise (in float32).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# What transformers' processors take where the file leaves a value out.
_IMAGENET_STANDARD = (0.5, 0.5, 0.5)
_RESCALE = 1 / 255
_BILINEAR, _BICUBIC = 2, 3
# ViLT's longer side is at most this many times the shorter one (1333 to 800, the shapes of COCO).
_LONGEST, _SHORTEST = 1333, 800


class ImagePreprocessor:
    """Turns RGB pixels into `pixel_values`.

    Args:
        config: of the file `preprocessor_config.json`.

    Raises:
        ValueError: for a step or a size that is not known here.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
        self._is_vilt = kind.lower().startswith("vilt")
        defaults = _IMAGENET_STANDARD
        self._resize = bool(config.get("do_resize", True))
        self._size = _size(config.get("size", 224), square=bool(config.get("default_to_square", not self._is_vilt)))
        self._resample = int(config.get("resample", _BICUBIC if self._is_vilt else _BILINEAR))
        self._crop = _size(config.get("crop_size", 224), square=True) if config.get("do_center_crop") else None
        self._factor = float(config.get("rescale_factor", _RESCALE)) if config.get("do_rescale", True) else None
        self._divisor = int(config.get("size_divisor") or 32)
        self._normalise = bool(config.get("do_normalize", True))
        self._mean = np.array(config.get("image_mean") or defaults, dtype=np.float32)
        self._deviation = np.array(config.get("image_std") or defaults, dtype=np.float32)
        if self._mean.shape != (3,) or self._deviation.shape != (3,):
            raise ValueError(f"image_mean={config.get('image_mean')}, image_std={config.get('image_std')}: expected 3")

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`pixel_values` of one image: 3 x height x width, float32.

        Args:
            pixels: H x W x 3, uint8, RGB.

        Raises:
            ValueError: if the image is so narrow that nothing would be left of it.
        """
        if self._resize:
            height, width = self._target(*pixels.shape[:2])
            if not (height and width):
                raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels: too narrow for the model")
            resized = Image.fromarray(pixels).resize((width, height), resample=Image.Resampling(self._resample))
            pixels = np.asarray(resized)
        if self._crop is not None:
            pixels = _centre(pixels, self._crop["height"], self._crop["width"])
        values = pixels.astype(np.float32)
        if self._factor is not None:
            values = (pixels.astype(np.float64) * self._factor).astype(np.float32)
        if self._normalise:
            values = (values - self._mean) / self._deviation
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def _target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to resize to."""
        size = self._size
        if "height" in size:
            return size["height"], size["width"]
        shortest = size["shortest_edge"]
        if self._is_vilt:
            return _vilt_target(height, width, shortest, self._divisor)
        short, long = min(height, width), max(height, width)
        longer = int(shortest * long / short)
        return (shortest, longer) if height <= width else (longer, shortest)


def _size(given: Any, square: bool) -> dict[str, int]:
    """A size in one spelling: `height` and `width`, or `shortest_edge`.

    Raises:
        ValueError: for any other one.
    """
    if isinstance(given, int):
        return {"height": given, "width": given} if square else {"shortest_edge": given}
    if isinstance(given, Mapping):
        known = {name: int(value) for name, value in given.items() if value is not None}
        if set(known) in ({"height", "width"}, {"shortest_edge"}):
            return known
    raise ValueError(f"size={given!r}: expected height and width, or shortest_edge")


def _vilt_target(height: int, width: int, shortest: int, divisor: int) -> tuple[int, int]:
    """ViLT: the shorter side as asked for, the longer one limited, both cut to multiples of the patches."""
    scale = shortest / min(height, width)
    new_height, new_width = (shortest, scale * width) if height < width else (scale * height, shortest)
    longest = int(_LONGEST / _SHORTEST * shortest)
    if (longer := max(new_height, new_width)) > longest:
        new_height, new_width = (longest / longer * side for side in (new_height, new_width))
    height, width = (int(side + 0.5) // divisor * divisor for side in (new_height, new_width))
    return height, width


def _centre(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle of an image; what sticks out of a smaller one is black."""
    above, left = max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])
    if above or left:
        before = [(side + 1) // 2 for side in (above, left)]
        margins = [(one, whole - one) for one, whole in zip(before, (above, left), strict=True)]
        pixels = np.pad(pixels, [*margins, (0, 0)])
    top, start = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, start : start + width]
