"""The listing of a split: one row per image, nothing read yet; with a detector, a row per box that it finds."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from fastdup_dagster.assets import detections, expectations, quality
from fastdup_dagster.assets.gates import check_specs, gate, records
from fastdup_dagster.assets.metadata import described, histogram, per_code, rows
from fastdup_dagster.assets.observed import DETECTOR_MODEL, observe_for, observe_listing, settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.progress import Progress
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.settings import is_detector
from fastdup_dagster.sources import NothingFoundError
from fastdup_dagster.stages import image_manifest as stage
from fastdup_dagster.stages.detections import Finder
from fastdup_dagster.stages.pages import visible
from fastdup_dagster.stages.report import CheckOutcome

_LABELS = 20
Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]
_TABLES = ("detections", "image_manifest")
# The check that an empty listing fails.
_FIRST: dict[str, dict[str, Any]] = {
    "detections": {"asset": "detections", "check": "one_row_per_image"},
    "image_manifest": {},
}


class ListingConfig(dg.Config):
    """What may be asked of one run."""

    recompute: bool = Field(False, description="look for boxes in every image again")


@dg.multi_asset(
    name="image_manifest",
    partitions_def=SPLITS,
    can_subset=True,
    outs={
        "detections": dg.AssetOut(
            is_required=False,
            dagster_type=pl.DataFrame,
            description="The boxes that a detector finds in each image, with labels and confidences. There is none "
            "without a detector (`bounding_box` of the data set's settings).",
            **described("detections", "images", {"onnx", "parquet"}, code_version="1"),
        ),
        "image_manifest": dg.AssetOut(
            is_required=False,
            dagster_type=pl.DataFrame,
            description="Every file of the split: id, path, size, time of change, and the errors that a listing can "
            "see.\n\nIts data version covers the time of change of each file: bytes can change at equal size. A file "
            "that was only touched costs one read further down, and nothing there changes. With a detector, a row per "
            "box of `detections`.",
            **described("image_manifest", "images", {"polars", "parquet"}, code_version="1"),
        ),
    },
    deps=[DETECTOR_MODEL, *(settings_key(table) for table in _TABLES)],
    internal_asset_deps={
        "detections": {DETECTOR_MODEL, settings_key("detections")},
        "image_manifest": {dg.AssetKey("detections"), settings_key("image_manifest")},
    },
    check_specs=[spec for table in _TABLES for spec in check_specs(table, SPLITS)],
)
def image_manifest(
    context: dg.AssetExecutionContext,
    config: ListingConfig,
    datasets: DatasetsResource,
    store: StoreResource,
    model: ModelResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
    progress: dg.ResourceParam[Progress],
) -> Iterator[Result]:
    """Lists the files, looks for boxes in them if a detector is asked for; publishes what was selected, or nothing."""
    key, selected = context.partition_key, context.op_execution_context.selected_output_names
    settings, of = datasets.settings(key), store.of(key)
    asked = is_detector(settings.bounding_box)
    observe_listing(context.instance, key, datasets)
    wanted = [table for table in _TABLES if table in selected and (asked or table != "detections")]
    with of.lock("detections", key) if asked else nullcontext():
        report = progress.track(context, "detections") if asked else None
        finder = Finder(settings, of, key, report, config.recompute) if asked else None
        try:
            listing = datasets.listing(key, finder)
        except NothingFoundError as error:
            outcome = expectations.nothing_found(key, error)
            yield from gate(context, pages, [replace(outcome, **_FIRST[table]) for table in wanted])
            return
        found: list[CheckOutcome] = []
        if finder and "detections" in wanted:
            found += detections.outcomes(finder, key, settings, gx)
        if "image_manifest" in wanted:
            crops = listing.frame["media"].eq("crop").any()
            found += gx.check(listing.frame, "image_manifest", key, expectations.image_manifest(crops=crops))
            found.append(quality.of_labels(gx, listing.frame, key, settings))
        yield from gate(context, pages, found)
        observe_for(context, key, datasets, model)  # whoever launched it: what is made of the listing comes next
        if finder and "detections" in wanted:
            yield detections.output(finder)
        if "image_manifest" in wanted:
            yield _output(listing)
        if finder and "detections" in wanted:
            finder.finish()


def _output(listing: stage.Listing) -> dg.Output[pl.DataFrame]:
    frame = listing.frame
    return dg.Output(
        frame,
        output_name="image_manifest",
        data_version=dg.DataVersion(stage.manifest_version(frame)),
        metadata={
            **rows(frame.height),
            "invalid in the listing": frame["error_code"].count(),
            **per_code(frame["error_code"]),
            **_labels(frame["label"]),
            "MB": round(float(frame["file_size"].sum()) / 1e6, 1),
            "file size, log10 of bytes": histogram(frame["file_size"].cast(pl.Float64).log10(), "file sizes"),
            **({"notes": "; ".join(listing.notes)} if listing.notes else {}),
        },
    )


def _labels(labels: pl.Series) -> dict[str, Any]:
    """Number of labels, and the commonest with their images; nothing where there are none."""
    counted = labels.drop_nulls().value_counts(name="images").sort("images", "label", descending=[True, False])
    if counted.is_empty():
        return {}
    commonest = counted.head(_LABELS).with_columns(pl.col("label").map_elements(visible, pl.String))
    return {"labels": counted.height, "without a label": labels.null_count(), "images per label": records(commonest)}
