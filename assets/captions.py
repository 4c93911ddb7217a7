"""A text about each image."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from fastdup_dagster.assets import array_checks, expectations, quality
from fastdup_dagster.assets.caption_model import caption_model
from fastdup_dagster.assets.gates import check_specs, gate, records
from fastdup_dagster.assets.metadata import described, picture_table, rows, text, thumbnail
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.captioner import CaptionerResource
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.progress import Progress
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.stages.captions import Captions, stage_captions
from fastdup_dagster.storage import StagedTable

Result = dg.AssetCheckResult | dg.Output[StagedTable]
_SHOWN = 6


class CaptionsConfig(dg.Config):
    """What may be asked of one run."""

    recompute: bool = Field(False, description="reuse no published caption")


@dg.asset(
    partitions_def=SPLITS,
    deps=[caption_model, settings_key("captions")],
    check_specs=check_specs("captions", SPLITS),
    **described("captions", "text", {"onnx", "parquet"}, code_version="1"),
)
def captions(
    context: dg.AssetExecutionContext,
    config: CaptionsConfig,
    image_manifest: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    captioner: CaptionerResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
    progress: dg.ResourceParam[Progress],
) -> Iterator[Result]:
    """A caption, tags, or the answer to a question about each image; an image that has none keeps the reason.

    Only images that are new or changed go through the model; a run that was killed goes on where it stopped.
    """
    key = context.partition_key
    settings = datasets.settings(key)
    of, model = store.of(key), captioner.load(settings)
    report = progress.track(context, "captions")
    with (
        of.lock("captions", key),
        stage_captions(
            image_manifest, settings, model, settings.captions.batch_size, of, key, report, config.recompute
        ) as done,
    ):
        joined = array_checks.captions_against_manifest(done.staged.scan(), image_manifest)
        suite = [*quality.failed("error", "share_of_failed", settings), *expectations.captions()]
        yield from gate(context, pages, gx.check(joined, "captions", key, suite))
        page = pages.publish_captions(key, done.staged.scan().collect(), image_manifest)
        yield dg.Output(
            done.staged,
            data_version=dg.DataVersion(done.staged.digest),
            metadata=_metadata(done, joined, image_manifest, model.id) | {"page": page},
        )
        done.finish()


def _metadata(done: Captions, joined: pl.DataFrame, manifest: pl.DataFrame, model: str) -> dict[str, Any]:
    failed = joined.filter(pl.col("error").is_not_null())
    named = joined.filter(pl.col("caption").is_not_null()).head(_SHOWN).join(manifest, on="index", how="left")
    shown = named.select("uri", "filename", "caption").iter_rows()
    return {
        **rows(done.staged.rows),
        "model": model,
        "captioned now": done.summary.captioned,
        "reused": done.summary.reused,
        "without a caption": failed.height,
        "examples": picture_table(
            ("image", "file", "caption"),
            [(thumbnail(uri), text(name), text(said)) for uri, name, said in shown],
        ),
        "failed": records(failed.select("index", "filename", "error").head(20)) if failed.height else "none",
    }
