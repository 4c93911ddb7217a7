"""Where each row of a table comes from: a published table, part files of a killed pass, or the pass that begins now.

What a pass has finished is written as part files beside the store, so that a killed one goes on where it stopped; in
the end parts and reused rows are read in id order.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fastdup_dagster.schemas import Column, TableSchema
from fastdup_dagster.stages.decode_worker import Task
from fastdup_dagster.stages.ordered_rows import ordered_blocks
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows, source_keys
from fastdup_dagster.stages.row_files import PARTS, part_name, picked, with_columns, write_part


@dataclass
class TablePlan:
    """Where each row of one table will come from.

    Attributes:
        schema: of the table.
        keys: source key of each instance of the listing.
        rows: the files that hold rows.
        parts: folder of the part files.
        file: number of the file that holds the row of each instance, NOWHERE if none does.
        row: its row in that file.
        pending: position and values of rows that are computed and not written yet.
        copies: position of an instance with the same bytes, which gets the row.
    """

    schema: TableSchema
    keys: list[str]
    rows: ReusableRows
    parts: Path
    file: NDArray[np.int32]
    row: NDArray[np.int64]
    pending: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    copies: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        schema: TableSchema,
        recipe: str,
        manifest: pl.DataFrame,
        tokens: Sequence[str],
        published: Sequence[Path],
        parts: Path,
    ) -> TablePlan:
        """The plan of a listing: what is known of it, by the recipe that rows are made by.

        Args:
            schema: of the table.
            recipe: what decides a row besides the image itself, 32 hex digits.
            manifest: the table `image_manifest`, or some of its rows.
            tokens: `source_tokens` of it.
            published: files of the table to take rows from.
            parts: folder of the part files; what is there already is of use.
        """
        rows = ReusableRows(schema, recipe, [*published, *sorted(parts.glob(PARTS))])
        keys = source_keys(tokens, recipe)
        file, row = rows.find(keys)
        # What the listing refuses now has no row, whatever an earlier listing made of the same file.
        file[manifest["error_code"].is_not_null().to_numpy()] = NOWHERE
        return cls(schema, keys, rows, parts, file, row)

    def keep(self, position: int, values: dict[str, Any]) -> None:
        """Takes a row that was computed; `flush` writes it."""
        self.pending.append((position, {**values, "source_key": self.keys[position]}))

    def flush(self) -> None:
        """Writes the pending rows as a part file."""
        if not self.pending:
            return
        frame = frame_of(self.schema, [{"index": position, **row} for position, row in self.pending])
        path = self.parts / part_name(uuid.uuid4().hex)
        write_part(self.schema, frame, path)
        number = self.rows.add_file(path)
        for row, (position, _) in enumerate(self.pending):
            self.file[position], self.row[position] = number, row
        self.pending.clear()

    def settle(self) -> None:
        """Writes what is pending, and gives copies the place of the row that they share."""
        self.flush()
        for position, owner in self.copies.items():
            self.file[position], self.row[position] = self.file[owner], self.row[owner]

    def blocks(
        self, manifest: pl.DataFrame, refused: Callable[[pl.DataFrame], pl.DataFrame], size: int
    ) -> Iterator[pa.Table]:
        """The rows in the order of the listing: ids and keys as they are now, everything else as it was computed.

        Args:
            manifest: that the plan was made for.
            refused: makes the rows of instances that the listing knows to be unusable, of their rows in it.
            size: instances a block.
        """
        taken_blocks = ordered_blocks(self.rows, self.file, self.row, size, self.parts)
        for start, taken in zip(range(0, len(manifest), size), taken_blocks, strict=True):
            block = manifest[start : start + size]
            known = self.file[start : start + size] != NOWHERE
            pieces = [] if taken is None else [taken]
            if not known.all():
                pieces.append(refused(block.filter(pl.Series(~known))).to_arrow().cast(self.schema.arrow))
            if len(pieces) == 2:
                places = np.where(known, np.cumsum(known), np.cumsum(~known)) - 1
                pieces = [picked(pieces, (~known).astype(np.int64), places)]
            keys = pl.Series(self.keys[start : start + size], dtype=pl.String)
            yield with_columns(pieces[0], {"index": block["index"], "source_key": keys})


def tasks_of(manifest: pl.DataFrame, plans: Mapping[str, TablePlan]) -> Iterator[Task]:
    """What has to be worked on: the instances that a table has no row of, with the tables that lack it."""
    columns = manifest.select("index", "uri", "box", "file_size")
    for position, (index, uri, box, size) in enumerate(columns.iter_rows()):
        missing = frozenset(name for name, plan in plans.items() if plan.file[position] == NOWHERE)
        if missing:
            yield Task(position, index, uri, missing, None if box is None else tuple(box), size)


def frame_of(schema: TableSchema, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table from plain values by column; a column that a row does not name is null."""
    return schema.frame(pl.DataFrame([_series(column, rows) for column in schema.columns]))


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
