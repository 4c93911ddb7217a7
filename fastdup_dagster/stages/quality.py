"""What the checks of data quality count: images with a flag, copies, classes. Each with its worst cases by name."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from fastdup_dagster.stages.summary import exact_copies, unordered_pairs

COPIES = ("identical_bytes", "identical_pixels", "near_duplicate")
"""Kinds of pairs that show one picture twice."""


@dataclass(frozen=True)
class Flag:
    """A column that marks images, what is shown beside their names, and whether its highest values are the worst."""

    column: str
    shown: str
    highest: bool = False


FLAGS: dict[str, Flag] = {
    "exact_duplicates": Flag("is_copy", "copy_of"),
    "truncated": Flag("is_truncated", "file_size"),
    "blurry": Flag("is_blurry", "blur"),
    "dark": Flag("is_dark", "mean"),
    "bright": Flag("is_bright", "mean", highest=True),
}
"""The columns of `flagged_images`, by the name of the limit's severity."""


def flagged_images(stats: pl.LazyFrame, manifest: pl.DataFrame) -> pl.DataFrame:
    """The valid images with the flags of `FLAGS`.

    Args:
        stats: the table `img_stats`.
        manifest: the table `image_manifest`.

    Returns:
        `index, filename`, the flags (null where the statistics were not computed), and what is shown beside them;
        `copy_of` is the name of the first file with the same bytes, null if there is none.
    """
    columns = (
        "index",
        "content_hash",
        "file_size",
        "blur",
        "mean",
        "is_truncated",
        "is_blurry",
        "is_dark",
        "is_bright",
    )
    valid = stats.filter(pl.col("error_code").is_null()).select(columns).collect()
    names = manifest.select("index", "filename").unique("index", keep="first")
    copies = exact_copies(manifest, valid).join(
        names.rename({"index": "first", "filename": "copy_of"}), on="first", how="left"
    )
    first = copies.select("index", "copy_of", pl.lit(True).alias("is_copy")).unique("index")
    found = valid.drop("content_hash").join(first, on="index", how="left").join(names, on="index", how="left")
    return found.with_columns(pl.col("is_copy", "is_truncated").fill_null(False)).sort("index")


def worst_flagged(images: pl.DataFrame, flag: Flag) -> pl.DataFrame:
    """The images with a flag, worst first: `index, filename`, and the value that is shown."""
    marked = images.filter(pl.col(flag.column)).sort(flag.shown, "index", descending=[flag.highest, False])
    return marked.select("index", "filename", flag.shown)


def near_copies(similarity: pl.DataFrame) -> pl.DataFrame:
    """Images that are a near duplicate or a copy of an earlier image: `index, first, distance, kind`.

    Each once, with the pair in which it is most alike; most alike first.

    Args:
        similarity: the table `similarity`.
    """
    pairs = unordered_pairs(similarity.filter(pl.col("kind").is_in(COPIES)))
    later = pairs.unique("to", keep="first", maintain_order=True)
    return later.select(pl.col("to").alias("index"), pl.col("from").alias("first"), "distance", "kind")


def class_counts(manifest: pl.DataFrame) -> pl.DataFrame:
    """The classes of a listing, the rarest first: `label, images, imbalance`.

    `imbalance` is the number of images of the largest class for each one of this. Rows in error and rows without a
    label are left out; no rows if nothing is labelled.

    Args:
        manifest: the table `image_manifest`.
    """
    labelled = manifest.filter(pl.col("error_code").is_null()).drop_nulls("label")
    counts = labelled.group_by("label").len("images").sort("images", "label")
    return counts.with_columns((pl.col("images").max() / pl.col("images")).alias("imbalance"))
