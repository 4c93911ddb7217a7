"""Pairs of images that are alike, and how alike."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations, quality
from fastdup_dagster.assets.array_checks import with_apart, with_known
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, made_of, rows, worst_pairs
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import SIMILARITY
from fastdup_dagster.stages import similarity as stage
from fastdup_dagster.stages.published import names_of
from fastdup_dagster.stages.summary import KINDS, unordered_pairs
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    deps=[settings_key("similarity")],
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
    origin = made_of(store.of(key), key, "knn_graph")
    settings = datasets.settings(key)
    frame = stage.similarity(knn_graph, settings, img_stats)
    told = with_apart(with_known(frame, knn_graph["from"], "from", "to"), "from", "to")
    outcomes = gx.check(told, "similarity", key, expectations.similarity(settings))

    def names() -> pl.DataFrame:
        return names_of(store.of(key), key, "knn_graph", img_stats=img_stats)

    copies = quality.of_pairs(gx, frame, knn_graph["from"], names, key, settings)
    yield from gate(context, pages, [*outcomes, copies])
    pairs = unordered_pairs(frame)
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(SIMILARITY, frame)),
        metadata={
            **rows(frame.height),
            "pairs": pairs.height,
            **{f"pairs, {words}": pairs.filter(pl.col("kind") == kind).height for kind, words in KINDS.items()},
            "threshold": settings.threshold,
            "similarity of the pairs": histogram(pairs["distance"], "similarity"),
            "worst pairs": worst_pairs(pairs, store.of(key), key, {"img_stats": img_stats}, ("from", "to")),
            **origin,
        },
    )
