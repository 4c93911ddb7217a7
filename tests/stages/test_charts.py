"""Histograms: nothing is lost, everything is inside the picture."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdup_dagster.stages.charts import BINS, HEIGHT, WIDTH, chart, short

VALUES = st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=60)


@settings(deadline=None)
@given(VALUES, VALUES, st.booleans())
def test_every_finite_value_is_in_one_bar_and_every_bar_is_in_the_picture(one, two, log):
    series = {"one": pl.Series(one, dtype=pl.Float64), "two": pl.Series(two, dtype=pl.Float64)}
    drawn = chart("t", "n", series, {"limit": 150.0}, log=log)
    for values, histogram in zip((one, two), drawn.histograms, strict=True):
        finite = [v for v in values if v is not None and math.isfinite(v)]
        assert sum(bar.count for bar in histogram.bars) == histogram.values == len(finite)
        assert len(histogram.bars) == BINS
        for bar in histogram.bars:
            assert bar.x >= 0 and bar.x + bar.width <= WIDTH
            assert bar.y >= 0 and bar.y + bar.height <= HEIGHT
            assert (bar.height > 0) == (bar.count > 0)
        for mark in [*histogram.ticks, *histogram.marks]:
            assert 0 <= mark.x <= WIDTH


def test_splits_share_one_axis():
    low, high = chart("t", "n", {"a": pl.Series([0.0, 1.0]), "b": pl.Series([9.0, 10.0])}).histograms
    assert [bar.low for bar in low.bars] == [bar.low for bar in high.bars]
    assert (low.bars[0].low, high.bars[-1].high) == (0.0, 10.0)


def test_counts_stand_in_the_bars_of_their_values():
    histogram = chart("t", "n", {"a": pl.Series([0.0, 0.5, 255.0, 255.0])}, ends=(0.0, 255.0)).histograms[0]
    assert [bar.count for bar in histogram.bars] == [2] + [0] * (BINS - 2) + [2]
    assert (histogram.median, histogram.low, histogram.high) == (127.75, 0.0, 255.0)
    assert [tick.text for tick in histogram.ticks] == ["0", "50", "100", "150", "200", "250"]


def test_a_logarithmic_axis_starts_at_one_and_keeps_smaller_values():
    histogram = chart("t", "n", {"a": pl.Series([0.0, 0.2, 1000.0])}, log=True).histograms[0]
    assert histogram.bars[0].count == 2
    assert [tick.text for tick in histogram.ticks] == ["1", "10", "100", "1,000"]


def test_a_threshold_outside_the_axis_is_not_drawn():
    histogram = chart("t", "n", {"a": pl.Series([0.5, 1.0])}, {"in": 0.9, "out": 2.0}).histograms[0]
    assert [mark.text for mark in histogram.marks] == ["in 0.9"]


def test_no_values_are_said_in_words():
    histogram = chart("t", "n", {"a": pl.Series([], dtype=pl.Float64)}).histograms[0]
    assert (histogram.words, histogram.brief) == ("no values", "no values")


@pytest.mark.parametrize(
    ("value", "text"), [(0.95, "0.95"), (120.0, "120"), (3400, "3,400"), (45_000, "45k"), (2.1e6, "2.1M"), (0, "0")]
)
def test_short_numbers(value, text):
    assert short(value) == text
