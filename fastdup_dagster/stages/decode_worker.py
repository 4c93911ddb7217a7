"""What one worker thread does with a chunk of images: read, hash, decode, measure, embed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images import (
    ImageError,
    content_hash,
    decode,
    pixel_hash,
    read_bytes,
    statistics,
    thumbnail,
    to_square,
    working_image,
)
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.reuse import ReusableRows

# Images a call of the model. More is not faster on a CPU and costs memory (measured).
BATCH = 8
# A JPEG is decoded at the smallest DCT scale that keeps both sides at twice the working size: from there on
# the area average differs little from that of the full image (the figures are in docs/statistics.md).
DECODE_SIDE = 448


@dataclass(frozen=True, slots=True)
class Task:
    """One image to work on, and the tables that still need its row."""

    position: int
    index: int
    uri: str
    tables: frozenset[str]


@dataclass
class ChunkRows:
    """The rows of a chunk, by table and position; or where a row with the same bytes already is."""

    size: int
    rows: dict[str, dict[int, dict[str, Any]]]
    reused: dict[str, dict[int, tuple[int, int]]]
    inferred: int = 0
    nonfinite: int = 0


@dataclass
class _Batch:
    """Squares that wait for the model; the buffer is filled in place and handed over as it is."""

    pixels: NDArray[np.uint8]
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


class DecodeWorker:
    """Turns chunks of tasks into rows. Stateless between calls, so threads share one.

    Args:
        settings: what to compute.
        model: gives the feature vectors.
        known: per table to make, the rows that may be reused.
    """

    def __init__(self, settings: Settings, model: EmbeddingModel, known: Mapping[str, ReusableRows]) -> None:
        self._settings = settings
        self._model = model
        self._known = known

    def __call__(self, tasks: Sequence[Task]) -> ChunkRows:
        """The rows of these tasks. An image that fails becomes a row with the reason."""
        result = ChunkRows(len(tasks), {name: {} for name in self._known}, {name: {} for name in self._known})
        side = self._model.side
        batch = _Batch(np.empty((BATCH, side, side, 3), dtype=np.uint8))
        for task in tasks:
            try:
                self._one(task, batch, result)
            except ImageError as error:
                self._fail(task, error.code, str(error), result)
            except Exception as error:  # noqa: BLE001 - whatever a file does, it costs its own row only
                self._fail(task, "CORRUPT_IMAGE", f"{type(error).__name__}: {error}", result)
            if len(batch.rows) == BATCH:
                self._embed(batch, result)
        self._embed(batch, result)
        return result

    def _one(self, task: Task, batch: _Batch, result: ChunkRows) -> None:
        data = read_bytes(task.uri)
        digest = content_hash(data)
        missing = set(task.tables)
        for name in task.tables:
            if (place := self._known[name].find_content(digest)) is not None:
                result.reused[name][task.position] = place
                missing.discard(name)
        if not missing:
            return
        try:
            self._compute(task, data, digest, missing, batch, result)
        except ImageError as error:
            self._fail(task, error.code, str(error), result, missing, digest, len(data))

    def _compute(
        self, task: Task, data: bytes, digest: str, tables: set[str], batch: _Batch, result: ChunkRows
    ) -> None:
        image = decode(data, DECODE_SIDE, self._settings.max_pixels)
        square = to_square(image.pixels)
        if "img_stats" in tables:
            measured = (
                statistics(working_image(image, square), self._settings.run_advanced_stats)
                if self._settings.run_stats
                else {}
            )
            result.rows["img_stats"][task.position] = {
                "content_hash": digest,
                "pixel_hash": pixel_hash(image),
                "format": image.format,
                "img_w": image.width,
                "img_h": image.height,
                "has_alpha": image.has_alpha,
                "is_truncated": image.is_truncated,
                "file_size": len(data),
                "thumbnail": thumbnail(square).ravel(),
                **measured,
            }
        if "embeddings" in tables:
            side = self._model.side
            batch.pixels[len(batch.rows)] = square if side == square.shape[0] else to_square(image.pixels, side)
            batch.rows.append((task.position, {"content_hash": digest, "model": self._model.id}))

    def _embed(self, batch: _Batch, result: ChunkRows) -> None:
        if not batch.rows:
            return
        vectors = self._model.embed(batch.pixels[: len(batch.rows)])
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
        tables: set[str] | frozenset[str] | None = None,
        digest: str | None = None,
        size: int | None = None,
    ) -> None:
        for name in task.tables if tables is None else tables:
            row: dict[str, Any] = {"error_code": code, "error": message, "content_hash": digest}
            row |= {"model": self._model.id} if name == "embeddings" else {"file_size": size}
            result.rows[name][task.position] = row
