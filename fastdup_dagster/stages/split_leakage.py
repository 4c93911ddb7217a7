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
from fastdup_dagster.stages.published import MixedTablesError, manifest_of
from fastdup_dagster.stages.verification import judged, judged_by_cosine
from fastdup_dagster.storage import TableStore


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


def comparable(
    store: TableStore,
    keys: Mapping[str, str],
    embeddings: Mapping[str, pl.DataFrame],
    img_stats: Mapping[str, pl.DataFrame],
) -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """The splits that can be compared: published, and made from the listing that names their images.

    Args:
        store: holds the listings.
        keys: partition key of each split.
        embeddings, img_stats: the published tables by partition key.

    Returns:
        The listing of each split that can be compared, and why each of the others cannot.
    """
    listings: dict[str, pl.DataFrame] = {}
    left_out: dict[str, str] = {}
    for split, key in keys.items():
        if key not in embeddings or key not in img_stats:
            left_out[split] = "it is not published"
            continue
        try:
            listings[split] = manifest_of(store, key, embeddings=embeddings[key], img_stats=img_stats[key])
        except (FileNotFoundError, MixedTablesError) as error:
            left_out[split] = str(error)
    return listings, left_out


def highest_rate(rates: pl.DataFrame) -> str:
    """The largest share of a split that stands in another one, in words."""
    ends = _by_split(rates).sort("rate", descending=True, nulls_last=True, maintain_order=True)
    if ends.is_empty():
        return "there are no two splits to compare"
    split, other, leaked, rate = ends.row(0)
    return f"{rate:.1%} of {split} stands in {other} too ({leaked:,} {'image' if leaked == 1 else 'images'})"


def worst_leaks(
    leaks: pl.DataFrame, rates: pl.DataFrame, manifests: Mapping[str, pl.DataFrame], limit: float
) -> pl.DataFrame:
    """The pairs of those splits that leaked more than the limit, most alike first, with the names of their files.

    Args:
        leaks: the table `split_leakage`.
        rates: what `leak_rates` gives.
        manifests: the listing of each split.
        limit: accepted share of a split, 0 to 1.

    Returns:
        split_from, file_from, split_to, file_to, distance, kind; pairs that are merely similar are left out.
    """
    sides = ["split_from", "split_to"]
    over = rates.filter((pl.col("rate_from") > limit) | (pl.col("rate_to") > limit)).select(sides)
    pairs = leaks.filter(pl.col("kind") != "similar").join(over, on=sides, how="semi", maintain_order="left")
    none = pl.DataFrame(schema={"split": pl.String, "index": pl.Int64, "filename": pl.String})
    listed = [m.select(pl.lit(split).alias("split"), "index", "filename") for split, m in manifests.items()]
    names = pl.concat([none, *listed])
    for end in ("from", "to"):
        named = names.rename({"split": f"split_{end}", "index": end, "filename": f"file_{end}"})
        pairs = pairs.join(named, on=[f"split_{end}", end], how="left", maintain_order="left")
    return pairs.select("split_from", "file_from", "split_to", "file_to", "distance", "kind")


def _by_split(rates: pl.DataFrame) -> pl.DataFrame:
    """Both ends of each pair of splits: `split, other, leaked, rate`."""
    return pl.concat(
        rates.select(
            pl.col(f"split_{end}").alias("split"),
            pl.col(f"split_{other}").alias("other"),
            pl.col(f"leaked_{end}").alias("leaked"),
            pl.col(f"rate_{end}").alias("rate"),
        )
        for end, other in (("from", "to"), ("to", "from"))
    )


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
