"""The digest of a table: equal for equal rows, however they were cut into blocks."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

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
        for field in self._fields:
            for chunk in table.column(field.name).chunks:
                self._add((field.name,), chunk)

    def hexdigest(self) -> str:
        """32 hex digits."""
        described = {
            "rows": self._rows,
            "fields": [[field.name, str(field.type)] for field in self._fields],
            "values": [[path, digest.hexdigest()] for path, digest in sorted(self._hashes.items())],
        }
        return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()

    def _feed(self, path: _Path, values: NDArray[np.generic]) -> None:
        digest = self._hashes.setdefault(path, hashlib.blake2b(digest_size=16))
        digest.update(np.ascontiguousarray(values).data)

    def _add(self, path: _Path, values: pa.Array) -> None:
        """Feeds validity, lengths and values of one column to a hash each: where blocks are cut leaves no trace."""
        if not len(values):
            return
        valid = _valid(values)
        self._feed((*path, "valid"), valid)
        kind = values.type
        if pa.types.is_fixed_size_list(kind):
            self._add((*path, "item"), values.flatten())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._feed((*path, "length"), _lengths(values, valid))
            self._add((*path, "item"), values.flatten())
        elif pa.types.is_struct(kind):
            for number, part in enumerate(values.flatten()):
                self._add((*path, str(number)), part)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._feed((*path, "length"), _lengths(values, valid))
            self._feed((*path, "text"), _text(values.drop_null() if values.null_count else values))
        elif pa.types.is_boolean(kind):
            self._feed(path, _bits(values, 1) & valid)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers = _numbers(values)
            self._feed(path, np.where(valid, numbers, 0).astype(numbers.dtype) if values.null_count else numbers)
        elif pa.types.is_temporal(kind):
            self._add((*path, "ticks"), values.view(pa.int64() if kind.bit_width == 64 else pa.int32()))
        elif not pa.types.is_null(kind):  # what a user's column may hold besides: bytes, decimals
            shown = [None if value is None else repr(value) for value in pl.Series(values).to_list()]
            self._add((*path, "text"), pl.Series(shown, dtype=pl.String).to_arrow().cast(pa.large_string()))


# The buffers themselves: by pyarrow's own ways to NumPy pandas is imported, 80 MB and .3 s an analysis has no use for.


def _bits(values: pa.Array, buffer: int) -> NDArray[np.uint8]:
    """A buffer of bits, one byte of 0 or 1 a row."""
    first, skipped = divmod(values.offset, 8)
    packed = np.frombuffer(values.buffers()[buffer], dtype=np.uint8, offset=first)
    return np.unpackbits(packed, count=skipped + len(values), bitorder="little")[skipped:]


def _valid(values: pa.Array) -> NDArray[np.uint8]:
    """Whether each row has a value."""
    if pa.types.is_null(values.type):
        return np.zeros(len(values), dtype=np.uint8)
    # A column that may be null need not have the buffer, and one that has it need not have nulls.
    return _bits(values, 0) if values.null_count else np.ones(len(values), dtype=np.uint8)


def _numbers(values: pa.Array) -> NDArray[np.generic]:
    """Numbers, whatever stands in rows without a value."""
    dtype = np.dtype(values.type.to_pandas_dtype())
    return np.frombuffer(values.buffers()[1], dtype, count=len(values), offset=values.offset * dtype.itemsize)


def _offsets(values: pa.Array) -> NDArray[np.integer]:
    """Where the items of each row of texts or lists begin, and where the last one's end."""
    large = pa.types.is_large_string(values.type) or pa.types.is_large_list(values.type)
    dtype = np.dtype(np.int64 if large else np.int32)
    return np.frombuffer(values.buffers()[1], dtype, count=len(values) + 1, offset=values.offset * dtype.itemsize)


def _lengths(values: pa.Array, valid: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Length of each text, in bytes, or list; 0 where there is none."""
    return (np.diff(_offsets(values)) * valid).astype(np.uint32)


def _text(values: pa.Array) -> NDArray[np.uint8]:
    """The bytes of all texts, one after another; every row has one."""
    offsets, data = _offsets(values), values.buffers()[2]
    return np.frombuffer(data or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
