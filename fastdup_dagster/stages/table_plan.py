"""Where each row of a table will come from in a pass, and the part files that hold what the pass has computed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.schemas import Column, TableSchema
from fastdup_dagster.stages.reuse import ReusableRows
from fastdup_dagster.storage import write_parquet

PARTS = "part-*.parquet"


@dataclass
class TablePlan:
    """Where each row of one table will come from."""

    schema: TableSchema
    keys: list[str]
    rows: ReusableRows
    parts: Path
    file: NDArray[np.int32]
    row: NDArray[np.int64]
    pending: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    copies: dict[int, int] = field(default_factory=dict)

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


def part_name(name: str) -> str:
    """File name of a part, as the next pass finds it by `PARTS`."""
    return f"part-{name}.parquet"


def frame_of(schema: TableSchema, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table from plain values by column; a column that a row does not name is null."""
    return schema.frame(pl.DataFrame([_series(column, rows) for column in schema.columns]))


def write_part(schema: TableSchema, frame: pl.DataFrame, path: Path) -> None:
    """Writes a part file, whole or not at all; several processes may write the same one."""
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    # In the schema's own types, not polars's: a part of other types would not be recognised after a kill.
    write_parquet(frame.to_arrow().cast(schema.arrow), temporary)
    temporary.rename(path)


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
