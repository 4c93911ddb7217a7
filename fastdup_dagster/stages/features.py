"""The one streaming decode pass: embeddings and statistics of a partition from a single read of each image.

A backend reads, decodes, measures and embeds what is not known yet; finished rows are part files beside the
store, so that a killed run goes on where it stopped. The pass assembles parts and reused rows in id order into
tables that are ready to publish. Memory holds a few chunks a worker, never the data set.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa

from fastdup_dagster.images import Margins
from fastdup_dagster.memory import settle_allocator, trim_memory
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS, TableSchema
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.decode_worker import decode_side
from fastdup_dagster.stages.embedding_backend import EmbeddingBackend, LocalBackend, Progress, Work
from fastdup_dagster.stages.reuse import source_tokens, text_hash
from fastdup_dagster.stages.row_files import PARTS, with_columns
from fastdup_dagster.stages.table_plan import TablePlan, tasks_of
from fastdup_dagster.storage import StagedTable, TableStore, remove_tree

FEATURE_TABLES = ("embeddings", "img_stats")
# Raise that of a table when a change of the code changes what a row holds: rows of other recipes are not reused.
_RECIPE_VERSIONS = {"embeddings": "5", "img_stats": "4"}
# Rows at a time on their way into a table: what they pass through copies them several times.
_BLOCK = 1_024
_STAGE = "features"


@dataclass(frozen=True)
class FeatureSummary:
    """What a pass did.

    Attributes:
        rows: instances of the partition.
        computed: rows that were computed in this pass.
        inferred: images that went through the model in this pass.
        reused: rows that were taken over, from the published tables or from an interrupted pass.
        invalid: index, filename, error_code, error of the instances that cannot be used.
        nonfinite: instances whose feature vector is zero or not finite (they are invalid too).
        width: length of the vectors.
        seconds: time of the decode pass.
    """

    rows: int
    computed: int
    inferred: int
    reused: int
    invalid: pl.DataFrame
    nonfinite: int
    width: int
    seconds: float


@dataclass
class Features:
    """Finished tables that are not published yet; leaving the context discards those that still are not."""

    staged: dict[str, StagedTable]
    summary: FeatureSummary
    _parts: Path

    def finish(self) -> None:
        """Removes the part files of these tables, and what killed passes left; call it once they are published."""
        _clear(self._parts, self.staged)
        for table in self.staged.values():
            remove_tree(table.path.parent)

    def __enter__(self) -> Features:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self.staged.values():
            table.discard()


def compute_features(
    manifest: pl.DataFrame,
    settings: Settings,
    model: EmbeddingModel,
    store: TableStore,
    key: str,
    tables: Collection[str] = FEATURE_TABLES,
    progress: Progress | None = None,
    recompute: bool = False,
    copies: Mapping[str, str] | None = None,
    backend: EmbeddingBackend | None = None,
) -> Features:
    """Runs the decode pass of a partition: only what is not known yet is read.

    Args:
        manifest: the table `image_manifest`.
        settings: what to compute and with how many threads.
        model: gives the feature vectors.
        store: where the tables will be published; part files go beside it.
        key: partition key.
        tables: which of `embeddings` and `img_stats` to make.
        progress: called with the rows done and the rows to do, from this thread.
        recompute: reuse nothing of what was published.
        copies: URIs to read in place of those of the manifest.
        backend: works on what is not known yet; by default threads of this process.

    Returns:
        Complete, unpublished tables and a summary; a context manager.
    """
    started = time.perf_counter()
    settle_allocator()
    parts = store.staging(_STAGE, key)
    if recompute:
        _clear(parts, tables)
    tokens = source_tokens(manifest)
    plans = {name: _plan(name, manifest, tokens, settings, model, store, key, recompute) for name in tables}
    failed = manifest["error_code"].is_not_null().to_numpy()
    tasks = [task for task in tasks_of(manifest, plans) if not failed[task.position]]
    reused = len(manifest) - len(tasks) - int(failed.sum())
    work = Work(tasks, plans, settings, model, parts, copies or {}, progress)
    counts = (backend or LocalBackend()).compute(work)
    trim_memory()
    staged: dict[str, StagedTable] = {}
    try:
        for name, plan in plans.items():
            staged[name] = store.stage(plan.schema, key)
        _assemble_all(staged, plans, manifest, settings, model)
        summary = FeatureSummary(
            rows=len(manifest),
            computed=counts.computed,
            inferred=counts.inferred,
            reused=reused + counts.reused,
            invalid=_invalid(staged.values(), manifest),
            nonfinite=counts.nonfinite,
            width=model.width,
            seconds=time.perf_counter() - started,
        )
    except BaseException:
        for table in staged.values():
            table.discard()
        raise
    return Features(staged, summary, parts)


def _clear(parts: Path, tables: Collection[str]) -> None:
    """Removes unfinished work, but for the parts of tables other than these: their pass may go on later."""
    kept = {path for name in set(FEATURE_TABLES) - set(tables) for path in (parts / name).rglob(PARTS)}
    if not kept:
        remove_tree(parts)
        return
    for folder, _, files in os.walk(parts, topdown=False):
        for path in {Path(folder, name) for name in files} - kept:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds parts
            Path(folder).rmdir()


def recipe(table: str, settings: Settings, model: EmbeddingModel) -> str:
    """What decides a row besides the image itself: 32 hex digits."""
    names = ["max_pixels"]
    made_by = [str(decode_side(model)), repr(Margins.of(settings))]
    if table == "img_stats":
        names += ["run_stats", "run_advanced_stats"]
    else:
        made_by += [model.id, model.provider]
    text = "\0".join([_RECIPE_VERSIONS[table], table, settings.fingerprint(*names), *made_by])
    return text_hash(text)


def feature_schema(table: str, model: EmbeddingModel) -> TableSchema:
    """The schema of `embeddings`, as wide as the model's vectors, or of `img_stats`."""
    return EMBEDDINGS.with_embedding_width(model.width) if table == "embeddings" else IMG_STATS


