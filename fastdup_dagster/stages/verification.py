"""Are two similar images the same picture? Thumbnails are compared where feature vectors cannot tell.

The score is the cosine of the features times how well the 16 x 16 colour thumbnails match: the best normalised
cross-correlation (NCC) of the central 14 x 14 of one slid over the other by up to one pixel; or, weighted by
`WEIGHT_OF_EDITS`, of one mirrored, or of a window of one with the whole of the other (a crop). NCC: Lewis, Fast
Normalized Cross-Correlation (1995), over the values of all channels together.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.schemas import THUMBNAIL_BYTES, THUMBNAIL_SIDE
from fastdup_dagster.settings import Settings

# The more ways two images may be laid over each other, the better strangers match by chance: an edit counts less.
WEIGHT_OF_EDITS = np.float32(0.9)
# Crops that are looked for: share of the side that is left, and how many positions along it.
_CROPS = ((0.9, 3), (0.8, 5), (0.7, 5))
_INNER = THUMBNAIL_SIDE - 2
_BLOCK = 512
# Under this standard deviation (of 255) a thumbnail is one flat colour: correlation means nothing.
_FLAT = 1.0

Thumbnails = NDArray[np.uint8]
Floats = NDArray[np.float32]


def thumbnail_match(first: Thumbnails, second: Thumbnails) -> Floats:
    """How well paired thumbnails match, whichever of the two was edited.

    Args:
        first: m x 768, uint8: 16 x 16 RGB, row by row.
        second: m x 768, uint8.

    Returns:
        m, float32, -1 to 1; symmetric in its arguments.
    """
    best = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _BLOCK):
        a, b = (_images(side[start : start + _BLOCK]) for side in (first, second))
        as_it_is = np.maximum(_slid(a, b), _slid(b, a))
        mirrored = np.maximum(_slid(a, b[:, :, ::-1]), _slid(b, a[:, :, ::-1]))
        cropped = np.maximum(_cropped(a, b), _cropped(b, a))
        best[start : start + len(a)] = np.maximum(as_it_is, WEIGHT_OF_EDITS * np.maximum(mirrored, cropped))
    return best


def _images(flat: Thumbnails) -> Floats:
    return flat.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3).astype(np.float32)


def _slid(fixed: Floats, moving: Floats) -> Floats:
    """Best NCC of the centre of `fixed` with the nine windows of `moving` that are as large."""
    centre = fixed[:, 1:-1, 1:-1].reshape(len(fixed), -1)
    windows = (moving[:, y : y + _INNER, x : x + _INNER] for y in range(3) for x in range(3))
    return np.maximum.reduce([ncc(centre, window.reshape(len(moving), -1)) for window in windows])


def _cropped(crop: Floats, whole: Floats) -> Floats:
    """NCC of all of `crop` with the window of `whole` that matches it best in grey."""
    every = _resampling(0.0, float(THUMBNAIL_SIDE))
    down, across = _best_windows(every @ crop.mean(axis=3) @ every.T, whole.mean(axis=3))
    window = np.einsum("miy,myxc,mjx->mijc", down, whole, across, optimize=True)
    target = np.einsum("iy,myxc,jx->mijc", every, crop, every, optimize=True)
    return ncc(target.reshape(len(crop), -1), window.reshape(len(whole), -1))


def _best_windows(target: Floats, whole: Floats) -> tuple[Floats, Floats]:
    """The two resamplings (m x 14 x 16 each) that cut the best window for m x 14 x 14 out of m x 16 x 16, in grey."""
    centred = target - target.mean(axis=(1, 2), keepdims=True)
    best = np.full(len(target), -np.inf, dtype=np.float32)
    down, across = (np.empty((len(target), _INNER, THUMBNAIL_SIDE), dtype=np.float32) for _ in range(2))
    for share, positions in _CROPS:
        bank = np.stack([_resampling(float(start), THUMBNAIL_SIDE * share) for start in _starts(share, positions)])
        stacked = bank.reshape(-1, THUMBNAIL_SIDE)
        windows = (stacked @ whole @ stacked.T).reshape(-1, positions, _INNER, positions, _INNER)
        mean = windows.mean(axis=(2, 4))
        variance = np.einsum("mkilj,mkilj->mkl", windows, windows) / _INNER**2 - mean**2
        score = np.einsum("mkilj,mij->mkl", windows, centred) / np.sqrt(np.maximum(variance, 1e-6))
        flat = score.reshape(len(target), -1)
        place = flat.argmax(axis=1)
        found = flat[np.arange(len(target)), place]
        better = found > best
        best[better] = found[better]
        down[better], across[better] = bank[place[better] // positions], bank[place[better] % positions]
    return down, across


def _starts(share: float, positions: int) -> NDArray[np.float64]:
    return np.linspace(0, THUMBNAIL_SIDE * (1 - share), positions)


@cache
def _resampling(start: float, length: float) -> Floats:
    """14 x 16: takes 16 pixels to 14 that cover `length` of them from `start` on, each a mean of linear samples."""
    samples = 8
    step = length / _INNER
    matrix = np.zeros((_INNER, THUMBNAIL_SIDE), dtype=np.float32)
    for row in range(_INNER):
        x = start + (row + (np.arange(samples) + 0.5) / samples) * step - 0.5
        left = np.clip(np.floor(x).astype(int), 0, THUMBNAIL_SIDE - 1)
        right = np.clip(left + 1, 0, THUMBNAIL_SIDE - 1)
        share = np.clip(x - np.floor(x), 0, 1)
        np.add.at(matrix[row], left, (1 - share) / samples)
        np.add.at(matrix[row], right, share / samples)
    return matrix


def ncc(first: Floats, second: Floats) -> Floats:
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
        side["thumbnail"].fill_null(pl.lit([0] * THUMBNAIL_BYTES, dtype=side.schema["thumbnail"])).to_numpy()
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
