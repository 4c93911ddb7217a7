"""The nearest neighbours of each image."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations
from fastdup_dagster.assets.array_checks import with_apart, with_known
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, made_of, rows
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import KNN_GRAPH
from fastdup_dagster.stages import knn_graph as stage
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    deps=[settings_key("knn_graph")],
    check_specs=check_specs("knn_graph", SPLITS),
    **described("knn_graph", "graph", {"faiss", "parquet"}, code_version="1"),
)
def knn_graph(
    context: dg.AssetExecutionContext,
    embeddings: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """Directed edges from each valid image to its k most similar others, scored exactly."""
    key = context.partition_key
    origin = made_of(store.of(key), key, "embeddings")
    settings = datasets.settings(key)
    frame = stage.knn_graph(embeddings, settings)
    valid = embeddings.filter(pl.col("embedding").is_not_null())["index"]
    images = len(valid)
    told = with_apart(with_known(frame, valid, "from", "to"), "from", "to")
    yield from gate(context, pages, gx.check(told, "knn_graph", key, expectations.knn_graph(images, settings)))
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(KNN_GRAPH, frame)),
        metadata={
            **rows(frame.height),
            "images": images,
            "index": stage.describe_index(images, settings) if images else "none",
            "similarity to the nearest": histogram(frame.filter(pl.col("rank") == 1)["distance"], "similarity"),
            **origin,
        },
    )