def _plan(
    name: str,
    manifest: pl.DataFrame,
    tokens: Sequence[str],
    settings: Settings,
    model: EmbeddingModel,
    store: TableStore,
    key: str,
    recompute: bool,
) -> TablePlan:
    schema = feature_schema(name, model)
    made_by = recipe(name, settings, model)
    parts = store.staging(_STAGE, key, name, made_by)
    parts.mkdir(parents=True, exist_ok=True)
    published = [] if recompute or not store.exists(name, key) else [store.fetch(name, key, parts)]
    return TablePlan.of(schema, made_by, manifest, tokens, published, parts)


def _assemble_all(
    staged: Mapping[str, StagedTable],
    plans: Mapping[str, TablePlan],
    manifest: pl.DataFrame,
    settings: Settings,
    model: EmbeddingModel,
) -> None:
    """Writes the tables side by side; where one fails, the others end at their next block."""
    stop = threading.Event()
    with ThreadPoolExecutor(min(settings.threads, len(plans))) as pool:
        given = (manifest, settings, model, stop)
        making = [pool.submit(_assemble, staged[name], plan, *given) for name, plan in plans.items()]
        try:
            for made in as_completed(making):
                made.result()
        except BaseException:
            stop.set()
            raise


def _assemble(
    staged: StagedTable,
    plan: TablePlan,
    manifest: pl.DataFrame,
    settings: Settings,
    model: EmbeddingModel,
    stop: threading.Event,
) -> None:
    """Writes the rows in id order: ids, keys and flags as they are now, everything else as it was computed."""
    for block in plan.blocks(manifest, lambda refused: _failed_rows(plan.schema, refused, model), _BLOCK):
        if stop.is_set():
            return
        staged.write(_flagged(block, settings))
    staged.close()


def _failed_rows(schema: TableSchema, block: pl.DataFrame, model: EmbeddingModel) -> pl.DataFrame:
    """Rows of what the listing already knows to be unusable."""
    given = block.select("index", "error_code", "error").with_columns(
        pl.lit("").alias("source_key"), *([pl.lit(model.id).alias("model")] if "model" in schema.names else [])
    )
    if "file_size" in schema.names:
        given = given.with_columns(block["file_size"])
    return schema.frame(given)


def _flagged(block: pa.Table, settings: Settings) -> pa.Table:
    if "is_blurry" not in block.column_names:
        return block
    flags = pl.DataFrame(block.select(["blur", "mean"])).select(
        (pl.col("blur") < settings.blur_threshold).alias("is_blurry"),
        (pl.col("mean") < settings.darkness_threshold).alias("is_dark"),
        (pl.col("mean") > settings.brightness_threshold).alias("is_bright"),
    )
    return with_columns(block, flags.to_dict())


def _invalid(staged: Iterable[StagedTable], manifest: pl.DataFrame) -> pl.DataFrame:
    """What cannot be used, by either table: one row an instance."""
    found = [table.scan().filter(pl.col("error_code").is_not_null()) for table in staged]
    both = pl.concat([rows.select("index", "error_code", "error") for rows in found])
    bad = both.unique("index", keep="first", maintain_order=True).sort("index").collect()
    return bad.join(manifest.select("index", "filename"), on="index", how="left", maintain_order="left").select(
        "index", "filename", "error_code", "error"
    )
