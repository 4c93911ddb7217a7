"""Components are those of a union-find over the edges at or over the threshold, and count instances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.schemas import COMPONENTS
from fastdup_dagster.settings import settings_from
from fastdup_dagster.stages.components import components

GraphOf = Callable[..., pl.DataFrame]
# Eighths are exact in float32: an edge is over, at or under a threshold without doubt.
edges = st.lists(
    st.tuples(st.integers(0, 14), st.integers(0, 14), st.integers(0, 8)).filter(lambda e: e[0] != e[1]),
    max_size=30,
    unique_by=lambda e: e[:2],
)


def joined(pairs: list[tuple[int, int, float]]) -> list[set[int]]:
    """Union-find: the components of two or more, by smallest member."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for first, second, _ in pairs:
        parent[root(first)] = root(second)
    groups: dict[int, set[int]] = {}
    for node in list(parent):
        groups.setdefault(root(node), set()).add(node)
    return sorted(groups.values(), key=min)


@given(edges, st.integers(0, 8))
def test_components_are_those_of_union_find_numbered_by_smallest_member(graph_of: GraphOf, found, eighths: int) -> None:
    graph = graph_of(*[(a * 7, b * 7, s / 8) for a, b, s in found])
    strong = [(a * 7, b * 7, s / 8) for a, b, s in found if s >= eighths]
    expected = joined(strong)
    table = components(graph, settings_from({"cc_threshold": eighths / 8}))
    assert table.schema == COMPONENTS.frame().schema
    assert table["index"].to_list() == sorted(node for group in expected for node in group)
    for number, group in enumerate(expected):
        rows = table.filter(pl.col("component_id") == number)
        scores = [s for a, _, s in strong if a in group]
        assert set(rows["index"]) == group
        assert rows["count"].unique().to_list() == [len(group)]
        assert rows["mean_distance"].to_list() == pytest.approx([np.mean(scores)] * len(group))
        assert rows["min_distance"].to_list() == [min(scores)] * len(group)
        assert rows["max_distance"].to_list() == [max(scores)] * len(group)


def test_count_is_instances_not_edges(graph_of: GraphOf) -> None:
    graph = graph_of((0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 1, 1.0), (0, 2, 1.0), (2, 0, 1.0))
    assert components(graph, settings_from({}))["count"].to_list() == [3, 3, 3]


def test_the_threshold_is_inclusive_also_where_float32_rounds_it(graph_of: GraphOf) -> None:
    graph = graph_of((0, 1, 0.96), (2, 3, float(np.nextafter(np.float32(0.96), np.float32(0)))))
    assert components(graph, settings_from({"cc_threshold": 0.96}))["index"].to_list() == [0, 1]


def test_components_do_not_depend_on_the_threshold_of_similarity(graph_of: GraphOf) -> None:
    graph = graph_of((0, 1, 0.97))
    assert components(graph, settings_from({"threshold": 0.99})).height == 2


def test_one_direction_joins(graph_of: GraphOf) -> None:
    graph = graph_of((5, 1, 1.0), (9, 1, 1.0))
    assert components(graph, settings_from({}))["component_id"].to_list() == [0, 0, 0]


def test_ids_follow_the_smallest_member_not_the_order_of_edges(graph_of: GraphOf) -> None:
    graph = graph_of((8, 9, 1.0), (3, 7, 1.0), (2, 6, 1.0))
    table = components(graph, settings_from({}))
    assert dict(table.select("index", "component_id").iter_rows()) == {2: 0, 6: 0, 3: 1, 7: 1, 8: 2, 9: 2}


@pytest.mark.parametrize("settings", [{"cc_threshold": 1.0}, {"run_cc": False}])
def test_no_edge_or_no_wish_gives_the_empty_table(graph_of: GraphOf, settings: dict[str, object]) -> None:
    assert components(graph_of((0, 1, 0.99)), settings_from(settings)).equals(COMPONENTS.frame())
    assert components(graph_of(), settings_from(settings)).equals(COMPONENTS.frame())


def test_a_long_chain_is_one_component(graph_of: GraphOf) -> None:
    graph = graph_of(*[(i, i + 1, 1.0) for i in range(5_000)])
    assert components(graph, settings_from({}))["count"].unique().to_list() == [5_001]
