"""Pairs that are alike: the edges over the threshold, each with the kind of likeness."""

from __future__ import annotations

import polars as pl

from fastdup_dagster.schemas import SIMILARITY
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.verification import judged, judged_by_cosine


def similarity(graph: pl.DataFrame, settings: Settings, stats: pl.DataFrame | None = None) -> pl.DataFrame:
    """The edges strictly over `threshold`, most alike first; ties by `from`, `to`.

    Args:
        graph: the table `knn_graph`.
        settings: `threshold`, `near_duplicate_threshold`.
        stats: the table `img_stats`, for hashes and thumbnails; None where there are no images.

    Returns:
        The table `similarity`.
    """
    over = pl.col("distance") > pl.lit(settings.threshold, dtype=pl.Float32)
    pairs = graph.filter(over).select("from", "to", "distance")
    if pairs.is_empty():
        return SIMILARITY.frame()
    rated = judged_by_cosine(pairs, settings) if stats is None else judged(pairs, stats, stats, settings)
    return SIMILARITY.frame(rated.sort("distance", "from", "to", descending=[True, False, False]))
