"""Images that stand in more than one split of a data set: what a test set must not share with its training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.schemas import SPLIT_LEAKAGE
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.knn_graph import CopyGroups, valid_vectors, vector_hashes
from fastdup_dagster.stages.neighbours import NeighbourIndex, normalised, similarity_of
from fastdup_dagster.stages.published import MixedTablesError, manifest_of
from fastdup_dagster.stages.verification import judged, judged_by_cosine
from fastdup_dagster.storage import TableStore

NOT_PUBLISHED = "it is not published"


def split_leakage(
    embeddings: Mapping[str, pl.DataFrame], stats: Mapping[str, pl.DataFrame], settings: Settings
) -> pl.DataFrame:
    """Pairs between every two splits: over `threshold` among the k nearest, both ways, and every exact copy.

    Equal vectors are searched for once, so that copies cost nobody else a neighbour; images with the same pixels are
    found by their hashes, whatever else is as near. Of n copies in one split and m in the other, n + m - 1 pairs name
    each image once or more: the table grows with the images, not with the product of their numbers. It does not depend
    on the order of the splits, nor, but for the order of the two ends, on their names: `split_from` comes before
    `split_to` in the alphabet.

    Cost: for each two splits of n and m images two searches, exact ones of n * m comparisons each, those of HNSW
    of about (n + m) * log; s splits are s * (s - 1) / 2 pairs of splits, and an index is built once for each split.
    All vectors are in memory.

    Args:
        embeddings: per split, the table `embeddings`.
        stats: per split, the table `img_stats`; a split that is missing is judged by cosine alone.
        settings: metric, k, `threshold`.

    Returns:
        The table `split_leakage`, most alike first.

    Raises:
        ValueError: if the splits were not embedded with the same model.
    """
    _check_models(embeddings)
    sides = {split: _Side(frame, settings) for split, frame in embeddings.items() if frame["embedding"].count()}
    found = []
    for one, other in combinations(sorted(sides), 2):
        pairs = _near_pairs(sides[one], sides[other], settings)
        if one in stats and other in stats:
            copies = _copies(sides[one], stats[one], sides[other], stats[other], settings)
            pairs = pl.concat([pairs, copies]).unique(["from", "to"], keep="first", maintain_order=True)
            rated = judged(pairs, stats[one], stats[other], settings)
        else:
            rated = judged_by_cosine(pairs, settings)
        if rated.height:
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
            left_out[split] = NOT_PUBLISHED
            continue
        try:
            listings[split] = manifest_of(store, key, embeddings=embeddings[key], img_stats=img_stats[key])
        except (FileNotFoundError, MixedTablesError) as error:
            left_out[split] = str(error)
    models = models_of({split: embeddings[keys[split]] for split in listings})
    most = Counter(models.values()).most_common(1)  # of as many the one of the first split
    for split, model in models.items():
        if model != most[0][0]:
            del listings[split]
            left_out[split] = f"it was embedded with {model}, the others with {most[0][0]}: run it again"
    return listings, left_out


def highest_rate(rates: pl.DataFrame, left_out: Iterable[str] = ()) -> str:
    """The largest share of a split that stands in another one, in words, and which splits were not compared."""
    missing = "".join(f"; {split} is not compared" for split in left_out)
    ends = _by_split(rates).sort("rate", descending=True, nulls_last=True, maintain_order=True)
    if ends.is_empty():
        return f"there are no two splits to compare{missing}"
    split, other, leaked, rate = ends.row(0)
    return f"{rate:.1%} of {split} stands in {other} too ({leaked:,} {'image' if leaked == 1 else 'images'}){missing}"


def hides_leaks(left_out: Mapping[str, str], limit: float) -> bool:
    """Whether a limit on leaks cannot be judged: a split that is published could not be compared.

    One that was never published has nothing that could have leaked yet.

    Args:
        left_out: why each split that is not compared is not.
        limit: the largest share of a split that may leak; 1 is none.
    """
    return limit < 1 and any(why != NOT_PUBLISHED for why in left_out.values())


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


class _Side:
    """The valid images of one split: distinct vectors, what has each of them, and an index over them.

    Attributes:
        rows: `index` of each image and `group`, the number of its vector.
        vectors: g x d, the distinct vectors, normalised.
        first: g, int64: index of the first image with each vector.
        index: searches them.
    """

    def __init__(self, embeddings: pl.DataFrame, settings: Settings) -> None:
        ids, raw = valid_vectors(embeddings)
        groups = CopyGroups(vector_hashes(raw))
        self.rows = pl.DataFrame({"index": ids, "group": groups.group})
        self.first = ids[groups.first]
        distinct = raw if len(groups.first) == len(raw) else raw[groups.first]  # no copy of the vectors without need
        self.vectors = normalised(distinct, settings.distance)
        self.index = NeighbourIndex(self.vectors, settings)

    def nearest(self, other: _Side, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest vectors of the other split: numbers of both vectors, and their similarity."""
        found = other.index.search(self.vectors, k)
        queries = np.repeat(np.arange(len(self.vectors)), found.ids.shape[1])
        return queries, found.ids.ravel(), found.scores.ravel()


