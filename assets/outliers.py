"""Images that resemble no other."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations
from fastdup_dagster.assets.array_checks import with_known
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, made_of, rows, worst_pairs
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import OUTLIERS
from fastdup_dagster.stages import outliers as stage
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    deps=[settings_key("outliers")],
    check_specs=check_specs("outliers", SPLITS),
    **described("outliers", "graph", {"polars", "parquet"}, code_version="1"),
)
def outliers(
    context: dg.AssetExecutionContext,
    knn_graph: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """The images at the lowest edges of the graph, strangest first."""
    key = context.partition_key
    origin = made_of(store.of(key), key, "knn_graph")
    settings = datasets.settings(key)
    frame = stage.outliers(knn_graph, settings)
    numbered = frame.with_columns(pl.int_range(1, pl.len() + 1).alias("row"))
    suite = expectations.outliers(knn_graph.height, settings)
    told = with_known(numbered, knn_graph["from"], "outlier", "nearest")
    yield from gate(context, pages, gx.check(told, "outliers", key, suite))
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(OUTLIERS, frame)),
        metadata={
            **rows(frame.height),
            "similarity of the outliers": histogram(frame["distance"], "similarity"),
            "worst": worst_pairs(frame, store.of(key), key, {}, ("outlier", "nearest")),
            **origin,
        },
    )
