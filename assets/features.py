"""One decode pass gives embeddings and img_stats: decoding is half the cost, so each image is read once."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from fastdup_dagster.assets import array_checks, expectations, quality
from fastdup_dagster.assets.gates import check_specs, gate, records
from fastdup_dagster.assets.metadata import described, histogram, per_code, rows, worst_images
from fastdup_dagster.assets.observed import EMBEDDING_MODEL, settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.embedding_backend import EmbeddingBackendResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.progress import Progress
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.features import FEATURE_TABLES, Features, FeatureSummary, compute_features
from fastdup_dagster.stages.gallery_items import STAT_PAGES
from fastdup_dagster.stages.image_manifest import version_with_names
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.storage import StagedTable, TableStore

Result = dg.AssetCheckResult | dg.Output[StagedTable]


class FeaturesConfig(dg.Config):
    """What may be asked of one run."""

    recompute: bool = Field(False, description="reuse no published row")


@dg.multi_asset(
    name="features",
    partitions_def=SPLITS,
    can_subset=True,
    outs={
        "embeddings": dg.AssetOut(
            is_required=False,
            dagster_type=StagedTable,
            description="A feature vector of each image, raw float32.",
            **described("embeddings", "images", {"onnx", "parquet"}, code_version="1"),
        ),
        "img_stats": dg.AssetOut(
            is_required=False,
            dagster_type=StagedTable,
            description="Hashes, size, statistics and a 16 x 16 thumbnail of each image.",
            **described("img_stats", "images", {"opencv", "parquet"}, code_version="1"),
        ),
    },
    deps=[EMBEDDING_MODEL, *(settings_key(table) for table in FEATURE_TABLES)],
    internal_asset_deps={
        "embeddings": {dg.AssetKey("image_manifest"), settings_key("embeddings"), EMBEDDING_MODEL},
        "img_stats": {dg.AssetKey("image_manifest"), settings_key("img_stats")},
    },
    check_specs=[spec for table in FEATURE_TABLES for spec in check_specs(table, SPLITS)],
)
def features(
    context: dg.AssetExecutionContext,
    config: FeaturesConfig,
    image_manifest: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    model: ModelResource,
    embedding_backend: EmbeddingBackendResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
    progress: dg.ResourceParam[Progress],
) -> Iterator[Result]:
    """Reads, decodes, measures and embeds what is not known yet; publishes both tables or neither."""
    key, selected = context.partition_key, context.op_execution_context.selected_output_names
    wanted = [table for table in FEATURE_TABLES if table in selected]
    settings = datasets.settings(key)
    report = progress.track(context, "features")
    of = store.of(key)
    with (
        of.lock("features", key),
        compute_features(
            image_manifest,
            settings,
            model.load(settings),
            of,
            key,
            wanted,
            report,
            config.recompute,
            backend=embedding_backend.choose(),
        ) as done,
    ):
        yield from gate(
            context, pages, [o for t in wanted for o in _checks(t, done, image_manifest, of, key, settings, gx)]
        )
        for table in wanted:
            staged = done.staged[table]
            yield dg.Output(
                staged,
                output_name=table,
                data_version=dg.DataVersion(_version(table, staged, image_manifest)),
                metadata=_metadata(table, staged, done.summary, image_manifest),
            )
        done.finish()


def _checks(
    table: str,
    done: Features,
    manifest: pl.DataFrame,
    of: TableStore,
    key: str,
    settings: Settings,
    gx: GreatExpectationsResource,
) -> list[CheckOutcome]:
    staged = done.staged[table]
    joined = array_checks.against_manifest(staged.scan(), manifest)
    suite = [*quality.failed("error_code", "share_of_unreadable", settings), *expectations.one_row_per_image()]
    outcomes = gx.check(joined, table, key, suite)
    if table == "embeddings":
        finite = array_checks.finite_vectors(staged.path, done.summary.width, manifest, key)
        return [*outcomes, finite, quality.of_vectors(gx, staged, of, manifest, key, settings)]
    stats = staged.scan().collect()
    outcomes += gx.check(stats, table, key, expectations.img_stats())
    valid = array_checks.of_valid_images(stats)
    outcomes += gx.check(valid, table, key, expectations.complete_img_stats(settings))
    return outcomes + quality.of_statistics(gx, staged, of, manifest, key, settings)


def _version(table: str, staged: StagedTable, manifest: pl.DataFrame) -> str:
    """Digest of the rows; that of img_stats, which every page is made from, covers the names in the listing too."""
    return staged.digest if table == "embeddings" else version_with_names(staged.digest, manifest)


def _metadata(table: str, staged: StagedTable, summary: FeatureSummary, manifest: pl.DataFrame) -> dict[str, Any]:
    shared: dict[str, Any] = {
        **rows(staged.rows),
        "computed now": summary.computed,
        "reused": summary.reused,
        "invalid": summary.invalid.height,
        **per_code(summary.invalid["error_code"]),
        "seconds": round(summary.seconds, 2),
        "invalid images": records(summary.invalid.head(20)) if summary.invalid.height else "none",
    }
    if table == "embeddings":
        return shared | {"inferred now": summary.inferred, "width": summary.width}
    names = ("is_truncated", "is_blurry", "is_dark", "is_bright")
    values = staged.scan().select("index", "error_code", "blur", "mean", *names).collect()
    valid = values.filter(pl.col("error_code").is_null())
    flags = {name.removeprefix("is_"): int(values[name].sum()) for name in names}
    return (
        shared
        | flags
        | {
            "blur, log10": histogram(values["blur"].clip(1e-3).log10(), "blur"),
            "mean brightness": histogram(values["mean"], "mean brightness"),
            **{f"worst, {page.kind}": worst_images(valid, manifest, page) for page in STAT_PAGES},
        }
    )
