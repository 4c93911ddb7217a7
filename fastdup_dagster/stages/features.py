"""The one streaming decode pass: embeddings and statistics of a partition from a single read of each image.

Worker threads each read, decode, measure and embed a chunk of images; the pass writes finished rows as part
files beside the store, so that a killed run goes on where it stopped, and assembles parts and reused rows in
id order into tables that are ready to publish. Memory holds a few chunks a worker, never the data set.
"""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.images import Margins, opencv_alone
from fastdup_dagster.memory import frugal_memory, trim_memory
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS, Column, TableSchema
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.part_reading import keeping_open
from fastdup_dagster.stages.decode_worker import ChunkRows, DecodeWorker, Task, decode_side, reading_runs
from fastdup_dagster.stages.ordered_rows import ordered_blocks
from fastdup_dagster.stages.read_ahead import remote_reader
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows, source_keys
from fastdup_dagster.storage import StagedTable, TableStore, remove_tree, write_parquet

Progress = Callable[[int, int], None]

FEATURE_TABLES = ("embeddings", "img_stats")
# Raise it when a change of the code changes what a row holds: rows of other recipes are not reused.
RECIPE_VERSION = "3"
# A part is written once a second at first, and after 1 % of the time that the pass has run: a kill costs no more
# than that, and a long pass does not leave a heap of small files. The rows bound memory.
_PART_SECONDS = 1.0
_PART_SHARE = 0.01
_PART_ROWS = 2_048
_BLOCK = 2_048
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
        """Removes the part files, and what killed passes left; call it once the tables are published."""
        remove_tree(self._parts)
        for table in self.staged.values():
            remove_tree(table.path.parent)

    def __enter__(self) -> Features:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self.staged.values():
            table.discard()


@dataclass
class _TablePlan:
    """Where each row of one table will come from."""

    schema: TableSchema
    keys: list[str]
    rows: ReusableRows
    parts: Path
    file: NDArray[np.int32]
    row: NDArray[np.int64]
    pending: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    copies: dict[int, int] = field(default_factory=dict)

    def flush(self) -> None:
        """Writes the pending rows as a part file."""
        if not self.pending:
            return
        rows = [{"index": position, **row} for position, row in self.pending]
        frame = self.schema.frame(pl.DataFrame([_series(column, rows) for column in self.schema.columns]))
        path = self.parts / f"part-{uuid.uuid4().hex}.parquet"
        temporary = path.with_suffix(".tmp")
        # In the schema's own types, not polars's: a part of other types would not be recognised after a kill.
        table = frame.to_arrow().cast(self.schema.arrow)
        write_parquet(table, temporary)
        temporary.rename(path)
        number = self.rows.add_file(path)
        for row, (position, _) in enumerate(self.pending):
            self.file[position], self.row[position] = number, row
        self.pending.clear()


def _series(column: Column, rows: Sequence[dict[str, Any]]) -> pl.Series:
    """One column of rows. Arrays go in as one block: row by row, polars would look at each number."""
    values = [row.get(column.name) for row in rows]
    dtype = column.polars_dtype
    if not isinstance(dtype, pl.Array):
        return pl.Series(column.name, values, dtype=dtype)
    there = np.array([value is not None for value in values])
    block = np.zeros((len(values), *dtype.shape), dtype=pl.Series([], dtype=dtype.inner).to_numpy().dtype)
    if there.any():
        block[there] = [value for value in values if value is not None]
    series = pl.Series(column.name, block, dtype=dtype)
    return series if there.all() else series.zip_with(pl.Series(there), pl.Series(column.name, [None], dtype=dtype))


