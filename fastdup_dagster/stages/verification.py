"""Are two similar images the same picture? Thumbnails are compared where feature vectors cannot tell.

The score is the cosine of the features times the best normalised cross-correlation (NCC) of the 16 x 16 colour
thumbnails, the central 14 x 14 of one slid over the other by up to one pixel. NCC: Lewis, Fast Normalized
Cross-Correlation (1995), over the values of all channels together.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.schemas import THUMBNAIL_SIDE
from fastdup_dagster.settings import Settings

_INNER = THUMBNAIL_SIDE - 2
_SHIFTS = tuple((dy, dx) for dy in range(3) for dx in range(3))
_BLOCK = 4_096
# Under this standard deviation (of 255) a thumbnail is one flat colour: correlation means nothing.
_FLAT = 1.0

Thumbnails = NDArray[np.uint8]


def thumbnail_match(first: Thumbnails, second: Thumbnails) -> NDArray[np.float32]:
    """Best NCC of paired thumbnails over shifts of one pixel and over mirroring left to right.

    Args:
        first: m x 768, uint8: 16 x 16 RGB, row by row.
        second: m x 768, uint8.

    Returns:
        m, float32, -1 to 1; symmetric in its arguments.
    """
    best = np.full(len(first), -1.0, dtype=np.float32)
    for start in range(0, len(first), _BLOCK):
        a, b = (_images(t[start : start + _BLOCK]) for t in (first, second))
        best[start : start + len(a)] = np.maximum.reduce(
            [_slid(a, b), _slid(b, a), _slid(a, b[:, :, ::-1]), _slid(b, a[:, :, ::-1])]
        )
    return best


def _images(flat: Thumbnails) -> NDArray[np.float32]:
    return flat.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3).astype(np.float32)


def _slid(fixed: NDArray[np.float32], moving: NDArray[np.float32]) -> NDArray[np.float32]:
    """Best NCC of the centre of `fixed` with the nine windows of `moving`."""
    centre = fixed[:, 1:-1, 1:-1].reshape(len(fixed), -1)
    scores = [ncc(centre, moving[:, dy : dy + _INNER, dx : dx + _INNER].reshape(len(moving), -1)) for dy, dx in _SHIFTS]
    return np.maximum.reduce(scores)


def ncc(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised cross-correlation of paired rows, -1 to 1. Two flat rows match by how near their colours are."""
    mean_a, mean_b = first.mean(axis=1, keepdims=True), second.mean(axis=1, keepdims=True)
    a, b = first - mean_a, second - mean_b
    size_a, size_b = (np.sqrt(np.einsum("ij,ij->i", x, x)) for x in (a, b))
    score = np.einsum("ij,ij->i", a, b) / np.maximum(size_a * size_b, 1e-6)
    flat = _FLAT * np.sqrt(first.shape[1])
    both_flat = (size_a < flat) & (size_b < flat)
    closeness = 1 - np.abs(mean_a - mean_b).ravel() / 255
    return np.where(both_flat, closeness, np.clip(score, -1, 1)).astype(np.float32)


def judged(pairs: pl.DataFrame, first: pl.DataFrame, second: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Adds `kind` and `verified_score` to pairs.

    Args:
        pairs: columns `from` (an index of `first`), `to` (an index of `second`) and `distance`.
        first: `index`, `content_hash`, `pixel_hash`, `thumbnail` of one side (of `img_stats`).
        second: the same of the other side.
        settings: `near_duplicate_threshold`.
    """
    rows_a, rows_b = (_positions(pairs[end], side) for end, side in (("from", first), ("to", second)))
    thumbnails = [
        side["thumbnail"].fill_null(pl.lit([0] * 768, dtype=side.schema["thumbnail"])).to_numpy()
        for side in (first, second)
    ]
    match = thumbnail_match(thumbnails[0][rows_a], thumbnails[1][rows_b])
    verified = pairs["distance"].to_numpy() * match
    same = {
        name: (first[name].gather(rows_a) == second[name].gather(rows_b)).fill_null(False)
        for name in ("content_hash", "pixel_hash")
    }
    return (
        pairs.with_columns(
            pl.Series("verified_score", verified, dtype=pl.Float32),
            pl.Series("_bytes", same["content_hash"]),
            pl.Series("_pixels", same["pixel_hash"]),
        )
        .with_columns(
            pl.when("_bytes")
            .then(pl.lit("identical_bytes"))
            .when("_pixels")
            .then(pl.lit("identical_pixels"))
            .when(pl.col("verified_score") >= settings.near_duplicate_threshold)
            .then(pl.lit("near_duplicate"))
            .otherwise(pl.lit("similar"))
            .alias("kind")
        )
        .drop("_bytes", "_pixels")
    )


def judged_by_cosine(pairs: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """`kind` where there are no images: near_duplicate at or over `cc_threshold`; no verified score."""
    near = pl.col("distance") >= pl.lit(settings.cc_threshold, dtype=pl.Float32)
    return pairs.with_columns(
        pl.when(near).then(pl.lit("near_duplicate")).otherwise(pl.lit("similar")).alias("kind"),
        pl.lit(None, dtype=pl.Float32).alias("verified_score"),
    )


def _positions(ids: pl.Series, side: pl.DataFrame) -> NDArray[np.int64]:
    """Row numbers of ids in a frame that is sorted by index."""
    return np.searchsorted(side["index"].to_numpy(), ids.to_numpy())
