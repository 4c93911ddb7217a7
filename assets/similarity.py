"""Pairs of images that are alike, and how alike."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, rows, worst_pairs
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import SIMILARITY
from fastdup_dagster.stages import similarity as stage
from fastdup_dagster.stages.summary import KINDS, unordered_pairs
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    check_specs=check_specs("similarity", SPLITS),
    **described("similarity", "graph", {"polars", "parquet"}, code_version="1"),
)
def similarity(
    context: dg.AssetExecutionContext,
    knn_graph: pl.DataFrame,
    img_stats: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """Edges over the threshold, told apart as identical bytes, identical pixels, near duplicate or merely similar."""
    key = context.partition_key
    settings = datasets.settings(key)
    frame = stage.similarity(knn_graph, settings, img_stats)
    yield from gate(context, pages, gx.check(frame, "similarity", key, expectations.similarity(settings)))
    pairs = unordered_pairs(frame)
    # Read aside, not as an input: names are for people only, and must not make the pairs stale.
    names = store.of(key).read("image_manifest", key, ["index", "uri", "filename"])
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(SIMILARITY, frame)),
        metadata={
            **rows(frame.height),
            "pairs": pairs.height,
            **{f"pairs, {words}": pairs.filter(pl.col("kind") == kind).height for kind, words in KINDS.items()},
            "threshold": settings.threshold,
            "similarity of the pairs": histogram(pairs["distance"], "similarity"),
            "worst pairs": worst_pairs(pairs, names, ("from", "to")),
        },
    )
