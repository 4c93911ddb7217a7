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
    rated = judged_by_cosine(pairs, settings) if stats is None else _rated_once(pairs, stats, settings)
    return SIMILARITY.frame(rated.sort("distance", "from", "to", descending=[True, False, False]))


def _rated_once(pairs: pl.DataFrame, stats: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Both directions of a pair have one kind and one score, so it is looked at once."""
    ends = pl.min_horizontal("from", "to").alias("_low"), pl.max_horizontal("from", "to").alias("_high")
    pairs = pairs.with_columns(ends)
    unordered = pairs.unique(["_low", "_high"], keep="first", maintain_order=True)
    judgement = judged(unordered, stats, stats, settings).select("_low", "_high", "kind", "verified_score")
    return pairs.join(judgement, on=["_low", "_high"], how="left", maintain_order="left").drop("_low", "_high")
