"""Histograms as data for the SVG template: bins, ticks and marks, placed in the chart's own coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

WIDTH, HEIGHT = 320, 140
"""Size of a chart in SVG user units; it scales with its place on the page."""
_SIDE, _TOP, _BOTTOM = 14, 34, 24
BINS = 32


@dataclass(frozen=True)
class Bar:
    """One bin: its interval `[low, high)` (the last includes `high`), how many values are in it, and its rectangle."""

    low: float
    high: float
    count: int
    x: float
    y: float
    width: float
    height: float

    @property
    def interval(self) -> str:
        """The interval for people, with three significant digits."""
        return f"{short(self.low)} to {short(self.high)}"


@dataclass(frozen=True)
class Mark:
    """A labelled position on the horizontal axis: a tick, or a threshold; `tier` keeps near labels apart."""

    x: float
    text: str
    tier: int = 0

    @property
    def anchor(self) -> str:
        """Which end of a threshold's label stands at `x`, so that it stays inside the chart."""
        return "start" if self.x < WIDTH / 2 else "end"


@dataclass(frozen=True)
class Axis:
    """The horizontal axis that several histograms share. On a logarithmic one `low` is over 0."""

    low: float
    high: float
    log: bool = False

    def x(self, value: float) -> float:
        """Where a value stands, in SVG units; one past an end stands at that end."""
        value = min(max(value, self.low), self.high)
        ends = [math.log(v) if self.log else v for v in (self.low, value, self.high)]
        return round(_SIDE + (ends[1] - ends[0]) / (ends[2] - ends[0]) * (WIDTH - 2 * _SIDE), 2)

    def edges(self) -> np.ndarray:
        """Edges of `BINS` equally wide bins (of equal ratio on a logarithmic axis): float64 of length BINS + 1."""
        edges = (np.geomspace if self.log else np.linspace)(self.low, self.high, BINS + 1)
        edges[0], edges[-1] = self.low, self.high
        return edges

    def ticks(self) -> list[Mark]:
        """Round numbers on the axis: three to seven of them, where its range allows."""
        values = _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)
        return [Mark(self.x(value), short(value)) for value in values]


@dataclass(frozen=True)
class Histogram:
    """One histogram of one split, ready to be written as SVG."""

    split: str
    bars: list[Bar]
    ticks: list[Mark]
    marks: list[Mark]
    values: int
    median: float | None
    low: float | None
    high: float | None

    width = WIDTH
    height = HEIGHT
    base = HEIGHT - _BOTTOM
    top = _TOP

    @property
    def brief(self) -> str:
        """The number of values and their median, to stand above the picture."""
        return "no values" if self.median is None else f"{self.values:,} images, median {short(self.median)}"

    @property
    def words(self) -> str:
        """What the picture shows, in one sentence for those who cannot see it."""
        if self.median is None or self.low is None or self.high is None:
            return "no values"
        ends = f"from {short(self.low)} to {short(self.high)}"
        return f"{self.values:,} values {ends}, median {short(self.median)}"


@dataclass(frozen=True)
class Chart:
    """One quantity, one histogram per split on a shared axis."""

    title: str
    note: str
    histograms: list[Histogram]


def chart(
    title: str,
    note: str,
    values: Mapping[str, pl.Series],
    marks: Mapping[str, float] | None = None,
    log: bool = False,
    ends: tuple[float, float] | None = None,
) -> Chart:
    """Draws one quantity of several splits on one axis.

    Args:
        title: name of the quantity.
        note: how to read it, one sentence.
        values: per split; nulls and non-finite values are left out.
        marks: thresholds to show, by label; those outside the axis are left out.
        log: logarithmic axis that starts at 1 at the lowest; smaller values count in the first bin.
        ends: of the axis; None takes the smallest and the largest value.
    """
    clean = {split: _finite(series) for split, series in values.items()}
    axis = _axis(list(clean.values()), log, ends)
    inside = {text: v for text, v in (marks or {}).items() if axis.low <= v <= axis.high}
    shown = [Mark(axis.x(v), f"{text} {short(v)}", tier % 2) for tier, (text, v) in enumerate(inside.items())]
    return Chart(title, note, [_histogram(split, axis, data, shown) for split, data in clean.items()])


def short(value: float) -> str:
    """A number in few characters: 0.95, 120, 3,400, 45k, 2.1M."""
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.3g}M"
    if size >= 10_000:
        return f"{value / 1e3:.3g}k"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _finite(series: pl.Series) -> np.ndarray:
    data = series.drop_nulls().cast(pl.Float64).to_numpy()
    return data[np.isfinite(data)]


def _axis(data: Sequence[np.ndarray], log: bool, ends: tuple[float, float] | None) -> Axis:
    everything = np.concatenate(data) if data else np.empty(0)
    low, high = ends or ((float(everything.min()), float(everything.max())) if everything.size else (0.0, 1.0))
    if log:
        low = max(low, 1.0)
        return Axis(low, max(high, low * 2), log=True)
    size = max(1.0, abs(low), abs(high))
    # values that (nearly) are one value still need an axis with two ends that differ
    return Axis(low, high if high - low > size * 1e-6 else low + size)


def _histogram(split: str, axis: Axis, data: np.ndarray, marks: list[Mark]) -> Histogram:
    edges = axis.edges()
    counts, _ = np.histogram(np.clip(data, axis.low, axis.high), edges)
    tallest = int(counts.max()) or 1
    room = HEIGHT - _BOTTOM - _TOP
    bars = []
    for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        # one image among thousands must still be seen
        height = round(max(room * count / tallest, 1.5), 2) if count else 0.0
        left, right = axis.x(low), axis.x(high)
        bars.append(Bar(low, high, count, left, HEIGHT - _BOTTOM - height, round(right - left - 1, 2), height))
    median, least, most = (
        (float(np.median(data)), float(data.min()), float(data.max())) if data.size else (None, None, None)
    )
    return Histogram(split, bars, axis.ticks(), marks, int(data.size), median, least, most)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 6
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        values = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(values) >= 3:
            return values
    return _linear_ticks(low, high)
