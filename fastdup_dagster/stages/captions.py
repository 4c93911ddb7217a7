"""The table `captions`: a text about each instance, by a captioner.

Nothing is slower here than a captioner, so nothing is captioned twice: rows of the published table are taken over where
image, settings and captioner are the same, and finished ones are written as part files, so that a killed run goes on
where it stopped. Images are read and prepared ahead by a few threads while the model is at work; memory holds a few
batches, never the data set. What cannot be captioned keeps its row, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.images import Margins
from fastdup_dagster.models.captioning import Captioner
from fastdup_dagster.schemas import CAPTIONS
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.caption_worker import CaptionWorker, PreparedChunk
from fastdup_dagster.stages.chunk_pool import worked
from fastdup_dagster.stages.decode_worker import Task, reading_runs
from fastdup_dagster.stages.read_ahead import remote_reader
from fastdup_dagster.stages.reuse import MODEL_FAILED, source_tokens, text_hash
from fastdup_dagster.stages.row_files import open_rows
from fastdup_dagster.stages.table_plan import TablePlan, tasks_of
from fastdup_dagster.storage import StagedTable, TableStore, remove_tree

Progress = Callable[[int, int], None]
EMPTY = "the model gave an empty caption"
# Raise it when a change of the code changes what a row holds: rows of other recipes are not reused.
_VERSION = "1"
# A kill costs no more than this, or a batch.
_PART_SECONDS = 5.0
# Rows of a block of the table.
_BLOCK = 2_048


@dataclass
class CaptionSummary:
    """What a pass did.

    Attributes:
        rows: instances of the partition.
        captioned: images that went through the model in this pass.
        reused: rows that were taken over: of the published table, of an interrupted pass, or of equal bytes.
        failed: rows without a caption.
    """

    rows: int
    captioned: int = 0
    reused: int = 0
    failed: int = 0


@dataclass
class Captions:
    """The finished table that is not published yet; leaving the context discards it if it still is not."""

    staged: StagedTable
    summary: CaptionSummary
    _parts: Path

    def finish(self) -> None:
        """Removes the part files, those of other captioners too; call it once the table is published."""
        remove_tree(self._parts)

    def __enter__(self) -> Captions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.staged.discard()


def caption_recipe(settings: Settings, captioner: str) -> str:
    """What decides a caption besides the image itself: 32 hex digits.

    Args:
        settings: the largest image, and the margins of crops.
        captioner: its id. What it runs on is no part of it: another device is no reason to caption anything again.
    """
    text = "\0".join([_VERSION, captioner, settings.fingerprint("max_pixels"), repr(Margins.of(settings))])
    return text_hash(text)


def stage_captions(
    manifest: pl.DataFrame,
    settings: Settings,
    captioner: Captioner,
    batch_size: int,
    store: TableStore,
    key: str,
    progress: Progress | None = None,
    recompute: bool = False,
) -> Captions:
    """The complete table `captions` of a partition, in the order of the manifest, and what was done for it.

    Args:
        manifest: the table `image_manifest`, or some of its rows; invalid ones keep their error.
        settings: margins of crops, size limit of images, threads that read ahead.
        captioner: gives the texts.
        batch_size: images a call of the captioner.
        store: where the table will be published; part files go beside it.
        key: partition key.
        progress: called with the images done and the images to do.
        recompute: reuse nothing of what was published.

    Returns:
        A table that is not published yet; a context manager.

    Raises:
        RuntimeError: if the model fails before it has captioned anything: then it is not an image's fault.
    """
    plan = _plan(manifest, settings, captioner, store, key, recompute)
    summary = CaptionSummary(len(manifest))
    failed = manifest["error_code"].is_not_null().to_numpy()
    tasks = [task for task in tasks_of(manifest, {CAPTIONS.name: plan}) if not failed[task.position]]
    summary.reused = len(manifest) - len(tasks) - int(failed.sum())
    if tasks:
        _caption_all(tasks, settings, captioner, batch_size, plan, summary, progress)
    staged = store.stage(CAPTIONS, key)
    try:
        for block in plan.blocks(manifest, lambda rows: _refused(rows, captioner.id), _BLOCK):
            summary.failed += block.num_rows - block["error"].null_count
            staged.write(block)
        staged.close()
    except BaseException:
        staged.discard()
        raise
    return Captions(staged, summary, store.staging(CAPTIONS.name, key))


def _plan(
    manifest: pl.DataFrame, settings: Settings, captioner: Captioner, store: TableStore, key: str, recompute: bool
) -> TablePlan:
    recipe = caption_recipe(settings, captioner.id)
    parts = store.staging(CAPTIONS.name, key, recipe)
    if recompute:
        remove_tree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    published = [] if recompute or not store.exists(CAPTIONS.name, key) else [store.fetch(CAPTIONS.name, key, parts)]
    return TablePlan.of(CAPTIONS, recipe, manifest, source_tokens(manifest), published, parts)


def _caption_all(
    tasks: list[Task],
    settings: Settings,
    captioner: Captioner,
    batch_size: int,
    plan: TablePlan,
    summary: CaptionSummary,
    progress: Progress | None,
) -> None:
    """Captions what is to do, and leaves the rows in the plan's part files, whatever ends it."""
    model = _Model(captioner, batch_size, plan, summary)
    most = max(1, batch_size // settings.threads)  # so that about two batches are read ahead
    done, flushed = 0, time.monotonic()
    try:
        with remote_reader(tasks, settings.threads) as (read, most_bytes):
            work = CaptionWorker(settings, captioner, plan.rows, read)
            runs = reading_runs(tasks, most_bytes, most)
            with closing(worked(runs, work, settings.threads, 2 * settings.threads)) as chunks:
                for chunk in chunks:
                    model.take(chunk)
                    done += chunk.size
                    if time.monotonic() - flushed >= _PART_SECONDS:
                        plan.flush()
                        flushed = time.monotonic()
                    if progress:
                        progress(done, len(tasks))
                model.finish()
    finally:
        plan.settle()


class _Model:
    """Gathers prepared images into batches, and their texts into the plan's rows."""

    def __init__(self, captioner: Captioner, batch_size: int, plan: TablePlan, summary: CaptionSummary) -> None:
        self._captioner, self._batch_size = captioner, batch_size
        self._plan, self._summary = plan, summary
        self._waiting: list[tuple[int, str, NDArray[Any]]] = []
        self._proved = _has_captioned(plan)

    def take(self, chunk: PreparedChunk) -> None:
        """Notes what came of a chunk without the model, and calls it as often as a batch is full."""
        for position, (file, row) in chunk.reused.items():
            self._plan.file[position], self._plan.row[position] = file, row
        self._plan.copies |= chunk.copies
        self._summary.reused += len(chunk.reused) + len(chunk.copies)
        for position, (error, digest) in chunk.failed.items():
            self._add(position, digest, error=error)
        self._waiting += chunk.prepared
        while len(self._waiting) >= self._batch_size:
            self._caption(self._waiting[: self._batch_size])
            del self._waiting[: self._batch_size]

    def finish(self) -> None:
        """Captions what is left."""
        if self._waiting:
            self._caption(self._waiting)
            self._waiting = []

    def _caption(self, batch: Sequence[tuple[int, str, NDArray[Any]]]) -> None:
        """Captions a batch; if that fails, image by image.

        Raises:
            RuntimeError: if the model fails at every image, and has done nothing else yet.
        """
        images = [image for _, _, image in batch]
        try:
            texts: list[str | Exception] = list(self._captioner.captions(images))
        except Exception:  # noqa: BLE001 - which image it was is found one by one
            texts = [_alone(self._captioner, image) for image in images]
        failures = [text for text in texts if isinstance(text, Exception)]
        if len(failures) == len(batch) and not self._proved:
            raise RuntimeError(f"model {self._captioner.id} fails: {failures[0]}") from failures[0]
        self._proved = True
        self._summary.captioned += len(batch)
        for (position, digest, _), text in zip(batch, texts, strict=True):
            if isinstance(text, Exception):
                self._add(position, digest, error=f"{MODEL_FAILED}: {text}")
            elif text.strip():
                self._add(position, digest, caption=text)
            else:
                self._add(position, digest, error=EMPTY)

    def _add(self, position: int, digest: str | None, caption: str | None = None, error: str | None = None) -> None:
        row = {"caption": caption, "error": error, "content_hash": digest, "model": self._captioner.id}
        self._plan.keep(position, row)


def _has_captioned(plan: TablePlan) -> bool:
    """Whether this captioner is known to work, by a row that it made before."""
    for path in plan.rows.files:
        with open_rows(path) as file:
            rows = file.columns(["source_key", "caption"])
        if not rows.drop_nulls("caption").filter(pl.col("source_key").str.starts_with(plan.rows.recipe)).is_empty():
            return True
    return False


def _alone(captioner: Captioner, image: NDArray[Any]) -> str | Exception:
    try:
        return captioner.captions([image])[0]
    except Exception as error:  # noqa: BLE001 - it becomes the row's error
        return error


def _refused(manifest: pl.DataFrame, captioner: str) -> pl.DataFrame:
    """Rows of what the listing already knows to be unusable."""
    rows = manifest.select(
        "index",
        pl.lit(captioner).alias("model"),
        pl.lit("").alias("source_key"),
        pl.format("{}: {}", "error_code", pl.col("error").fill_null("")).alias("error"),
    )
    return CAPTIONS.frame(rows)
