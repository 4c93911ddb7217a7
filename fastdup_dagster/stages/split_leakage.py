"""Images that stand in more than one split of a data set: what a test set must not share with its training set."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import polars as pl

from fastdup_dagster.schemas import SPLIT_LEAKAGE
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.knn_graph import valid_vectors
from fastdup_dagster.stages.neighbours import NeighbourIndex, Vectors, normalised
from fastdup_dagster.stages.verification import judged, judged_by_cosine


def split_leakage(
    embeddings: Mapping[str, pl.DataFrame], stats: Mapping[str, pl.DataFrame], settings: Settings
) -> pl.DataFrame:
    """Pairs over `threshold` between every two splits: each image's k nearest in the other split, both ways.

    The result does not depend on the order of the splits: `split_from` comes before `split_to` in the alphabet.

    Args:
        embeddings: per split, the table `embeddings`.
        stats: per split, the table `img_stats`; a split that is missing is judged by cosine alone.
        settings: metric, k, `threshold`.

    Returns:
        The table `split_leakage`, most alike first.
    """
    vectors = {split: valid_vectors(frame) for split, frame in embeddings.items()}
    vectors = {split: (ids, normalised(rows, settings.distance)) for split, (ids, rows) in vectors.items() if len(ids)}
    found = []
    for one, other in combinations(sorted(vectors), 2):
        pairs = _pairs(vectors[one], vectors[other], settings)
        if pairs.is_empty():
            continue
        if one in stats and other in stats:
            rated = judged(pairs, stats[one], stats[other], settings)
        else:
            rated = judged_by_cosine(pairs, settings)
        found.append(rated.with_columns(pl.lit(one).alias("split_from"), pl.lit(other).alias("split_to")))
    if not found:
        return SPLIT_LEAKAGE.frame()
    order = ["distance", "split_from", "split_to", "from", "to"]
    return SPLIT_LEAKAGE.frame(pl.concat(found).sort(order, descending=[True, False, False, False, False]))


def leak_rates(leaks: pl.DataFrame, sizes: Mapping[str, int]) -> pl.DataFrame:
    """How much of each split stands in another one, by pairs that are more than similar.

    Args:
        leaks: the table `split_leakage`.
        sizes: valid instances per split.

    Returns:
        One row per pair of splits: split_from, split_to, pairs, leaked_from, leaked_to (images), and
        rate_from, rate_to (their share, 0 to 1).
    """
    real = leaks.filter(pl.col("kind") != "similar")
    rows = []
    for one, other in combinations(sorted(sizes), 2):
        pairs = real.filter((pl.col("split_from") == one) & (pl.col("split_to") == other))
        leaked = pairs["from"].n_unique(), pairs["to"].n_unique()
        rows.append(
            {
                "split_from": one,
                "split_to": other,
                "pairs": len(pairs),
                "leaked_from": leaked[0],
                "leaked_to": leaked[1],
                "rate_from": leaked[0] / max(sizes[one], 1),
                "rate_to": leaked[1] / max(sizes[other], 1),
            }
        )
    schema = dict.fromkeys(("split_from", "split_to"), pl.String) | dict.fromkeys(
        ("pairs", "leaked_from", "leaked_to"), pl.Int64
    )
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(("rate_from", "rate_to"), pl.Float64))


_Side = tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", Vectors]


def _pairs(one: _Side, other: _Side, settings: Settings) -> pl.DataFrame:
    """Distinct pairs over the threshold among the k nearest, searched from both sides."""
    forward, backward = _search(one, other, settings), _search(other, one, settings)
    swapped = backward.select(pl.col("to").alias("from"), pl.col("from").alias("to"), "distance")
    both = pl.concat([forward, swapped]).filter(pl.col("distance") > pl.lit(settings.threshold, dtype=pl.Float32))
    return both.unique(["from", "to"], keep="first", maintain_order=True)


def _search(queries: _Side, database: _Side, settings: Settings) -> pl.DataFrame:
    found = NeighbourIndex(database[1], settings).search(queries[1], settings.nearest_neighbors_k)
    k = found.ids.shape[1]
    return pl.DataFrame(
        {
            "from": np.repeat(queries[0], k),
            "to": database[0][found.ids.ravel()],
            "distance": found.scores.ravel(),
        }
    )
