"""Rows come in the order of the new table, whatever order they lie in, and each row group is read once or so."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fastdup_dagster.schemas import EMBEDDINGS
from fastdup_dagster.stages import reuse, row_files
from fastdup_dagster.stages.ordered_rows import ordered_blocks
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows
from fastdup_dagster.stages.row_files import part_name, write_part

SCHEMA = EMBEDDINGS.with_embedding_width(4)
BLOCK = 8


def written(folder: Path, order: NDArray[np.int64]) -> tuple[ReusableRows, NDArray[np.int32], NDArray[np.int64]]:
    """Rows of these positions, in this order, in files of a block each; -1 leaves a place without a row."""
    rows = ReusableRows(SCHEMA, "r", [])
    files = np.full(len(order), NOWHERE, dtype=np.int32)
    places = np.zeros(len(order), dtype=np.int64)
    for start in range(0, len(order), BLOCK):
        some = order[start : start + BLOCK]
        frame = SCHEMA.frame(
            {
                "index": some,
                "embedding": pl.Series(np.repeat(some[:, None], 4, axis=1), dtype=pl.Array(pl.Float32, 4)),
                "model": ["m"] * len(some),
                "source_key": [f"r:{n}" for n in some],
            }  # type: ignore[dict-item]
        )
        path = folder / part_name(str(start))
        write_part(SCHEMA, frame, path)
        files[some], places[some] = rows.add_file(path), np.arange(len(some))
    return rows, files, places


@pytest.mark.parametrize("order", ["sorted", "shuffled", "reversed"])
@pytest.mark.parametrize("n", [1, 7, 8, 200, 203])
def test_every_block_has_its_rows_in_order(order: str, n: int, tmp_path: Path) -> None:
    positions = np.arange(n)
    positions = {"sorted": positions, "reversed": positions[::-1], "shuffled": np.random.default_rng(0).permutation(n)}[
        order
    ]
    rows, files, places = written(tmp_path, positions)
    files[::5] = NOWHERE
    files[64:80] = NOWHERE
    blocks = list(ordered_blocks(rows, files, places, BLOCK, tmp_path))
    assert len(blocks) == -(-n // BLOCK)
    for number, rows_of_block in enumerate(blocks):
        expected = [p for p in range(number * BLOCK, min(number * BLOCK + BLOCK, n)) if files[p] != NOWHERE]
        assert (rows_of_block is None) == (not expected)
        if rows_of_block is not None:
            frame = pl.DataFrame(rows_of_block)
            assert frame.columns == SCHEMA.names
            assert frame["index"].to_list() == expected
            assert frame["embedding"].to_numpy()[:, 3].tolist() == expected
    assert [path for path in tmp_path.iterdir() if path not in rows.files] == []


def test_a_row_can_stand_in_several_places(tmp_path: Path) -> None:
    rows, files, places = written(tmp_path, np.random.default_rng(0).permutation(200))
    files[100:], places[100:] = files[:100], places[:100]
    blocks = [block for block in ordered_blocks(rows, files, places, BLOCK, tmp_path) if block is not None]
    assert pl.DataFrame(pa.concat_tables(blocks))["index"].to_list() == [*range(100), *range(100)]


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_reading_grows_with_the_rows_not_with_their_square(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 400
    positions = np.arange(n) if order == "sorted" else np.random.default_rng(0).permutation(n)
    rows, files, places = written(tmp_path, positions)
    read = 0
    real = row_files.open_rows

    def counting(path: Path) -> AbstractContextManager[row_files.RowFile]:
        nonlocal read
        read += 1  # a part is one block
        return real(path)

    monkeypatch.setattr(reuse, "open_rows", counting)
    assert (
        sum(block.num_rows for block in ordered_blocks(rows, files, places, BLOCK, tmp_path) if block is not None) == n
    )
    assert read <= 2 * n // BLOCK


def test_few_files_are_open_however_large_the_table_is(tmp_path: Path) -> None:
    n = 2_000
    rows, files, places = written(tmp_path, np.random.default_rng(0).permutation(n))
    blocks = ordered_blocks(rows, files, places, BLOCK, tmp_path)
    assert next(blocks) is not None  # all is dealt out by now
    (buckets,) = tmp_path.glob("order-*")
    assert 2 < len(list(buckets.iterdir())) <= 80
    assert 1 + sum(block is not None for block in blocks) == n // BLOCK