@frugal_memory()
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

    Returns:
        Complete, unpublished tables and a summary; a context manager.
    """
    started = time.perf_counter()
    parts = store.staging(_STAGE, key)
    if recompute:
        remove_tree(parts)
    plans = {name: _plan(name, manifest, settings, model, store, key, recompute) for name in tables}
    failed = manifest["error_code"].is_not_null().to_numpy()
    tasks = [task for task in _tasks(manifest, plans) if not failed[task.position]]
    reused = len(manifest) - len(tasks) - int(failed.sum())
    known = {name: plan.rows for name, plan in plans.items()}
    try:
        with remote_reader(tasks, settings.threads, copies or {}) as (read, most_bytes):
            worker = DecodeWorker(settings, model, known, read)
            counts = _run(tasks, reading_runs(tasks, most_bytes), worker, plans, settings.threads, progress)
    finally:
        for plan in plans.values():
            plan.flush()
    trim_memory()
    staged: dict[str, StagedTable] = {}
    try:
        for name, plan in plans.items():
            staged[name] = store.stage(plan.schema, key)
            _assemble(staged[name], plan, manifest, settings, model)
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


def recipe(table: str, settings: Settings, model: EmbeddingModel) -> str:
    """What decides a row besides the image itself: 32 hex digits."""
    names = ["max_pixels"]
    made_by = [str(decode_side(model)), repr(Margins.of(settings))]
    if table == "img_stats":
        names += ["run_stats", "run_advanced_stats"]
    else:
        made_by += [model.id, model.provider]
    text = "\0".join([RECIPE_VERSION, table, settings.fingerprint(*names), *made_by])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plan(
    name: str,
    manifest: pl.DataFrame,
    settings: Settings,
    model: EmbeddingModel,
    store: TableStore,
    key: str,
    recompute: bool,
) -> _TablePlan:
    schema = EMBEDDINGS.with_embedding_width(model.width) if name == "embeddings" else IMG_STATS
    made_by = recipe(name, settings, model)
    parts = store.staging(_STAGE, key, name, made_by)
    parts.mkdir(parents=True, exist_ok=True)
    published = [] if recompute or not store.exists(name, key) else [store.fetch(name, key, parts)]
    rows = ReusableRows(schema, made_by, [*published, *sorted(parts.glob("part-*.parquet"))])
    keys = source_keys(manifest, made_by)
    file, row = rows.find(keys)
    # What the listing refuses now has no row, whatever an earlier listing made of the same file.
    file[manifest["error_code"].is_not_null().to_numpy()] = NOWHERE
    return _TablePlan(schema, keys, rows, parts, file, row)


def _tasks(manifest: pl.DataFrame, plans: dict[str, _TablePlan]) -> Iterator[Task]:
    columns = manifest.select("index", "uri", "box", "file_size")
    for position, (index, uri, box, size) in enumerate(columns.iter_rows()):
        missing = frozenset(name for name, plan in plans.items() if plan.file[position] == NOWHERE)
        if missing:
            yield Task(position, index, uri, missing, None if box is None else tuple(box), size)


@dataclass
class _Counts:
    computed: int = 0
    inferred: int = 0
    reused: int = 0
    nonfinite: int = 0


def _run(
    tasks: list[Task],
    runs: Iterator[Iterator[list[Task]]],
    worker: DecodeWorker,
    plans: dict[str, _TablePlan],
    threads: int,
    progress: Progress | None,
) -> _Counts:
    """Keeps every worker busy with at most two chunks each in flight; results are taken in order.

    Of a run of chunks that only one worker can read at a time, the next is begun when the one before it is done.
    """
    counts = _Counts()
    done = 0
    started = flushed = time.monotonic()
    running: deque[_Begun] = deque()
    with (
        opencv_alone(),
        keeping_open(2 * threads),
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
    ):
        for _ in range(2 * threads):
            running.extend(_begin(runs, worker, pool))
        try:
            while running:
                future, run = running.popleft()
                result = future.result()
                running.extend(_begin(itertools.chain([run], runs), worker, pool))
                _record(result, plans, counts)
                done += result.size
                now = time.monotonic()
                pending = max(len(plan.pending) for plan in plans.values())
                if pending >= _PART_ROWS or now - flushed >= max(_PART_SECONDS, _PART_SHARE * (now - started)):
                    for plan in plans.values():
                        plan.flush()
                    flushed = now
                if progress:
                    progress(done, len(tasks))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _share(plans)
    return counts


_Begun = tuple[Future[ChunkRows], Iterator[list[Task]]]


def _begin(runs: Iterable[Iterator[list[Task]]], worker: DecodeWorker, pool: ThreadPoolExecutor) -> Iterator[_Begun]:
    """Hands the next chunk of the first run that has one to a worker."""
    for run in runs:
        for chunk in itertools.islice(run, 1):
            yield pool.submit(worker, chunk), run
            return


def _share(plans: dict[str, _TablePlan]) -> None:
    """Gives images that are copies of others of this pass the place of their row."""
    for plan in plans.values():
        plan.flush()
        for position, owner in plan.copies.items():
            plan.file[position], plan.row[position] = plan.file[owner], plan.row[owner]


def _record(result: ChunkRows, plans: dict[str, _TablePlan], counts: _Counts) -> None:
    for name, plan in plans.items():
        for position, (file, row) in result.reused[name].items():
            plan.file[position], plan.row[position] = file, row
        plan.copies |= result.copies[name]
        for position, values in result.rows[name].items():
            plan.pending.append((position, {**values, "source_key": plan.keys[position]}))
    computed = set().union(*(rows.keys() for rows in result.rows.values()))
    counts.computed += len(computed)
    counts.reused += result.size - len(computed)
    counts.inferred += result.inferred
    counts.nonfinite += result.nonfinite


def _assemble(
    staged: StagedTable, plan: _TablePlan, manifest: pl.DataFrame, settings: Settings, model: EmbeddingModel
) -> None:
    """Writes the rows in id order: ids, keys and flags as they are now, everything else as it was computed."""
    blocks = ordered_blocks(plan.rows, plan.file, plan.row, _BLOCK, plan.parts)
    for start, taken in zip(range(0, len(manifest), _BLOCK), blocks, strict=True):
        block = manifest[start : start + _BLOCK]
        keys = pl.Series("source_key", plan.keys[start : start + _BLOCK], dtype=pl.String)
        known = plan.file[start : start + _BLOCK] != NOWHERE
        if taken is not None and known.all():
            frame = taken
        else:
            frame = _failed_rows(plan.schema, block, model)
            if taken is not None:
                order = np.concatenate([np.flatnonzero(known), np.flatnonzero(~known)])
                both = pl.concat([taken.select(plan.schema.names), frame.filter(pl.Series(~known))])
                frame = both[np.argsort(order)]
        staged.write(plan.schema.frame(_flagged(frame.with_columns(block["index"], keys), settings)))
        trim_memory()
    staged.close()


def _failed_rows(schema: TableSchema, block: pl.DataFrame, model: EmbeddingModel) -> pl.DataFrame:
    """Rows of what the listing already knows to be unusable."""
    given = block.select("index", "error_code", "error").with_columns(
        pl.lit("").alias("source_key"), *([pl.lit(model.id).alias("model")] if "model" in schema.names else [])
    )
    if "file_size" in schema.names:
        given = given.with_columns(block["file_size"])
    return schema.frame(given)


def _flagged(frame: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    if "is_blurry" not in frame.columns:
        return frame
    return frame.with_columns(
        (pl.col("blur") < settings.blur_threshold).alias("is_blurry"),
        (pl.col("mean") < settings.darkness_threshold).alias("is_dark"),
        (pl.col("mean") > settings.brightness_threshold).alias("is_bright"),
    )


def _invalid(staged: Iterable[StagedTable], manifest: pl.DataFrame) -> pl.DataFrame:
    """What cannot be used, by either table: one row an instance."""
    found = [table.scan().filter(pl.col("error_code").is_not_null()) for table in staged]
    both = pl.concat([rows.select("index", "error_code", "error") for rows in found])
    bad = both.unique("index", keep="first", maintain_order=True).sort("index").collect()
    return bad.join(manifest.select("index", "filename"), on="index", how="left", maintain_order="left").select(
        "index", "filename", "error_code", "error"
    )
