"""What one worker thread does with a chunk of images: read, hash, decode, measure, embed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images import (
    WORKING_SIDE,
    Decoded,
    ImageError,
    Margins,
    content_hash,
    crop,
    decode,
    geometry,
    pixel_hash,
    read_bytes,
    statistics,
    thumbnail,
    working_image,
)
from fastdup_dagster.models import BATCH, EmbeddingModel
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.parts import Part, part_of
from fastdup_dagster.stages.reuse import ReusableRows

Reader = Callable[[str], bytes]

CHUNK = 36
# A JPEG is decoded at the smallest DCT scale that keeps both sides at twice the working size: from there on
# the area average differs little from that of the full image (the figures are in docs/statistics.md).
DECODE_SIDE = 2 * WORKING_SIDE


def decode_side(model: EmbeddingModel) -> int:
    """The least side in pixels that a JPEG is decoded at: nobody gets it enlarged; 0 for its full size."""
    return 0 if model.crops else max(DECODE_SIDE, model.side)


@dataclass(frozen=True, slots=True)
class Task:
    """One image to work on, and the tables that still need its row."""

    position: int
    index: int
    uri: str
    tables: frozenset[str]
    box: tuple[float, ...] | None = None
    file_size: int | None = None


def chunked(
    tasks: list[Task], most_bytes: int | None = None, most: int = CHUNK, workers: int = 1
) -> Iterator[list[Task]]:
    """Chunks of about `most` tasks; crops of one image are never parted, so that it is decoded once.

    Args:
        tasks: all of a pass.
        most_bytes: a chunk ends, too, where its files come to so much.
        most: tasks of a chunk.
        workers: that work on chunks side by side. Towards the end chunks get smaller, so that all have enough to do.
    """
    if most_bytes is None and not any(task.box for task in tasks):
        start = 0
        while start < len(tasks):
            end = start + _size(len(tasks) - start, most, workers)
            yield tasks[start:end]
            start = end
        return
    by_image: dict[str, list[Task]] = {}
    for task in tasks:
        by_image.setdefault(task.uri, []).append(task)
    chunk: list[Task] = []
    size, left = 0, len(tasks)
    for crops in by_image.values():
        chunk += crops
        size += crops[0].file_size or 0
        if len(chunk) >= _size(left, most, workers) or (most_bytes is not None and size >= most_bytes):
            yield chunk
            left -= len(chunk)
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(left: int, most: int, workers: int) -> int:
    """Tasks of the next chunk: `most` at first, then two chunks a worker of what is left, in whole batches."""
    if workers == 1:
        return most
    share = math.ceil(left / (2 * workers))
    return min(most, math.ceil(share / BATCH) * BATCH)


def reading_runs(
    tasks: list[Task], most_bytes: int | None = None, most: int = CHUNK, workers: int = 1
) -> Iterator[Iterator[list[Task]]]:
    """Chunks in runs: those of one run must be worked on one after another, different runs may go side by side.

    A run is one chunk, but for a video, whose frames are decoded from front to back by one worker at a time. Members of
    an archive are read in the order in which they lie there.

    Args:
        tasks: all of a pass.
        most_bytes: a chunk ends, too, where its files or members come to so much.
        most: tasks of a chunk.
        workers: see `chunked`; the end is that of a container where there are some.
    """
    parts: dict[str, list[tuple[Part, Task]]] = {}
    for task in tasks:
        if (part := part_of(task.uri)) is not None:
            parts.setdefault(part.container, []).append((part, task))
    others = tasks if not parts else [task for task in tasks if part_of(task.uri) is None]
    yield from (iter([chunk]) for chunk in chunked(others, most_bytes, most, workers))
    for inside in parts.values():
        in_order = [task for _, task in sorted(inside, key=lambda pair: pair[0].offset)]
        if inside[0][0].kind == "video":
            yield chunked(in_order, most_bytes, most)
        else:
            yield from (iter([chunk]) for chunk in chunked(in_order, most_bytes, most, workers))


@dataclass
class ChunkRows:
    """What came of a chunk, by table and position.

    Attributes:
        size: tasks of the chunk.
        rows: rows that were computed.
        reused: file and row of a known row that was made from the same bytes.
        copies: position of an image of this pass that has the same bytes, and so will have the same row.
        inferred: images that went through the model.
        nonfinite: images whose vector is of no use.
    """

    size: int
    rows: dict[str, dict[int, dict[str, Any]]]
    reused: dict[str, dict[int, tuple[int, int]]]
    copies: dict[str, dict[int, int]]
    inferred: int = 0
    nonfinite: int = 0

    @property
    def computed(self) -> int:
        """Tasks of which a row was computed."""
        return len(set().union(*self.rows.values()))

    @classmethod
    def of(cls, size: int, tables: Collection[str]) -> ChunkRows:
        """Nothing yet, for a chunk of `size` tasks."""
        return cls(size, {name: {} for name in tables}, {name: {} for name in tables}, {name: {} for name in tables})


class ImageFile:
    """One file, read when first asked for, and decoded at full size once for all crops of it."""

    def __init__(self, uri: str, read: Reader, max_pixels: int, min_side: int) -> None:
        self._uri = uri
        self._read = read
        self._max_pixels = max_pixels
        self._min_side = min_side

    @cached_property
    def data(self) -> bytes:
        """The bytes."""
        return self._read(self._uri)

    @cached_property
    def content_hash(self) -> str:
        """Hash of the bytes."""
        return content_hash(self.data)

    @cached_property
    def full(self) -> Decoded:
        """The image at its full size."""
        return decode(self.data, max_pixels=self._max_pixels)

    def reduced(self) -> Decoded:
        """The image at the smallest scale that serves."""
        return decode(self.data, self._min_side, self._max_pixels)


class _Batch:
    """Squares that wait for the model; the buffer is filled in place and handed over as it is."""

    def __init__(self, side: int) -> None:
        self._pixels = np.empty((BATCH, side, side, 3), dtype=np.uint8)
        self.rows: list[tuple[int, dict[str, Any]]] = []

    @property
    def is_full(self) -> bool:
        """Whether it should go to the model now."""
        return len(self.rows) == BATCH

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The squares, n x side x side x 3."""
        return self._pixels[: len(self.rows)]

    def add(self, square: NDArray[np.uint8], position: int, row: dict[str, Any]) -> None:
        """Appends an image and the row that its vector goes into."""
        self._pixels[len(self.rows)] = square
        self.rows.append((position, row))


