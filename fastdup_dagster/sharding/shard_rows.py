"""The rows of a shard as whole part files: every task has its row in them, copies and reused rows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fastdup_dagster.schemas import TableSchema
from fastdup_dagster.stages.decode_worker import ChunkRows
from fastdup_dagster.stages.embedding_backend import Counts
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows
from fastdup_dagster.stages.table_plan import frame_of

# Rows in Python take several times the memory of those of a frame.
_BLOCK = 1_024


class ShardRows:
    """Takes the rows of chunks and puts them in order; copies are looked for within the shard.

    Args:
        known: per table, the rows that may be reused.
    """

    def __init__(self, known: Mapping[str, ReusableRows]) -> None:
        self.counts = Counts()
        self._tables = {name: _TableRows(rows) for name, rows in known.items()}

    def __call__(self, result: ChunkRows) -> None:
        """Takes what came of a chunk."""
        for name, table in self._tables.items():
            table.take(result, name)
        self.counts.computed += result.computed
        self.counts.reused += result.size - result.computed
        self.counts.inferred += result.inferred
        self.counts.nonfinite += result.nonfinite

    def frame(self, table: str, positions: Sequence[int], keys: Sequence[str]) -> pl.DataFrame:
        """The rows of these positions with these keys, in this order."""
        return self._tables[table].frame(positions, keys)


class _TableRows:
    """Rows of one table, computed, copied and reused."""

    def __init__(self, known: ReusableRows) -> None:
        self._schema: TableSchema = known.schema
        self._known = known
        self._pending: dict[int, dict[str, object]] = {}
        self._frames: list[pl.DataFrame] = []
        self._place: dict[int, int] = {}
        self._copies: dict[int, int] = {}
        self._reused: dict[int, tuple[int, int]] = {}

    def take(self, result: ChunkRows, name: str) -> None:
        self._copies |= result.copies[name]
        self._reused |= result.reused[name]
        self._pending |= result.rows[name]
        if len(self._pending) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        rows = [{"index": position, "source_key": "", **values} for position, values in self._pending.items()]
        if rows:
            self._append(list(self._pending), frame_of(self._schema, rows))
        self._pending = {}

    def _append(self, positions: Sequence[int], frame: pl.DataFrame) -> None:
        first = len(self._place)
        self._place |= {position: first + row for row, position in enumerate(positions)}
        self._frames.append(frame.select(self._schema.names))

    def frame(self, positions: Sequence[int], keys: Sequence[str]) -> pl.DataFrame:
        self._flush()
        if self._reused:
            files, rows = np.array(list(self._reused.values())).T
            self._append(list(self._reused), self._known.frame(files.astype(np.int32), rows))
        places = [self._place[self._copies.get(position, position)] for position in positions]
        index = pl.Series("index", positions, dtype=pl.Int64)
        frame = pl.concat([self._schema.frame(frame) for frame in self._frames])[places]
        return self._schema.frame(frame.with_columns(index, pl.Series("source_key", keys, dtype=pl.String)))


def is_whole(path: Path, schema: TableSchema, recipe: str, keys: Sequence[str]) -> bool:
    """Whether a part file holds the rows of these keys, and none that failed for a reason that may pass."""
    files, _ = ReusableRows(schema, recipe, [path] if path.exists() else []).find(keys)
    return bool((files != NOWHERE).all())
