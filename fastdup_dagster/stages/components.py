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
    # Here, as it is 36 MB that nothing before needs: they would stand beside the vectors.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    members, ends = np.unique(edges.select("from", "to").to_numpy(), return_inverse=True)
    ends = ends.reshape(-1, 2)
    weights = np.ones(len(ends), dtype=np.int8)
    _, labels = connected_components(coo_array((weights, (ends[:, 0], ends[:, 1])), shape=(len(members),) * 2))
    # Members ascend, so the first appearance of a label is the component's smallest member.
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[inverse]
    numbers = numbers.astype(np.int64)
    statistics = _edge_statistics(edges["distance"].to_numpy().astype(np.float64), numbers[ends[:, 0]])
    found = pl.DataFrame({"index": members, "component_id": numbers, "count": np.bincount(numbers)[numbers]})
    return COMPONENTS.frame(found.with_columns(pl.Series(name, v[numbers]) for name, v in statistics.items()))


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
