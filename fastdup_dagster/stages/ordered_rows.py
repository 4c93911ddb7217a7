"""Known rows in the order of a new table, block by block, wherever they lie; the time is that of reading each once.

In the order that they were written in, a block's rows lie together, and are read from there. Scattered ones, such as
the boxes of an annotation file in no order, would have every block read nearly every row group. They are first dealt
out to buckets of neighbouring positions, files that hold a few blocks each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows
from fastdup_dagster.stages.row_files import rows_at

# A bucket is read whole, and takes twice its bytes until it is in order, beside the one before it. It is larger in a
# very large table, so that few enough files are open: a process may have 256 on some systems, and two tables are put
# together at a time.
_BUCKET_BLOCKS = 2
_MOST_BUCKETS = 80
# Reading a row group this many times is not worth a second copy of the table.
_TIMES = 3


def ordered_blocks(
    rows: ReusableRows, files: NDArray[np.int32], places: NDArray[np.int64], block: int, scratch: Path
) -> Iterator[pa.Table | None]:
    """The known rows of each block of positions, in order; None for a block without any.

    Args:
        rows: where they are read from.
        files: file number of each position, NOWHERE if there is no row.
        places: row in that file.
        block: positions of a block.
        scratch: folder for buckets, on a disk with room for a second copy of the table.
    """
    if _scattered(files, places, block):
        yield from _from_buckets(rows, files, places, block, scratch)
        return
    for start in range(0, len(files), block):
        some, where = files[start : start + block], places[start : start + block]
        known = some != NOWHERE
        yield rows.take(some[known], where[known]) if known.any() else None


def _scattered(files: NDArray[np.int32], places: NDArray[np.int64], block: int) -> bool:
    """Whether blocks share row groups so much that these would be read many times; row groups are about a block."""
    known = np.flatnonzero(files != NOWHERE)
    groups = files[known].astype(np.int64) << 40 | places[known] // block
    _, groups = np.unique(groups, return_inverse=True)
    if not len(known):
        return False
    reads = len(np.unique(known // block * (groups.max() + 1) + groups))
    return bool(reads > _TIMES * (groups.max() + 1 + len(files) // block))


def _from_buckets(
    rows: ReusableRows, files: NDArray[np.int32], places: NDArray[np.int64], block: int, scratch: Path
) -> Iterator[pa.Table | None]:
    blocks = -(-len(files) // block)
    size = block * max(_BUCKET_BLOCKS, -(-blocks // _MOST_BUCKETS))
    with tempfile.TemporaryDirectory(prefix="order-", dir=scratch) as folder:
        buckets = [Path(folder) / f"{number}.arrow" for number in range(-(-len(files) // size))]
        _deal(rows, files, places, size, buckets)
        for number, bucket in enumerate(buckets):
            table, positions = _read(bucket)
            for start in range(number * size, min(number * size + size, len(files)), block):
                first, last = np.searchsorted(positions, [start, start + block]).tolist()
                yield table.slice(first, last - first) if last > first else None
            bucket.unlink(missing_ok=True)


def _deal(
    rows: ReusableRows, files: NDArray[np.int32], places: NDArray[np.int64], size: int, buckets: list[Path]
) -> None:
    """Appends each row to the bucket of its position, with the position; every row group is read once."""
    with ExitStack() as opened:
        writers: dict[int, pa.RecordBatchStreamWriter] = {}
        for number in np.unique(files[files != NOWHERE]):
            wanted = np.flatnonzero(files == number)
            for group, inside, which in rows.groups(int(number), places[wanted]):
                positions = wanted[which]
                order = np.argsort(positions, kind="stable")
                positions = positions[order]
                taken = rows_at(group, inside[order])
                taken = taken.append_column("_position", pl.Series(positions).to_arrow())
                starts = np.flatnonzero(np.diff(positions // size, prepend=-1))
                for start, end in zip(starts, [*starts[1:], len(positions)], strict=True):
                    bucket = int(positions[start]) // size
                    if bucket not in writers:
                        writers[bucket] = opened.enter_context(pa.ipc.new_stream(buckets[bucket], taken.schema))
                    writers[bucket].write_table(taken.slice(start, end - start))


def _read(bucket: Path) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows of a bucket by position, and their positions."""
    if not bucket.exists():
        return pa.table({}), np.empty(0, dtype=np.int64)
    with pa.ipc.open_stream(bucket) as stream:
        table = stream.read_all()
    positions = pl.Series(table["_position"]).to_numpy()
    order = np.argsort(positions)
    return rows_at(table.drop_columns("_position").combine_chunks(), order), positions[order]
