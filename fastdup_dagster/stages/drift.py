"""How far a table has moved from the one that is published, before it takes its place.

Both are read a block of rows at a time, and all that is kept of them are histograms, or a sum of vectors, so memory
does not grow with the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.storage import DamagedFileError, StagedTable, TableStore, blocks_of

FIRST = "first materialisation"
UNCHANGED = "the rows are the published ones"
_BINS = 1024
_LEAST_SPREAD = 1e-6  # that float32 vectors of equal images may have, or fall short of

Floats = NDArray[np.float64]
Blocks = Iterable[pl.DataFrame]


@dataclass(frozen=True)
class Axis:
    """The bins of a quantity: equally wide from `low` to `high`, in the logarithm if `log`; the rest is at the ends."""

    low: float
    high: float
    log: bool = False

    def counts(self, values: pl.Series) -> NDArray[np.int64]:
        """Number of values per bin, shape (1024,); nulls and what is not finite are left out."""
        numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
        numbers = np.clip(numbers[np.isfinite(numbers)], self.low, self.high)
        ends = (self.low, self.high)
        if self.log:
            numbers, ends = np.log(numbers), (np.log(self.low), np.log(self.high))
        return np.histogram(numbers, bins=_BINS, range=ends)[0]

    def centre(self, bin_number: int) -> float:
        """The value in the middle of a bin."""
        part = (bin_number + 0.5) / _BINS
        return float(
            self.low * (self.high / self.low) ** part if self.log else self.low + part * (self.high - self.low)
        )


STATISTICS: dict[str, Axis] = {
    "blur": Axis(1e-2, 1e6, log=True),
    "mean": Axis(0, 255),
    "stdv": Axis(0, 127.5),
    "contrast": Axis(0, 1),
    "img_w": Axis(1, 1e5, log=True),
    "img_h": Axis(1, 1e5, log=True),
}
"""The columns of `img_stats` whose drift is measured."""


@dataclass(frozen=True)
class Drift:
    """How far a table has moved.

    Attributes:
        rows: `what, drift`, how many images are compared, and more for people; the furthest first. Empty if there is
            nothing to compare.
        note: why there is nothing to compare; empty if there is.
        direction: unit vector from the published mean to that of now, of embeddings that moved.
        low: whether it is the low values of the first of `rows` that became more frequent, of statistics that moved.
    """

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"what": pl.String, "drift": pl.Float64}))
    note: str = ""
    direction: Floats = field(default_factory=lambda: np.zeros(0))
    low: bool = False

    @property
    def highest(self) -> float:
        """The largest drift; 0 if there is none."""
        return max(self.rows["drift"].to_list(), default=0.0)


def statistics_drift(staged: StagedTable, store: TableStore, key: str) -> Drift:
    """Kolmogorov-Smirnov distance of each statistic from the published table: 0 for equal distributions, at most 1.

    The two-sample statistic D = max |F_now(x) - F_published(x)| over the cumulative distributions (N. Smirnov, Table
    for estimating the goodness of fit of empirical distributions, 1948, doi:10.1214/aoms/1177730256), at the edges of
    1024 bins: it is never more than the exact one, and less by what one bin holds at most.

    Args:
        staged: the complete table `img_stats`, not yet published.
        store: holds the published one.
        key: of the partition.
    """
    if note := _not_moved(staged, store, key):
        return Drift(note=note)
    columns = [*STATISTICS, "error_code"]
    now = _histograms(blocks_of(staged.path, columns))
    try:
        before = _histograms(store.blocks(staged.schema.name, key, columns))
    except DamagedFileError as error:
        return Drift(note=f"nothing to compare with: {error}")
    found = [name for name in STATISTICS if now[name].sum() and before[name].sum()]
    if not found:
        return Drift(note="no statistics in both tables")
    gaps = {name: _gap(now[name], before[name]) for name in found}
    worst = max(found, key=lambda name: abs(gaps[name]))
    rows = pl.DataFrame(
        {
            "what": found,
            "drift": [abs(gaps[name]) for name in found],
            "median": [_median(name, now[name]) for name in found],
            "published_median": [_median(name, before[name]) for name in found],
            "images": [int(now[name].sum()) for name in found],
            "published_images": [int(before[name].sum()) for name in found],
        }
    )
    return Drift(rows.sort("drift", descending=True, maintain_order=True), low=gaps[worst] > 0)


def _not_moved(staged: StagedTable, store: TableStore, key: str) -> str:
    """Why a table need not be compared; empty if it has to be."""
    if not store.exists(staged.schema.name, key):
        return FIRST
    return UNCHANGED if store.lineage(staged.schema.name, key).digest == staged.digest else ""


def _histograms(blocks: Blocks) -> dict[str, NDArray[np.int64]]:
    counts = {name: np.zeros(_BINS, np.int64) for name in STATISTICS}
    for block in blocks:
        valid = block.filter(pl.col("error_code").is_null())
        for name, axis in STATISTICS.items():
            counts[name] += axis.counts(valid[name])
    return counts


def _gap(now: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    """The largest difference of two cumulative distributions, with its sign."""
    gaps = np.cumsum(now) / now.sum() - np.cumsum(before) / before.sum()
    return float(gaps[np.argmax(np.abs(gaps))])


def _median(name: str, counts: NDArray[np.int64]) -> float:
    return STATISTICS[name].centre(int(np.searchsorted(np.cumsum(counts), counts.sum() / 2)))


def most_extreme(staged: StagedTable, drift: Drift, count: int) -> pl.DataFrame:
    """Images that a drift of statistics is made of: `index` and the value, of the statistic that moved most.

    Args:
        staged: the table `img_stats` that was compared.
        drift: of it, with rows.
        count: of images.
    """
    name = drift.rows["what"][0]
    valid = staged.scan().filter(pl.col("error_code").is_null() & pl.col(name).is_not_null())
    return valid.select("index", name).sort(name, "index", descending=[not drift.low, False]).head(count).collect()


@dataclass
class _Mean:
    """Sum of the unit vectors of a table, their number, and the models that made them."""

    count: int = 0
    total: Floats | None = None
    models: frozenset[tuple[str, int]] = frozenset()

    @property
    def mean(self) -> Floats:
        return np.zeros(1) if self.total is None else self.total / self.count


def embedding_drift(staged: StagedTable, store: TableStore, key: str) -> Drift:
    """Squared distance of the mean vectors, over the spread of the vectors around their mean.

    Vectors are scaled to length 1, as for the similarities. With means m and n, the drift is |m - n|^2 / s, where the
    spread s is the mean of 1 - |m|^2 and 1 - |n|^2: for unit vectors, the mean squared distance from their mean. It is
    the square of Cohen's d (Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2) with the variance
    of all dimensions: 0 for equal means, 1 if they are as far apart as images are from their mean. Two samples of N and
    M images of one distribution give 1/N + 1/M on average.

    Vectors of two models cannot be compared; that is said in the note.

    Args:
        staged: the complete table `embeddings`, not yet published.
        store: holds the published one.
        key: of the partition.
    """
    if note := _not_moved(staged, store, key):
        return Drift(note=note)
    now = _mean_of(blocks_of(staged.path, ["embedding", "model"]))
    try:
        before = _mean_of(store.blocks(staged.schema.name, key, ["embedding", "model"]))
    except DamagedFileError as error:
        return Drift(note=f"nothing to compare with: {error}")
    if not (now.count and before.count):
        return Drift(note="no vectors in both tables")
    if len(now.models | before.models) > 1:
        return Drift(note=f"published by another model: {_told(before.models)}; this one: {_told(now.models)}")
    apart = now.mean - before.mean
    squared = float(apart @ apart)
    spread = 1 - float(now.mean @ now.mean + before.mean @ before.mean) / 2
    rows = pl.DataFrame(
        {
            "what": ["mean vector"],
            "drift": [squared / max(spread, _LEAST_SPREAD)],
            "images": [now.count],
            "published_images": [before.count],
        }
    )
    return Drift(rows, direction=apart / np.sqrt(squared) if squared else apart)


def _mean_of(blocks: Blocks) -> _Mean:
    found = _Mean()
    for block in blocks:
        there = block.drop_nulls("embedding")
        units, _ = _units(there["embedding"])
        if len(units):
            total = units.sum(axis=0, dtype=np.float64)
            models = frozenset((name, units.shape[1]) for name in there["model"].unique())
            # After two models nothing is added up any more: their widths may differ.
            alone = len(found.models | models) == 1
            found.total = total if found.total is None or not alone else found.total + total
            found.count += len(units)
            found.models |= models
    return found


def _units(vectors: pl.Series) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The usable vectors of a column, scaled to length 1, shape (n, d); and which of the rows these are."""
    if vectors.is_empty():  # whose width numpy could not tell
        return np.zeros((0, 0), np.float32), np.zeros(0, np.bool_)
    rows = vectors.to_numpy().reshape(len(vectors), -1).astype(np.float32, copy=False)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    usable = np.isfinite(lengths) & (lengths > 0)
    return rows[usable] / lengths[usable, None], usable


def _told(models: Iterable[tuple[str, int]]) -> str:
    def short(name: str, width: int) -> str:
        stem, at, digest = name.partition("@")
        return f"{stem}{at}{digest[:12]} with {width} numbers"

    return ", ".join(sorted(short(*model) for model in models))


def furthest_along(staged: StagedTable, drift: Drift, count: int) -> pl.DataFrame:
    """Images that a drift of the mean vector is made of: `index, along`, the furthest in its direction first.

    Args:
        staged: the table `embeddings` that was compared.
        drift: of it, with a direction.
        count: of images.
    """
    found = pl.DataFrame(schema={"index": pl.Int64, "along": pl.Float64})
    for block in blocks_of(staged.path, ["index", "embedding"]):
        there = block.drop_nulls("embedding")
        units, usable = _units(there["embedding"])
        if not usable.any():
            continue
        along = pl.Series("along", units.astype(np.float64) @ drift.direction)
        found = pl.concat([found, there.filter(pl.Series(usable)).select("index").with_columns(along)])
        found = found.sort("along", "index", descending=[True, False]).head(count)
    return found
