"""Are two similar images the same picture? Thumbnails are compared where feature vectors cannot tell.

The score is the cosine of the features (under another metric: 1) times how well the 16 x 16 colour thumbnails match:
the central 14 x 14 of one slid over the other by up to one pixel, the best place counts; or, weighted by
`WEIGHT_OF_EDITS`, of one mirrored, or a window of one with the whole of the other (a crop). Two windows match by the
mean of two normalised cross-correlations, each over the values of all channels together: of their colours, and of
their edges (differences of neighbouring pixels). Colours alone take every bright sky over a dark sea for the same
picture; edges alone lose a soft one.
NCC: Lewis, Fast Normalized Cross-Correlation (1995). What it is worth: docs/benchmarks.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.schemas import THUMBNAIL_BYTES, THUMBNAIL_SIDE
from fastdup_dagster.settings import Settings

# The more ways two images may be laid over each other, the better strangers match by chance: an edit counts less.
WEIGHT_OF_EDITS = np.float32(0.85)
# Crops that are looked for: share of the side that is left, and how many positions along it.
_CROPS = ((0.9, 3), (0.8, 5), (0.7, 5))
_INNER = THUMBNAIL_SIDE - 2
_BLOCK = 128
# Under this standard deviation, or this mean difference of neighbours (of 255), correlation means nothing.
_FLAT = 1.0
# A standard deviation that the rounding of float32 alone cannot come to.
_ROUNDING = np.float32(0.25)

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
        windows = _Windows.of(a), _Windows.of(b)
        found = np.maximum(_slid(*windows), _slid(*reversed(windows)))
        # An edit cannot score higher than its weight: the clear copies need no further look.
        open_ = found < WEIGHT_OF_EDITS
        if open_.any():
            found[open_] = np.maximum(found[open_], WEIGHT_OF_EDITS * _edited(a[open_], b[open_]))
        best[start : start + len(a)] = found
    return best


def _edited(a: Floats, b: Floats) -> Floats:
    """Best match with one of the two mirrored, or a window of one taken for the whole of the other."""
    mirrored = np.maximum(
        _slid(_Windows.of(a), _Windows.of(b[:, :, ::-1])),
        _slid(_Windows.of(b), _Windows.of(a[:, :, ::-1])),
    )
    return np.maximum(mirrored, np.maximum(_cropped(a, b), _cropped(b, a)))


def _images(flat: Thumbnails) -> Floats:
    return flat.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3).astype(np.float32)


def _slid(fixed: _Windows, moving: _Windows) -> Floats:
    """Best match of the centre of `fixed` with the nine windows of `moving`."""
    return fixed.only(1, 1).match(moving).max(axis=(1, 2))


def _cropped(crop: Floats, whole: Floats) -> Floats:
    """Match of all of `crop` with the window of `whole` whose grey fits it best."""
    every = _resampling(0.0, float(THUMBNAIL_SIDE))
    down, across = _best_windows(every @ crop.mean(axis=3) @ every.T, whole.mean(axis=3))
    window, target = _resampled(whole, down, across), _resampled(crop, every, every)
    return _Windows.of(target).only(0, 0).match(_Windows.of(window))[:, 0, 0]


def _resampled(images: Floats, down: Floats, across: Floats) -> Floats:
    """Images of 14 x 14 out of m x 16 x 16 x 3, by one resampling (14 x 16) for all or by one for each."""
    rows = down @ images.reshape(len(images), THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3)
    return across[..., None, :, :] @ rows.reshape(len(images), _INNER, THUMBNAIL_SIDE, 3)


def _best_windows(target: Floats, whole: Floats) -> tuple[Floats, Floats]:
    """The two resamplings (m x 14 x 16 each) that cut the best window for m x 14 x 14 out of m x 16 x 16, in grey."""
    centred, whole = (grey - grey.mean(axis=(1, 2), keepdims=True) for grey in (target, whole))
    best = np.full(len(target), -np.inf, dtype=np.float32)
    down, across = (np.empty((len(target), _INNER, THUMBNAIL_SIDE), dtype=np.float32) for _ in range(2))
    for share, positions in _CROPS:
        bank = np.stack([_resampling(float(start), THUMBNAIL_SIDE * share) for start in _starts(share, positions)])
        stacked = bank.reshape(-1, THUMBNAIL_SIDE)
        windows = stacked @ whole @ stacked.T  # m x (positions * 14) x (positions * 14): a grid of windows
        # Sums over each window of the grid, as products with 0s and 1s: several times faster than strided sums.
        cells = np.kron(np.eye(positions, dtype=np.float32), np.ones(_INNER, dtype=np.float32))
        size = np.float32(_INNER**2)
        mean = (cells @ stacked) @ whole @ (cells @ stacked).T / size
        variance = cells @ (windows * windows) @ cells.T / size - mean * mean
        common = cells @ (windows * np.tile(centred, (1, positions, positions))) @ cells.T
        score = common / np.sqrt(np.maximum(variance, 1e-6))
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


@dataclass(frozen=True)
class _Windows:
    """All windows of 14 x 14 of m images, with what their match takes; every array is m x windows down x across.

    Of an image of r x c pixels there are (r - 13) x (c - 13). Each is one run of memory, from its first value to its
    last: what lies between its rows is nobody's, and a mask leaves it out.

    Attributes:
        masks: 1 for what is of a window in a run of colours, of differences across, and of differences down.
        parts: the runs of the three: colours around the image's mean, and differences of neighbours.
        mean: of the colours.
        level: the same, around 0.
        spread: length of the colours around their mean.
        contrast: length of the differences.
    """

    masks: tuple[Floats, Floats, Floats]
    parts: tuple[Floats, ...]
    mean: Floats
    level: Floats
    spread: Floats
    contrast: Floats

    @classmethod
    def of(cls, images: Floats) -> _Windows:
        """The windows of images, m x r x c x 3."""
        mean = images.mean(axis=(1, 2, 3))
        # Around 0, so that little precision is lost where squares are summed.
        colours = np.subtract(images, mean[:, None, None, None], order="C")
        across, down = np.zeros_like(colours), np.zeros_like(colours)
        np.subtract(colours[:, :, 1:], colours[:, :, :-1], out=across[:, :, :-1])
        np.subtract(colours[:, 1:], colours[:, :-1], out=down[:, :-1])
        values, masks = (colours, across, down), _masks(images.shape[2])
        count = np.float32(masks[0].sum())
        level = np.vecdot(_runs(colours), masks[0]) / count
        squares = [np.vecdot(_runs(value * value), mask) for value, mask in zip(values, masks, strict=True)]
        # What rounding leaves of the squares of one colour must not pass for structure.
        least = count * _ROUNDING**2
        spread = np.sqrt(np.maximum(squares[0] - count * level**2, least))
        contrast = np.sqrt(squares[1] + squares[2])
        parts = tuple(_runs(value) for value in values)
        return cls(masks, parts, mean[:, None, None] + level, level, spread, contrast)

    def only(self, top: int, left: int) -> _Windows:
        """The windows whose first pixel is at row `top` and column `left` alone, with 0 for what is not theirs."""
        at = np.s_[:, top : top + 1, left : left + 1]
        parts = tuple(part[at] * mask for part, mask in zip(self.parts, self.masks, strict=True))
        return _Windows(self.masks, parts, self.mean[at], self.level[at], self.spread[at], self.contrast[at])

    def match(self, other: _Windows) -> Floats:
        """Mean of the NCC of the colours and of the edges, m x windows down x across of `other`, -1 to 1.

        Where neither has edges, colours decide; where neither has any structure, how near the two colours are.
        This one must be of one window (`only`).
        """
        count, *edge_counts = (np.float32(mask.sum()) for mask in self.masks)
        common, across, down = (np.vecdot(a, b) for a, b in zip(self.parts, other.parts, strict=True))
        colours = _ratio(common - count * self.level * other.level, self.spread * other.spread)
        edges = _ratio(across + down, self.contrast * other.contrast)
        smooth, flat = _FLAT * np.sqrt(sum(edge_counts)), _FLAT * np.sqrt(count)
        both_smooth = (self.contrast < smooth) & (other.contrast < smooth)
        both_flat = (self.spread < flat) & (other.spread < flat)
        both = np.where(both_smooth, colours, (colours + edges) / 2)
        nearness = 1 - np.abs(self.mean - other.mean) / 255
        return np.where(both_flat, nearness, both).astype(np.float32)


def _runs(images: Floats) -> Floats:
    """The windows of m x r x c x 3 as runs of memory: m x (r - 13) x (c - 13) x length, a view."""
    _, height, width, channels = images.shape
    length = ((_INNER - 1) * width + _INNER) * channels
    image, row, pixel, value = images.strides
    shape = (len(images), height - _INNER + 1, width - _INNER + 1, length)
    return np.lib.stride_tricks.as_strided(images, shape, (image, row, pixel, value), writeable=False)


@cache
def _masks(width: int) -> tuple[Floats, Floats, Floats]:
    """1 where a run of memory is of its window: its colours, and its differences across and down."""
    inside = np.zeros((3, _INNER, width, 3), dtype=np.float32)
    inside[0, :, :_INNER] = inside[1, :, : _INNER - 1] = inside[2, :-1, :_INNER] = 1
    colours, across, down = inside.reshape(3, -1)[:, : ((_INNER - 1) * width + _INNER) * 3]
    return colours, across, down


def _ratio(common: Floats, sizes: Floats) -> Floats:
    return np.clip(common / np.maximum(sizes, np.float32(1e-6)), -1, 1)


def judged(pairs: pl.DataFrame, first: pl.DataFrame, second: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Adds `kind` and `verified_score` to pairs.

    Cost: linear in the pairs that share no bytes; memory beyond the pairs' own does not grow with them.

    Args:
        pairs: columns `from` (an index of `first`), `to` (an index of `second`) and `distance`.
        first: `index`, `content_hash`, `pixel_hash`, `thumbnail` of one side (of `img_stats`), by index.
        second: the same of the other side.
        settings: `distance`, `near_duplicate_threshold`, threads.

    Raises:
        ValueError: if a pair is of an image that its side does not hold.
    """
    rows_a, rows_b = (_positions(pairs[end], side) for end, side in (("from", first), ("to", second)))
    same = {
        name: (first[name].gather(rows_a) == second[name].gather(rows_b)).fill_null(False)
        for name in ("content_hash", "pixel_hash")
    }
    verified = pl.Series(_verified(pairs["distance"].to_numpy(), (first, rows_a), (second, rows_b), settings))
    return (
        pairs.with_columns(
            verified.fill_nan(None).alias("verified_score"),
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


_Side = tuple[pl.DataFrame, NDArray[np.int64]]


def _verified(distances: Floats, one: _Side, other: _Side, settings: Settings) -> Floats:
    """Verified score of each pair, m, float32; NaN where an image has no thumbnail."""
    thumbnails = [_thumbnails(side) for side, _ in (one, other)]
    there = [side["thumbnail"].is_not_null().to_numpy()[rows] for side, rows in (one, other)]
    score = np.full(len(distances), np.nan, dtype=np.float32)
    known = np.flatnonzero(there[0] & there[1])
    # Only a cosine is a share of what two images have in common: 1 / (1 + d) has no scale that would mean anything.
    likeness = np.maximum(distances, 0) if settings.distance == "cosine" else np.ones_like(distances)

    def block(start: int) -> None:
        at = known[start : start + _BLOCK]
        score[at] = likeness[at] * thumbnail_match(thumbnails[0][one[1][at]], thumbnails[1][other[1][at]])

    with ThreadPoolExecutor(settings.threads) as pool:
        list(pool.map(block, range(0, len(known), _BLOCK)))
    return score


def _thumbnails(side: pl.DataFrame) -> Thumbnails:
    filled = side["thumbnail"]
    if filled.null_count():  # else numpy sees the frame's own memory
        filled = filled.fill_null(pl.lit([0] * THUMBNAIL_BYTES, dtype=filled.dtype))
    return filled.to_numpy()


def judged_by_cosine(pairs: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """`kind` where there are no images: near_duplicate at or over `cc_threshold`; no verified score."""
    near = pl.col("distance") >= pl.lit(settings.cc_threshold, dtype=pl.Float32)
    return pairs.with_columns(
        pl.when(near).then(pl.lit("near_duplicate")).otherwise(pl.lit("similar")).alias("kind"),
        pl.lit(None, dtype=pl.Float32).alias("verified_score"),
    )


def _positions(ids: pl.Series, side: pl.DataFrame) -> NDArray[np.int64]:
    """Row numbers of ids in a frame that is sorted by index."""
    index, wanted = side["index"].to_numpy(), ids.to_numpy()
    rows = np.searchsorted(index, wanted)
    strange = (rows >= len(index)) | (index[np.minimum(rows, len(index) - 1)] != wanted) if len(index) else wanted >= 0
    if strange.any():
        raise ValueError(
            f"{int(strange.sum())} pairs are of images that img_stats does not hold, the first has index "
            f"{wanted[strange][0]}: img_stats and embeddings are of different listings, make both again"
        )
    return rows
