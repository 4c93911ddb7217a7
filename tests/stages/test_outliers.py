"""Outliers are the lowest edges of the graph, max(1, floor(p * edges)) of them, one row per instance."""

from __future__ import annotations

import math
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.schemas import OUTLIERS
from fastdup_dagster.settings import settings_from
from fastdup_dagster.stages.outliers import outlier_edges, outliers

GraphOf = Callable[..., pl.DataFrame]
edges = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 64)).filter(lambda e: e[0] != e[1]),
    min_size=1,
    max_size=40,
    unique_by=lambda e: e[:2],
)


@given(edges, st.floats(0, 1))
def test_the_m_lowest_edges_give_one_row_per_instance_its_lowest_ascending(
    graph_of: GraphOf, found, share: float
) -> None:
    m = max(1, math.floor(round(share * len(found), 9)))
    lowest: dict[int, tuple[float, int]] = {}
    for start, end, score in sorted(found, key=lambda e: (e[2], e[0], e[1]))[:m]:
        lowest.setdefault(start, (score / 64, end))
    expected = sorted((score, start, end) for start, (score, end) in lowest.items())
    table = outliers(graph_of(*[(a, b, s / 64) for a, b, s in found]), settings_from({"outlier_percentile": share}))
    assert table.schema == OUTLIERS.frame().schema
    assert list(table.select("distance", "outlier", "nearest").iter_rows()) == expected
    assert table["rank"].to_list() == list(range(1, len(expected) + 1))


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.01, 1), (0.1, 1), (0.19, 1), (0.2, 2), (0.5, 5), (1.0, 10)])
def test_at_least_one_edge_counts_and_the_share_is_rounded_down(graph_of: GraphOf, share: float, count: int) -> None:
    graph = graph_of(*[(i, i + 1, i / 10) for i in range(10)])
    table = outliers(graph, settings_from({"outlier_percentile": share}))
    assert table["outlier"].to_list() == list(range(count))


@pytest.mark.parametrize(("share", "edges", "count"), [(0.29, 100, 29), (0.35, 180, 63), (0.57, 100, 57)])
def test_the_share_is_taken_as_written_not_as_binary_rounds_it(
    graph_of: GraphOf, share: float, edges: int, count: int
) -> None:
    graph = graph_of(*[(i, i + 1, i / 256) for i in range(edges)])
    settings = settings_from({"outlier_percentile": share})
    assert len(outliers(graph, settings)) == count == outlier_edges(edges, settings)


def test_no_edges_no_outliers(graph_of: GraphOf) -> None:
    assert outliers(graph_of(), settings_from({})).equals(OUTLIERS.frame())


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_a_value_error(share: float) -> None:
    with pytest.raises(ValueError, match=f"outlier_percentile={share}"):
        settings_from({"outlier_percentile": share})
