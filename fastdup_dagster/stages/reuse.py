"""Rows that need not be computed again: those of the published table, and the parts of an unfinished pass.

A row is found by its `source_key` (`recipe:token`), without reading the image, or by the hash of its bytes
under the same recipe, which costs a read. Rows that failed for a reason that may pass are not reused.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fastdup_dagster.schemas import TableSchema
from fastdup_dagster.stages.row_files import SHORT_RUN, RowFile, open_rows, picked, rows_at

NOWHERE = -1
MODEL_FAILED = "the model failed"
# One of the published table and one of a part: between rows that are known lie those that are new.
_HELD = 2
_MAPPING = threading.Lock()
# Reasons that are not in the bytes: the next time they may be gone.
_TRANSIENT = ("READ_ERROR", "MISSING_FILE", "MISSING_ANNOTATION", MODEL_FAILED)


def source_tokens(manifest: pl.DataFrame) -> list[str]:
    """What each row is made from: a hash of path, change token and geometry, 32 hex digits."""
    columns = manifest.select(
        "uri",
        "file_size",
        pl.col("mtime").dt.timestamp("ns"),
        "etag",
        pl.col("box").list.eval(pl.element().cast(pl.String)).list.join(","),
        "timestamp",
    )
    return [text_hash(repr(row)) for row in columns.iter_rows()]


def source_keys(tokens: Sequence[str], recipe: str) -> list[str]:
    """`recipe:token` of each token: how a row of a table is found that was made from the same by the same recipe."""
    return [f"{recipe}:{token}" for token in tokens]


def text_hash(text: str) -> str:
    """What recipes and tokens are told apart by: BLAKE2b, 32 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class ReusableRows:
    """Rows of one table in several files (`row_files`), found by key and read in any order.

    Args:
        schema: the table's schema.
        recipe: what a row must have been made by to be of use.
        files: the files to look in, the first one wins. A file of other columns, or a broken one, is passed over.
    """

    def __init__(self, schema: TableSchema, recipe: str, files: Sequence[Path]) -> None:
        self.schema = schema
        self.recipe = recipe
        self._files: list[Path] = []
        self._by_key: dict[str, tuple[int, int]] = {}
        self._by_content: dict[str, tuple[int, int]] | None = None
        # The blocks that were read last: where rows are in order, the next ones often begin in them.
        self._held: dict[tuple[int, int], pa.Table] = {}
        for path in files:
            self._add(path)

    def _add(self, path: Path) -> None:
        # Where there is no code of its own, the reason begins with one.
        reason = "error_code" if "error_code" in self.schema.names else "error"
        try:
            with open_rows(path) as file:
                if not file.schema.equals(self.schema.arrow):
                    return
                keys = file.columns(["source_key", reason])
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
            return
        number = self.add_file(path)
        for row, (key, why) in enumerate(keys.iter_rows()):
            if not (why or "").startswith(_TRANSIENT) and key.startswith(self.recipe):
                self._by_key.setdefault(key, (number, row))

    def add_file(self, path: Path) -> int:
        """Adds a file whose rows the caller keeps track of, and returns its number."""
        self._files.append(path)
        return len(self._files) - 1

    @property
    def files(self) -> Sequence[Path]:
        """The files, by number."""
        return self._files

    def find(self, keys: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Where the rows of these keys are: file numbers (NOWHERE if not known) and rows."""
        places = [self._by_key.get(key, (NOWHERE, 0)) for key in keys]
        return np.array([p[0] for p in places], dtype=np.int32), np.array([p[1] for p in places], dtype=np.int64)

    def find_content(self, content_hash: str) -> tuple[int, int] | None:
        """Where a row made from the same bytes by the same recipe is; raises `DamagedFileError` as `take` does."""
        if self._by_content is None:
            with _MAPPING:  # all threads of a pass ask at the same time
                if self._by_content is None:
                    self._by_content = self._mapped()
        return self._by_content.get(content_hash)

    def _mapped(self) -> dict[str, tuple[int, int]]:
        """Places of the rows, by the hash of the bytes that they were made from."""
        known: dict[int, list[tuple[int, int]]] = {}
        for place in sorted(self._by_key.values()):
            known.setdefault(place[0], []).append(place)
        found: dict[str, tuple[int, int]] = {}
        for number, places in known.items():
            with open_rows(self._files[number]) as file:
                hashes = file.columns(["content_hash"])["content_hash"]
            for value, place in zip(hashes.gather([row for _, row in places]), places, strict=True):
                if value is not None:
                    found.setdefault(value, place)
        return found

    def take(self, file_numbers: NDArray[np.int32], rows: NDArray[np.int64]) -> pa.Table:
        """The rows at these places, in this order, one at least. Memory holds a few times of them, and a block.

        Raises:
            DamagedFileError: if a file does not hold what was written to it.
        """
        blocks: list[pa.Table] = []
        numbers, insides = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
        for number in np.unique(file_numbers):
            wanted = np.flatnonzero(file_numbers == number)
            for block, inside, which in self.groups(int(number), rows[wanted]):
                # What is cut out of a block keeps all of it in memory, and short runs would be copied in the end.
                runs = 1 + np.count_nonzero(np.diff(inside) != 1)
                if len(inside) * 2 < block.num_rows or runs * SHORT_RUN > len(inside):
                    block = rows_at(block, inside)
                    inside = np.arange(len(inside))
                numbers[wanted[which]], insides[wanted[which]] = len(blocks), inside
                blocks.append(block)
        return picked(blocks, numbers, insides)

    def frame(self, file_numbers: NDArray[np.int32], rows: NDArray[np.int64]) -> pl.DataFrame:
        """The same as a frame."""
        taken = self.take(file_numbers, rows)
        # In a copy: polars refuses arrays with nulls that begin in the middle of others.
        return pl.DataFrame(rows_at(taken, np.arange(len(rows))))

    def groups(
        self, file_number: int, rows: NDArray[np.int64]
    ) -> Iterator[tuple[pa.Table, NDArray[np.int64], NDArray[np.int64]]]:
        """For each block that holds some of the rows: the block, rows inside it, and which of `rows` they are."""
        with open_rows(self._files[file_number]) as file:
            sizes = file.sizes
            ends = np.cumsum(sizes)
            groups = np.searchsorted(ends, rows, side="right")
            for number in np.unique(groups).tolist():
                which = np.flatnonzero(groups == number)
                block = self._block(file, (file_number, number))
                yield block, rows[which] - (ends[number] - sizes[number]), which

    def _block(self, file: RowFile, place: tuple[int, int]) -> pa.Table:
        """A block of a file, by the numbers of both."""
        block = self._held.pop(place, None)
        if block is None:
            while len(self._held) >= _HELD:  # before the next is read, so that there are not more
                self._held.pop(next(iter(self._held)))
            block = file.block(place[1])
        self._held[place] = block  # the last of all to go
        return block
