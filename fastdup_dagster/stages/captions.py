"""The table `captions`: a text about each instance, by a captioner.

Images are read and prepared ahead by a few threads while the model is at work; memory holds a few batches, never the
data set. What cannot be captioned keeps its row, with the reason.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.images import ImageError, Margins, crop, decode, opencv_alone, read_bytes
from fastdup_dagster.models.captioning import Captioner
from fastdup_dagster.schemas import CAPTIONS
from fastdup_dagster.settings import Settings
from fastdup_dagster.storage import StagedTable, TableStore

Progress = Callable[[int, int], None]
EMPTY = "the model gave an empty caption"
# Rows of a block of the table.
_BLOCK = 2_048


@dataclass
class _Row:
    """One instance: what is known of it so far."""

    index: int
    uri: str
    box: tuple[float, ...] | None
    error: str | None
    image: NDArray[Any] | None = None
    caption: str | None = None


def caption_blocks(
    manifest: pl.DataFrame,
    settings: Settings,
    captioner: Captioner,
    batch_size: int,
    progress: Progress | None = None,
) -> Iterator[pl.DataFrame]:
    """The table `captions` in blocks, in the order of the manifest.

    Args:
        manifest: the table `image_manifest`, or some of its rows; invalid ones keep their error.
        settings: margins of crops, size limit of images, threads that read ahead.
        captioner: gives the texts.
        batch_size: images a call of the captioner.
        progress: called with the rows done and the rows there are.

    Raises:
        RuntimeError: if the model fails before it has captioned anything: then it is not an image's fault.
    """
    worker = _Worker(settings, captioner)
    rows: list[_Row] = []
    done = 0
    for row in _captioned(_prepared(_instances(manifest), worker, settings.threads, batch_size), captioner, batch_size):
        rows.append(row)
        done += 1
        if progress:
            progress(done, len(manifest))
        if len(rows) == _BLOCK:
            yield _frame(rows, captioner)
            rows = []
    if rows or not done:
        yield _frame(rows, captioner)


def stage_captions(
    manifest: pl.DataFrame,
    settings: Settings,
    captioner: Captioner,
    store: TableStore,
    key: str,
    progress: Progress | None = None,
) -> StagedTable:
    """The complete table `captions` of a partition, not published yet; a context manager, see `StagedTable`.

    The arguments are those of `caption_blocks`; `settings.captions` says how many images go to the model at once.
    """
    staged = store.stage(CAPTIONS, key)
    try:
        for block in caption_blocks(manifest, settings, captioner, settings.captions.batch_size, progress):
            staged.write(block)
        staged.close()
    except BaseException:
        staged.discard()
        raise
    return staged


def _instances(manifest: pl.DataFrame) -> Iterator[list[_Row]]:
    """The rows, those of one image that follow each other together, so that it is decoded once."""
    given = manifest.select("index", "uri", "box", "error_code", "error").iter_rows()
    rows = (
        _Row(index, uri, None if box is None else tuple(box), None if code is None else f"{code}: {error}")
        for index, uri, box, code, error in given
    )
    for _, crops in itertools.groupby(rows, key=lambda row: row.uri):
        yield list(crops)


@dataclass
class _Worker:
    """Reads an image and prepares the instances in it."""

    settings: Settings
    captioner: Captioner
    margins: Margins = field(init=False)

    def __post_init__(self) -> None:
        self.margins = Margins.of(self.settings)

    def __call__(self, rows: list[_Row]) -> list[_Row]:
        wanted = [row for row in rows if row.error is None]
        if not wanted:
            return rows
        whole = all(row.box is None for row in wanted)
        try:
            min_side = self.captioner.min_side or 0 if whole else 0
            image = decode(read_bytes(wanted[0].uri), min_side, self.settings.max_pixels)
        except Exception as error:  # noqa: BLE001 - whatever a file does, it costs its own rows only
            for row in wanted:
                row.error = _words(error)
            return rows
        for row in wanted:
            try:
                part = image if row.box is None else crop(image, row.box, self.margins)
                row.image = self.captioner.prepare(part)
            except Exception as error:  # noqa: BLE001
                row.error = _words(error)
        return rows


def _words(error: Exception) -> str:
    if isinstance(error, ImageError):
        return f"{error.code}: {error}"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _prepared(groups: Iterable[list[_Row]], worker: _Worker, threads: int, batch_size: int) -> Iterator[_Row]:
    """The rows in order, read ahead by about two batches."""
    with opencv_alone(), ThreadPoolExecutor(threads, thread_name_prefix="caption") as pool:
        groups = iter(groups)
        ahead: deque[Future[list[_Row]]] = deque(
            pool.submit(worker, group) for group in itertools.islice(groups, 2 * batch_size)
        )
        try:
            while ahead:
                yield from ahead.popleft().result()
                ahead.extend(pool.submit(worker, group) for group in itertools.islice(groups, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _captioned(rows: Iterator[_Row], captioner: Captioner, batch_size: int) -> Iterator[_Row]:
    """The rows with their captions, in order."""
    waiting: list[_Row] = []
    batch: list[_Row] = []
    proved = False
    for row in rows:
        waiting.append(row)
        if row.error is None:
            batch.append(row)
        if len(batch) == batch_size:
            proved = _caption(batch, captioner, proved)
            yield from waiting
            waiting, batch = [], []
    if batch:
        _caption(batch, captioner, proved)
    yield from waiting


def _caption(batch: Sequence[_Row], captioner: Captioner, proved: bool) -> bool:
    """Captions a batch; if that fails, image by image. Says whether the model has captioned anything so far.

    Raises:
        RuntimeError: if the model fails at every image, and has done nothing else yet.
    """
    images = [row.image for row in batch if row.image is not None]
    try:
        texts: list[str | Exception] = list(captioner.captions(images))
    except Exception:  # noqa: BLE001 - which image it was is found one by one
        texts = [_alone(captioner, image) for image in images]
    failures = [text for text in texts if isinstance(text, Exception)]
    if len(failures) == len(batch) and not proved:
        raise RuntimeError(f"model {captioner.id} fails: {failures[0]}") from failures[0]
    for row, text in zip(batch, texts, strict=True):
        row.image = None
        if isinstance(text, Exception):
            row.error = f"the model failed: {text}"
        elif text.strip():
            row.caption = text
        else:
            row.error = EMPTY
    return True


def _alone(captioner: Captioner, image: NDArray[Any]) -> str | Exception:
    try:
        return captioner.captions([image])[0]
    except Exception as error:  # noqa: BLE001 - it becomes the row's error
        return error


def _frame(rows: Sequence[_Row], captioner: Captioner) -> pl.DataFrame:
    columns = {
        "index": pl.Series([row.index for row in rows], dtype=pl.Int64),
        "caption": pl.Series([row.caption for row in rows], dtype=pl.String),
        "model": pl.Series([captioner.id] * len(rows), dtype=pl.String),
        "error": pl.Series([row.error for row in rows], dtype=pl.String),
    }
    return CAPTIONS.frame(pl.DataFrame(columns))
