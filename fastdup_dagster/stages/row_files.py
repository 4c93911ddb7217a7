"""Files that rows are read from, block by block: published tables are Parquet, parts of a pass Arrow's own format.

A part lives as long as the pass. Written and read once, it costs a tenth of the time of Parquet, and hardly more space.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastdup_dagster.schemas import TableSchema
from fastdup_dagster.storage import checked

_PART_SUFFIX = ".arrow"
PARTS = f"part-*{_PART_SUFFIX}"
# Rows of a part that are read at a time: of the same order as those of a published table's row group.
_PART_BLOCK = 1_024
# Rows that lie together are cut out, which copies nothing; where runs of them are shorter than this, copying is faster.
SHORT_RUN = 8


class RowFile(Protocol):
    """An open file of rows. What reads rows raises `DamagedFileError` where they are not what was written."""

    @property
    def schema(self) -> pa.Schema:
        """Of its rows."""

    @property
    def sizes(self) -> Sequence[int]:
        """Rows of each block."""

    def block(self, number: int) -> pa.Table:
        """The rows of one block."""

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Some columns of all rows."""


@contextmanager
def open_rows(path: Path) -> Iterator[RowFile]:
    """Opens a published table or a part, for as long as the context lasts.

    Raises:
        OSError: if it cannot be read.
        pyarrow.ArrowException: if it is not such a file.
    """
    if path.suffix == _PART_SUFFIX:
        with pa.OSFile(str(path), "rb") as source:
            yield _Part(path, source)
    else:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield _Table(path, file)


def rows_in(path: Path) -> int:
    """Rows of a published table or a part; raises as `open_rows` does."""
    with open_rows(path) as file:
        return sum(file.sizes)


def part_name(name: str) -> str:
    """File name of a part, as the next pass finds it by `PARTS`."""
    return f"part-{name}{_PART_SUFFIX}"


def picked(tables: Sequence[pa.Table], numbers: NDArray[np.integer], rows: NDArray[np.integer]) -> pa.Table:
    """One table of rows out of several, in the order asked for.

    Args:
        tables: all of one schema.
        numbers: which table each row is in.
        rows: its place there.
    """
    starts = np.flatnonzero((np.diff(numbers, prepend=-1) != 0) | (np.diff(rows, prepend=-2) != 1))
    if len(starts) * SHORT_RUN <= len(rows):
        lengths = np.diff(starts, append=len(rows))
        runs = zip(numbers[starts].tolist(), rows[starts].tolist(), lengths.tolist(), strict=True)
        return pa.concat_tables([tables[number].slice(row, length) for number, row, length in runs])
    offsets = np.cumsum([0, *(table.num_rows for table in tables)])
    # In one piece, as `take` looks for the piece of each row.
    return rows_at(pa.concat_tables(tables).combine_chunks(), offsets[numbers] + rows)


def rows_at(table: pa.Table, places: NDArray[np.integer]) -> pa.Table:
    """A copy of the rows at these places, in this order."""
    # By way of polars: pyarrow would import pandas to look at an array of NumPy.
    return table.take(pl.Series(places).to_arrow())


def with_columns(table: pa.Table, columns: Mapping[str, pl.Series]) -> pa.Table:
    """The table with other values in some of its columns; their types stay."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, values.to_arrow().cast(field.type))
    return table


def write_part(schema: TableSchema, frame: pl.DataFrame, path: Path) -> None:
    """Writes a part file, whole or not at all; several processes may write the same one."""
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    # In the schema's own types, not polars's: a part of other types would not be recognised after a kill.
    table = frame.to_arrow().cast(schema.arrow).combine_chunks()
    try:
        with temporary.open("wb") as file:
            with pa.ipc.new_file(file, schema.arrow) as writer:
                writer.write_table(table, max_chunksize=_PART_BLOCK)
            file.flush()
            os.fsync(file.fileno())  # the format would not notice a hole that a crash of the machine leaves
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Table:
    """A Parquet file; its blocks are its row groups."""

    def __init__(self, path: Path, file: pq.ParquetFile) -> None:
        self._path, self._file = path, file

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    @property
    def sizes(self) -> Sequence[int]:
        return [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]

    def block(self, number: int) -> pa.Table:
        with checked(self._path):
            return self._file.read_row_group(number)

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        with checked(self._path):
            return pl.read_parquet(self._path, columns=list(names), glob=False).select(names)


class _Part:
    """A file of Arrow's IPC format; its blocks are its record batches."""

    def __init__(self, path: Path, source: pa.NativeFile) -> None:
        self._path, self._source = path, source
        self._file = pa.ipc.open_file(source)

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema

    @property
    def sizes(self) -> Sequence[int]:
        # Each batch's length stands before its columns, so none of them is read.
        self._source.seek(0)
        first = pa.ipc.open_file(self._source, options=pa.ipc.IpcReadOptions(included_fields=[0]))
        return [first.get_batch(number).num_rows for number in range(first.num_record_batches)]

    def block(self, number: int) -> pa.Table:
        with checked(self._path):
            return pa.Table.from_batches([self._file.get_batch(number)])

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        # All of it is checked when it is first asked for, as a stopped pass is gone on with: what a crash of the
        # machine left would otherwise be followed outside its memory.
        with checked(self._path):
            rows = self._file.read_all()
            rows.validate(full=True)
        return pl.DataFrame(rows.select(names))
