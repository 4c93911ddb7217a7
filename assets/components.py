"""Groups of images that are alike."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations
from fastdup_dagster.assets.array_checks import with_known
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, largest_clusters, made_of, rows
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import COMPONENTS
from fastdup_dagster.stages import components as stage
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    deps=[settings_key("components")],
    check_specs=check_specs("components", SPLITS),
    **described("components", "graph", {"polars", "parquet"}, code_version="1"),
)
def components(
    context: dg.AssetExecutionContext,
    knn_graph: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """Connected components of the edges at or over cc_threshold: clusters of two images or more."""
    key = context.partition_key
    origin = made_of(store.of(key), key, "knn_graph")
    settings = datasets.settings(key)
    frame = stage.components(knn_graph, settings)
    counted = frame.with_columns(pl.len().over("component_id").cast(pl.Int64).alias("members"))
    told = with_known(counted, knn_graph["from"], "index")
    yield from gate(context, pages, gx.check(told, "components", key, expectations.components(settings)))
    sizes = frame.unique("component_id")["count"]
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(COMPONENTS, frame)),
        metadata={
            **rows(frame.height),
            "components": sizes.len(),
            "largest": int(sizes.top_k(1).sum()),
            "images per component": histogram(sizes, "images per component"),
            "largest components": largest_clusters(frame, store.of(key), key),
            **origin,
        },
    )
