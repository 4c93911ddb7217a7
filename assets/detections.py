"""What a detector found in each image of a split: made by the step of the listing, because the boxes are its rows."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from fastdup_dagster.assets import array_checks, expectations, quality
from fastdup_dagster.assets.metadata import histogram, picture_table, rows, text, thumbnail
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.schemas import DETECTIONS
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.detections import Finder
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.storage import table_digest

_SHOWN, _LABELS = 6, 20


def outcomes(finder: Finder, key: str, settings: Settings, gx: GreatExpectationsResource) -> list[CheckOutcome]:
    """Results of the checks of `detections`."""
    images = array_checks.against_manifest(finder.found.lazy(), finder.files)
    lists = array_checks.lists_of_detections(finder.found)
    boxes = array_checks.each_detection(finder.found.filter(lists["equal"]))
    suite = [*quality.failed("error_code", "share_of_failed", settings), *expectations.one_row_per_image()]
    return [
        *gx.check(images, "detections", key, suite),
        *gx.check(lists, "detections", key, expectations.lists_of_detections()),
        *gx.check(boxes, "detections", key, expectations.each_detection()),
    ]


def output(finder: Finder) -> dg.Output[pl.DataFrame]:
    """The table, with what a person wants to know of it."""
    found = finder.found
    usable = found.filter(pl.col("error_code").is_null())
    bare = usable.filter(pl.col("boxes").list.len() == 0).height
    labels = found["labels"].explode(empty_as_null=False)
    return dg.Output(
        found,
        output_name="detections",
        data_version=dg.DataVersion(table_digest(DETECTIONS, found)),
        metadata={
            **rows(found.height),
            "model": finder.detector,
            "detections": len(labels),
            "images without a detection": bare,
            "share of images without a detection": bare / usable.height if usable.height else 0.0,
            "failed images": found["error_code"].count(),
            "of each label": _counts(labels),
            "confidence": histogram(found["confidences"].explode(empty_as_null=False), "confidence"),
            "examples": _examples(finder.files, found),
        },
    )


def _counts(labels: pl.Series) -> Any:
    if labels.is_empty():
        return "none"
    counts = labels.alias("label").value_counts().sort("count", "label", descending=[True, False]).head(_LABELS)
    return picture_table(("label", "detections"), [(text(label), count) for label, count in counts.rows()])


def _examples(files: pl.DataFrame, found: pl.DataFrame) -> Any:
    """The first images with a detection: what was found is outlined."""
    shown = found.filter(pl.col("boxes").list.len() > 0).head(_SHOWN)
    both = shown.select("index", "boxes", "labels").join(files.select("index", "uri", "filename"), on="index")
    lines = [
        (thumbnail(row["uri"], row["boxes"]), text(row["filename"]), text(", ".join(row["labels"][:_SHOWN])))
        for row in both.sort("index").iter_rows(named=True)
    ]
    return picture_table(("image", "file", "found"), lines)
