"""Fingerprints of bytes and of pixels. XXH3-128: fast, and no defence against somebody who forges collisions."""

from __future__ import annotations

import numpy as np
import xxhash

from fastdup_dagster.images.decode import Decoded


def content_hash(data: bytes) -> str:
    """Hash of a file's bytes, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(data)


def pixel_hash(image: Decoded) -> str:
    """Hash of an image's true size and of its pixels as decoded, 32 hex digits.

    Equal for one picture in two lossless formats, or in two JPEG files that differ in metadata alone. A JPEG
    that was decoded at a smaller scale is compared at that scale.
    """
    digest = xxhash.xxh3_128(np.array([image.width, image.height, *image.pixels.shape], dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(image.pixels).data)
    return digest.hexdigest()
