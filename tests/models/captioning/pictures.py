"""The pictures that the expected captions were made of: patches of colour, the same bytes on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def picture(seed: int) -> NDArray[np.uint8]:
    """H x W x 3, uint8, RGB; size and colours follow from the seed alone."""
    rng = np.random.default_rng(seed)
    height, width, patch = (int(value) for value in (*rng.integers(3, 8, 2), rng.integers(7, 20)))
    colours = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return colours.repeat(patch, axis=0).repeat(patch, axis=1)
