"""The listing of a split: one row per image, nothing read yet."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations, quality
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, rows
from fastdup_dagster.assets.observed import observe_for, settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.settings import is_detector
from fastdup_dagster.sources import NothingFoundError
from fastdup_dagster.stages import image_manifest as stage
from fastdup_dagster.stages.detections import boxes_finder

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    deps=[settings_key("image_manifest")],
    check_specs=check_specs("image_manifest", SPLITS),
    **described("image_manifest", "images", {"polars", "parquet"}, code_version="1"),
)
def image_manifest(
    context: dg.AssetExecutionContext,
    datasets: DatasetsResource,
    store: StoreResource,
    model: ModelResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """Every file of the split: id, path, size, time of change, and the errors that a listing can see.

    Its data version covers the time of change of each file: bytes can change at equal size. A file that was only
    touched costs one read further down, and nothing there changes. With a detector, a row per box that it finds.
    """
    key = context.partition_key
    settings = datasets.settings(key)
    find_boxes = boxes_finder(settings, store.of(key), key, context.log.info)
    try:
        listing = datasets.listing(key, find_boxes)
    except NothingFoundError as error:
        yield from gate(context, pages, [expectations.nothing_found(key, error)])
        return
    frame = listing.frame
    suite = expectations.image_manifest(crops=is_detector(settings.bounding_box))
    outcomes = gx.check(frame, "image_manifest", key, suite)
    yield from gate(context, pages, [*outcomes, quality.of_labels(gx, frame, key, settings)])
    observe_for(context, key, datasets, model)  # whoever launched it: what is made of the listing comes next
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(stage.manifest_version(frame)),
        metadata={
            **rows(frame.height),
            "invalid in the listing": frame["error_code"].count(),
            "MB": round(float(frame["file_size"].sum()) / 1e6, 1),
            "file size, log10 of bytes": histogram(frame["file_size"].cast(pl.Float64).log10(), "file sizes"),
            **({"notes": "; ".join(listing.notes)} if listing.notes else {}),
        },
    )
