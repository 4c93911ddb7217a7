"""The digest of a table: equal for equal rows, however they were cut into blocks."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl
import pyarrow as pa

_Path = tuple[str, ...]


class TableDigest:
    """Hash of a table's schema and rows, taken block by block.

    Columns are hashed apart, so the result does not depend on how rows are cut into blocks. A null counts
    as its own value. Columns that say where a row came from (`TableSchema.volatile`) are left out.
    """

    def __init__(self, schema: pa.Schema, volatile: frozenset[str] = frozenset()) -> None:
        self._fields = [field for field in schema if field.name not in volatile]
        self._hashes: dict[_Path, hashlib.blake2b] = {}
        self._rows = 0

    def update(self, table: pa.Table) -> None:
        """Adds rows."""
        self._rows += table.num_rows
        # By way of polars: pyarrow's own conversions import pandas, 80 MB and .3 s that an analysis has no use for.
        frame = pl.DataFrame(table.select([field.name for field in self._fields]))
        for series in frame:
            self._add((series.name,), series)

    def hexdigest(self) -> str:
        """32 hex digits."""
        described = {
            "rows": self._rows,
            "fields": [[field.name, str(field.type)] for field in self._fields],
            "values": [[path, digest.hexdigest()] for path, digest in sorted(self._hashes.items())],
        }
        return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()

    def _feed(self, path: _Path, values: np.ndarray) -> None:
        digest = self._hashes.setdefault(path, hashlib.blake2b(digest_size=16))
        digest.update(np.ascontiguousarray(values).data)

    def _add(self, path: _Path, values: pl.Series) -> None:
        """Feeds validity, lengths and values of one column to a hash each: where blocks are cut leaves no trace."""
        if values.is_empty():
            return
        # Most columns are full: polars's own ways to look for nulls and to fill them cost more than the hash.
        full = values.null_count() == 0
        valid = np.ones(len(values), dtype=np.uint8) if full else values.is_not_null().to_numpy().view(np.uint8)
        self._feed((*path, "valid"), valid)
        kind = values.dtype
        if isinstance(kind, pl.Array):
            self._add((*path, "item"), (values if full else values.drop_nulls()).explode())
        elif isinstance(kind, pl.List):
            lengths = values.list.len().fill_null(0)
            self._feed((*path, "length"), lengths.to_numpy())
            self._add((*path, "item"), values.filter(lengths > 0).explode())
        elif isinstance(kind, pl.Struct):
            for number, part in enumerate(values.struct.unnest()):
                self._add((*path, str(number)), part)
        elif kind == pl.String:
            text = values if full else values.fill_null("")
            self._feed((*path, "length"), text.str.len_bytes().to_numpy())
            self._feed((*path, "text"), np.frombuffer("".join(text.to_list()).encode(), dtype=np.uint8))
        elif kind == pl.Boolean:
            self._feed(path, (values if full else values.fill_null(False)).to_numpy().view(np.uint8))
        elif kind.is_numeric() and not kind.is_decimal():
            self._feed(path, (values if full else values.fill_null(0)).to_numpy())
        elif kind.is_temporal():
            self._add((*path, "ticks"), values.to_physical())
        elif kind != pl.Null:  # what a user's column may hold besides: bytes, decimals
            shown = [None if value is None else repr(value) for value in values.to_list()]
            self._add((*path, "text"), pl.Series(shown, dtype=pl.String))