def _near_pairs(one: _Side, other: _Side, settings: Settings) -> pl.DataFrame:
    """Distinct pairs of images, `from, to, distance`, over the threshold among the k nearest from both sides."""
    k = settings.nearest_neighbors_k
    from_one, to_other, forth = one.nearest(other, k)
    from_other, to_one, back = other.nearest(one, k)
    pairs = pl.DataFrame(
        {
            "one": np.concatenate([from_one, to_one]),
            "other": np.concatenate([to_other, from_other]),
            "distance": np.concatenate([forth, back]),
        }
    )
    over = pairs.filter(pl.col("distance") > pl.lit(settings.threshold, dtype=pl.Float32))
    distinct = over.unique(["one", "other"], keep="first", maintain_order=True)
    return _of_images(distinct, one.rows.rename({"group": "one"}), other.rows.rename({"group": "other"}))


def _copies(
    one: _Side, one_stats: pl.DataFrame, other: _Side, other_stats: pl.DataFrame, settings: Settings
) -> pl.DataFrame:
    """The images that have the same pixels, whatever the search says: `from, to, distance`."""
    there = [
        side.rows.join(stats.select("index", "pixel_hash"), on="index", how="inner", maintain_order="left").drop_nulls()
        for side, stats in ((one, one_stats), (other, other_stats))
    ]
    hashes = there[0].select("pixel_hash").unique().join(there[1].select("pixel_hash").unique(), on="pixel_hash")
    alike = hashes.select(pl.col("pixel_hash").alias("one"), pl.col("pixel_hash").alias("other"))
    named = (t.rename({"pixel_hash": end}).select("index", end) for t, end in zip(there, ("one", "other"), strict=True))
    pairs = _of_images(alike.with_columns(pl.lit(0.0, dtype=pl.Float32).alias("distance")), *named)
    ends = [
        side.vectors[pairs.join(side.rows, left_on=end, right_on="index", how="left", maintain_order="left")["group"]]
        for side, end in ((one, "from"), (other, "to"))
    ]
    return pairs.with_columns(pl.Series("distance", similarity_of(ends[0], ends[1], settings.distance)))


def _of_images(pairs: pl.DataFrame, one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Pairs of images for pairs of what they have in common: each image of one side with the first of the other.

    Args:
        pairs: `one`, `other`, `distance`.
        one: `index` and `one` of the images of that side.
        other: `index` and `other` of those of the other side.
    """
    first_one = one.group_by("one").agg(pl.col("index").min().alias("from"))
    first_other = other.group_by("other").agg(pl.col("index").min().alias("to"))
    all_of_one = pairs.join(one.rename({"index": "from"}), on="one").join(first_other, on="other")
    all_of_other = pairs.join(first_one, on="one").join(other.rename({"index": "to"}), on="other")
    columns = ("from", "to", "distance")
    return pl.concat([all_of_one.select(columns), all_of_other.select(columns)]).unique(["from", "to"]).sort(columns)


def models_of(embeddings: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    """The model that each split was embedded with; a split without a valid image is left out."""
    named = {split: frame.filter(pl.col("embedding").is_not_null())["model"] for split, frame in embeddings.items()}
    return {split: models[0] for split, models in named.items() if len(models)}


def _check_models(embeddings: Mapping[str, pl.DataFrame]) -> None:
    models = models_of(embeddings)
    if len(set(models.values())) > 1:
        said = ", ".join(f"{split} with {model}" for split, model in models.items())
        raise ValueError(f"vectors of different models cannot be compared: {said}. Embed all splits with one of them")
