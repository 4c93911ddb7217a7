"""Clusters: connected components of the edges that are alike enough."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.schemas import COMPONENTS
from fastdup_dagster.settings import Settings


def components(graph: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Undirected connected components of the edges at or over `cc_threshold`.

    Args:
        graph: the table `knn_graph`.
        settings: `cc_threshold`.

    Returns:
        The table `components`: one row per instance in a component of two or more, by index. Components are
        numbered by their smallest member; the distances are taken over the component's directed edges.
    """
    edges = graph.filter(pl.col("distance") >= pl.lit(settings.cc_threshold, dtype=pl.Float32))
    if edges.is_empty() or not settings.run_cc:
        return COMPONENTS.frame()
    members, ends = np.unique(edges.select("from", "to").to_numpy(), return_inverse=True)
    ends = ends.reshape(-1, 2)
    labels = smallest_members(len(members), ends)
    # A label is the component's smallest member, and members ascend: so do the numbers.
    numbers = np.unique(labels, return_inverse=True)[1]
    statistics = _edge_statistics(edges["distance"].to_numpy().astype(np.float64), numbers[ends[:, 0]])
    found = pl.DataFrame({"index": members, "component_id": numbers, "count": np.bincount(numbers)[numbers]})
    return COMPONENTS.frame(found.with_columns(pl.Series(name, v[numbers]) for name, v in statistics.items()))


def smallest_members(count: int, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest node of each node's component.

    Labels are hooked to the lower one of each edge and shortened until no edge joins two: a few passes, each linear in
    the edges (Shiloach and Vishkin, An O(log n) parallel connectivity algorithm, 1982). scipy has the same, for .25 s
    and 36 MB of imports that nothing else here needs.

    Args:
        count: nodes, 0 to count - 1.
        ends: edges x 2.
    """
    label = np.arange(count)
    while True:
        one, other = label[ends[:, 0]], label[ends[:, 1]]
        if (one == other).all():
            return label
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        while (label[label] != label).any():
            label = label[label]


def _edge_statistics(distances: NDArray[np.float64], component: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Mean, lowest and highest per component. numpy sums in a fixed order, so the last bit is reproducible."""
    order = np.lexsort((distances, component))
    sizes = np.bincount(component)
    ends = np.cumsum(sizes)
    return {
        "mean_distance": np.bincount(component, weights=distances) / sizes,
        "min_distance": distances[order][ends - sizes],
        "max_distance": distances[order][ends - 1],
    }
