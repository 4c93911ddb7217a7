"""Checks of embeddings and statistics that need the manifest or the vectors themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from fastdup_dagster.resources.great_expectations import flat
from fastdup_dagster.stages.report import CheckOutcome

_BLOCK_ROWS = 16_384
_SLACK = 1e-3  # of a pixel: corners are computed


def against_manifest(
    rows: pl.LazyFrame, manifest: pl.DataFrame, columns: Sequence[str] = ("error_code", "error")
) -> pl.DataFrame:
    """Rows of a table side by side with the manifest's, for `expectations.images_and_rows`.

    Args:
        rows: the table.
        manifest: the table `image_manifest`.
        columns: what is looked at besides.

    Returns:
        `index` (null where the table lacks the image), `image` (null where the manifest does), `filename`, and the
        columns; an image without annotation, in which a detector found nothing, is not in error.
    """
    images = manifest.select(pl.col("index").alias("image"), "filename")
    table = rows.select("index", *columns).collect()
    if "error_code" in columns:
        bare = pl.col("error_code").eq_missing("MISSING_ANNOTATION")
        table = table.with_columns(pl.when(~bare).then(pl.col(name)).alias(name) for name in columns)
    joined = table.join(images, left_on="index", right_on="image", how="full", coalesce=False)
    return joined.select("index", "image", "filename", *columns)


def captions_against_manifest(rows: pl.LazyFrame, manifest: pl.DataFrame) -> pl.DataFrame:
    """Rows of `captions` side by side with the manifest's, for `expectations.captions`.

    Returns:
        As `against_manifest`, with `caption`, `error`, and `either`: whether there is a caption, or an error instead.
    """
    joined = against_manifest(rows, manifest, ("caption", "error"))
    said = pl.col("caption").str.strip_chars().fill_null("") != ""
    bare = pl.col("error").str.starts_with("MISSING_ANNOTATION").fill_null(False)
    return joined.with_columns(
        (said ^ pl.col("error").is_not_null()).alias("either"), pl.when(~bare).then("error").alias("error")
    )


def lists_of_detections(found: pl.DataFrame) -> pl.DataFrame:
    """Rows of `detections` with a column `equal`: whether boxes, labels and confidences are as many."""
    lengths = [pl.col(name).list.len() for name in ("boxes", "labels", "confidences")]
    equal = (lengths[0] == lengths[1]) & (lengths[0] == lengths[2])
    return found.with_columns(equal.fill_null(False).alias("equal"))


def each_detection(found: pl.DataFrame) -> pl.DataFrame:
    """A row per detection of images whose lists are of equal length, for `expectations.each_detection`.

    Returns:
        `index` of the image, `label` (null if it says nothing), `confidence`, and `inside`: whether the box is of
        positive size and within the image.
    """
    box = pl.col("boxes")
    x, y = ([box.list.get(place, null_on_oob=True) for place in range(axis, 8, 2)] for axis in (0, 1))
    upright = box.list.len() == 4
    right, bottom = (pl.when(upright).then(at[0] + at[1]).otherwise(pl.max_horizontal(at)) for at in (x, y))
    left, top = (pl.when(upright).then(at[0]).otherwise(pl.min_horizontal(at)) for at in (x, y))
    inside = (
        box.list.len().is_in([4, 8])
        & box.list.eval(pl.element().is_finite()).list.all()
        & ((left >= -_SLACK) & (top >= -_SLACK) & (right > left) & (bottom > top))
        & ((right <= pl.col("img_w") + _SLACK) & (bottom <= pl.col("img_h") + _SLACK))
    )
    rows = found.filter(box.list.len() > 0).explode("boxes", "labels", "confidences")
    return rows.select(
        "index",
        pl.when(pl.col("labels").str.strip_chars() != "").then("labels").alias("label"),
        pl.col("confidences").alias("confidence"),
        inside.fill_null(False).alias("inside"),
    )


def with_known(frame: pl.DataFrame, ids: pl.Series, *columns: str) -> pl.DataFrame:
    """The rows with a column `known`: whether all of these columns hold ids of the table's images.

    Args:
        frame: rows of any table.
        ids: of the images that may be named.
        columns: that hold ids.
    """
    known = [pl.col(column).is_in(ids.unique().implode()).fill_null(False) for column in columns]
    return frame.with_columns(pl.all_horizontal(known).alias("known"))


def with_apart(frame: pl.DataFrame, first: str, second: str) -> pl.DataFrame:
    """The rows with a column `apart`: whether two columns differ; two nulls do not."""
    return frame.with_columns(pl.col(first).ne_missing(pl.col(second)).alias("apart"))


def of_valid_images(stats: pl.DataFrame) -> pl.DataFrame:
    """Rows of img_stats that have to be complete, with a column `has_thumbnail` in place of the thumbnail."""
    valid = stats.filter(pl.col("error_code").is_null())
    return valid.with_columns(pl.col("thumbnail").is_not_null().alias("has_thumbnail")).drop("thumbnail")


def finite_vectors(path: Path, width: int, manifest: pl.DataFrame, partition: str) -> CheckOutcome:
    """Checks the vectors of an embeddings table as they stand in its file, block by block.

    Args:
        path: the complete Parquet file.
        width: length that the model's vectors have.
        manifest: names the images in the bad rows.
        partition: key of the partition.
    """
    bad = pl.concat([pl.DataFrame(schema={"index": pl.Int64, "defect": pl.String}), *_defects(path, width)])
    named = bad.join(manifest.select("index", "filename"), on="index", how="left", maintain_order="left")
    return CheckOutcome(
        asset="embeddings",
        check="finite_vectors",
        partition=partition,
        passed=bad.is_empty(),
        observed=f"{bad.height:,} of {manifest.height:,} rows",
        limit=f"0 rows without a finite, non-zero vector of {width} numbers (valid) or with one (invalid)",
        bad_rows=flat(named),
    )


def _defects(path: Path, width: int) -> Iterator[pl.DataFrame]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BLOCK_ROWS, columns=["index", "embedding", "error_code"]):
            frame = pl.DataFrame(batch)
            valid = frame["error_code"].is_null()
            empty = frame["embedding"].is_null()
            if (stored := frame.schema["embedding"]) != pl.Array(pl.Float32, width):
                yield frame.select("index", pl.lit(f"stored as {stored}, not {width} float32").alias("defect"))
                continue
            missing, unwanted = valid & empty, ~valid & ~empty
            filled = frame.filter(~empty)
            vectors = filled["embedding"].to_numpy().reshape(-1, width)
            unusable = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
            for rows, defect in (
                (frame.filter(missing), "valid, but no vector"),
                (frame.filter(unwanted), "invalid, but a vector"),
                (filled.filter(pl.Series(unusable)), "zero or not finite"),
            ):
                yield rows.select("index", pl.lit(defect).alias("defect"))