class DecodeWorker:
    """Turns chunks of tasks into rows. Threads share one for a whole pass.

    Args:
        settings: what to compute.
        model: gives the feature vectors.
        known: per table to make, the rows that may be reused.
        read: gives the bytes of a URI.
    """

    def __init__(
        self,
        settings: Settings,
        model: EmbeddingModel,
        known: Mapping[str, ReusableRows],
        read: Reader = read_bytes,
    ) -> None:
        self._settings = settings
        self._model = model
        self._known = known
        self._read = read
        self._margins = Margins.of(settings)
        # Which position computes the row of these bytes; `setdefault` is atomic, so threads need no lock.
        self._owners: dict[tuple[str, str], int] = {}

    def __call__(self, tasks: Sequence[Task]) -> ChunkRows:
        """The rows of these tasks. An image that fails becomes a row with the reason."""
        result = ChunkRows.of(len(tasks), self._known)
        batch = _Batch(self._model.side)
        for uri, crops in itertools.groupby(tasks, key=lambda task: task.uri):
            file = ImageFile(uri, self._read, self._settings.max_pixels, decode_side(self._model))
            for task in crops:
                try:
                    self._one(task, file, batch, result)
                except ImageError as error:
                    self._fail(task, error.code, str(error), result, task.tables)
                # Outside the try: an error of the model is nobody's broken image, it ends the pass.
                if batch.is_full:
                    self._embed(batch, result)
        self._embed(batch, result)
        return result

    def _one(self, task: Task, file: ImageFile, batch: _Batch, result: ChunkRows) -> None:
        digest = file.content_hash
        if task.box is not None:
            digest = content_hash(f"{digest}:{geometry(task.box, self._margins)}".encode())
        missing = set()
        for name in task.tables:
            if (place := self._known[name].find_content(digest)) is not None:
                result.reused[name][task.position] = place
            elif (owner := self._owners.setdefault((name, digest), task.position)) != task.position:
                result.copies[name][task.position] = owner
            else:
                missing.add(name)
        if not missing:
            return
        try:
            self._compute(task, file, digest, missing, batch, result)
        except ImageError as error:
            self._fail(task, error.code, str(error), result, missing, digest, len(file.data))
        except Exception as error:  # noqa: BLE001 - whatever a file does, it costs its own rows only
            # Not the bytes' fault for certain (memory may have run out): a code that the next run tries again.
            self._fail(task, "READ_ERROR", f"{type(error).__name__}: {error}", result, missing, digest, len(file.data))

    def _compute(
        self, task: Task, file: ImageFile, digest: str, tables: set[str], batch: _Batch, result: ChunkRows
    ) -> None:
        image = file.reduced() if task.box is None else crop(file.full, task.box, self._margins)
        working = working_image(image)
        if "img_stats" in tables:
            measured = statistics(working, self._settings.run_advanced_stats) if self._settings.run_stats else {}
            result.rows["img_stats"][task.position] = {
                "content_hash": digest,
                "pixel_hash": pixel_hash(image),
                "format": image.format,
                "img_w": image.width,
                "img_h": image.height,
                "has_alpha": image.has_alpha,
                "is_truncated": image.is_truncated,
                "file_size": len(file.data),
                "thumbnail": thumbnail(working).ravel(),
                **measured,
            }
        if "embeddings" in tables:
            whole = self._model.crops or self._model.side > WORKING_SIDE
            square = self._model.square(image.pixels if whole else working)
            batch.add(square, task.position, {"content_hash": digest, "model": self._model.id})

    def _embed(self, batch: _Batch, result: ChunkRows) -> None:
        if not batch.rows:
            return
        vectors = self._model.embed(batch.pixels)
        usable = np.all(np.isfinite(vectors), axis=1) & np.any(vectors, axis=1)
        for (position, row), vector, good in zip(batch.rows, vectors, usable, strict=True):
            if good:
                row["embedding"] = vector
            else:
                row |= {"error_code": "INVALID_EMBEDDING", "error": "the model gave a zero or non-finite vector"}
                result.nonfinite += 1
            result.rows["embeddings"][position] = row
        result.inferred += len(batch.rows)
        batch.rows.clear()

    def _fail(
        self,
        task: Task,
        code: str,
        message: str,
        result: ChunkRows,
        tables: Collection[str],
        digest: str | None = None,
        size: int | None = None,
    ) -> None:
        for name in tables:
            row: dict[str, Any] = {"error_code": code, "error": message, "content_hash": digest}
            row |= {"model": self._model.id} if name == "embeddings" else {"file_size": size}
            result.rows[name][task.position] = row
