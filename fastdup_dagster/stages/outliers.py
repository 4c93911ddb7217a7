"""Instances that are least alike to anything else."""

from __future__ import annotations

import polars as pl

from fastdup_dagster.schemas import OUTLIERS
from fastdup_dagster.settings import Settings


def outliers(graph: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """The m lowest edges of the graph, m = max(1, floor(outlier_percentile * edges)), one row per instance.

    Args:
        graph: the table `knn_graph`.
        settings: `outlier_percentile`.

    Returns:
        The table `outliers`: for each instance its lowest edge, ascending; ties by index.
    """
    if graph.is_empty():
        return OUTLIERS.frame()
    count = outlier_edges(len(graph), settings)
    lowest = graph.sort("distance", "from", "to").head(count).unique("from", keep="first", maintain_order=True)
    return OUTLIERS.frame(
        lowest.select(pl.col("from").alias("outlier"), pl.col("to").alias("nearest"), "distance").with_columns(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int32).alias("rank")
        )
    )


def outlier_edges(edges: int, settings: Settings) -> int:
    """How many of a graph's edges count as outliers: the share of the settings, rounded down, at least one."""
    # A hair more, for in binary .29 of 100 is a hair under 29.
    return max(1, int(settings.outlier_percentile * edges + 1e-9))
