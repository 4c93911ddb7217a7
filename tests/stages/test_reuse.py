"""A row is reused when what it was made from is the same: by its key without a read, or by its bytes."""

from __future__ import annotations

import datetime
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.schemas import EMBEDDINGS, IMAGE_MANIFEST, IMG_STATS, THUMBNAIL_BYTES
from fastdup_dagster.stages import reuse
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows, source_keys, source_tokens
from fastdup_dagster.stages.row_files import RowFile, open_rows, part_name, write_part
from fastdup_dagster.storage import DamagedFileError, TableStore

RECIPE = "r" * 32
# They outlive what is taken from them.
POOLS: list[pa.MemoryPool] = []


def manifest(**changes: Any) -> pl.DataFrame:
    row = {"index": 0, "instance_id": "i", "filename": "a.jpg", "uri": "file:///a.jpg", "media": "image"}
    row |= {"file_size": 10, "mtime": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), "box": [1.0, 2.0, 3.0, 4.0]}
    return IMAGE_MANIFEST.frame({name: [value] for name, value in (row | changes).items()})


def stats(*rows: tuple[str, str | None, str | None]) -> pl.DataFrame:
    """`img_stats` of given keys, hashes and error codes."""
    columns = [pl.Series([row[part] for row in rows], dtype=pl.String) for part in range(3)]
    return IMG_STATS.frame(
        {
            "index": range(len(rows)),
            "source_key": columns[0],
            "content_hash": columns[1],
            "error_code": columns[2],
            "img_w": range(len(rows)),
            # Some have none, as of images that cannot be decoded.
            "thumbnail": [None if row % 3 == 1 else [row % 256] * THUMBNAIL_BYTES for row in range(len(rows))],
        }
    )


def published(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    store = TableStore(folder)
    store.write(IMG_STATS, f"pets/{name}", frame)
    return store.path("img_stats", f"pets/{name}")


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "file:///b.jpg"},
        {"file_size": 11},
        {"file_size": None},
        {"mtime": datetime.datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=datetime.UTC)},
        {"etag": "e"},
        {"box": [1.0, 2.0, 3.0, 5.0]},
        {"box": None},
        {"timestamp": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_key_changes_with_place_token_and_geometry(change: dict[str, Any]) -> None:
    assert source_tokens(manifest(**change)) != source_tokens(manifest())


@pytest.mark.parametrize("change", [{"index": 7}, {"label": "cat"}, {"split": "val"}, {"instance_id": "j"}])
def test_the_key_does_not_depend_on_id_or_annotation(change: dict[str, Any]) -> None:
    assert source_tokens(manifest(**change)) == source_tokens(manifest())


def test_the_key_changes_with_the_recipe() -> None:
    token = source_tokens(manifest())
    assert source_keys(token, RECIPE) == [f"{RECIPE}:{token[0]}"] != source_keys(token, "s" * 32)


def test_rows_are_found_by_key_and_by_content_and_strangers_are_nowhere(tmp_path: Path) -> None:
    path = published(tmp_path, "train", stats((f"{RECIPE}:a", "h1", None), (f"{RECIPE}:b", "h2", "CORRUPT_IMAGE")))
    rows = ReusableRows(IMG_STATS, RECIPE, [path])
    files, places = rows.find([f"{RECIPE}:b", f"{RECIPE}:z", f"{RECIPE}:a"])
    assert files.tolist() == [0, NOWHERE, 0]
    assert places[[0, 2]].tolist() == [1, 0]
    assert rows.find_content("h2") == (0, 1)
    assert rows.find_content("h3") is None


def test_rows_of_another_recipe_and_errors_that_may_pass_are_not_reused(tmp_path: Path) -> None:
    frame = stats(("other:a", "h1", None), (f"{RECIPE}:b", None, "READ_ERROR"), (f"{RECIPE}:c", None, "MISSING_FILE"))
    rows = ReusableRows(IMG_STATS, RECIPE, [published(tmp_path, "train", frame)])
    assert rows.find(["other:a", f"{RECIPE}:b", f"{RECIPE}:c"])[0].tolist() == [NOWHERE] * 3
    assert rows.find_content("h1") is None


def test_the_first_file_wins(tmp_path: Path) -> None:
    first = published(tmp_path, "a", stats((f"{RECIPE}:a", "h1", None)))
    second = published(tmp_path, "b", stats((f"{RECIPE}:b", "h2", None), (f"{RECIPE}:a", "h1", None)))
    rows = ReusableRows(IMG_STATS, RECIPE, [first, second])
    assert rows.find([f"{RECIPE}:a", f"{RECIPE}:b"])[0].tolist() == [0, 1]
    assert rows.find_content("h1") == (0, 0)


def bad_parts(folder: Path) -> list[Path]:
    """Part files of one row, as a crash of the machine or another version may leave them."""
    path = folder / part_name("whole")
    write_part(IMG_STATS, stats((f"{RECIPE}:b", "h2", None)), path)
    whole = path.read_bytes()
    # where the key's text ends, as an offset into it
    at = whole.index(len(f"{RECIPE}:b").to_bytes(4, "little"), whole.index(RECIPE.encode()) - 64)
    contents = {"empty": b"", "cut": whole[:-50], "offset": whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :]}
    contents["nothing"] = b"ARROW1" + bytes(100)
    for name, content in contents.items():
        (folder / part_name(name)).write_bytes(content)
    path.unlink()
    strange = folder / part_name("strange")
    stats((f"{RECIPE}:b", "h2", None)).write_ipc(strange)
    return [folder / part_name(name) for name in [*contents, "strange"]]


def test_files_that_are_broken_empty_gone_or_of_other_columns_are_passed_over(tmp_path: Path) -> None:
    good = published(tmp_path, "good", stats((f"{RECIPE}:a", "h1", None)))
    broken, empty, cut = tmp_path / "broken", tmp_path / "empty", tmp_path / "cut"
    broken.write_bytes(b"PAR1 nonsense PAR1")
    empty.touch()
    cut.write_bytes(good.read_bytes()[:-50])
    other = tmp_path / "other.parquet"
    stats((f"{RECIPE}:b", "h2", None)).drop("blur").write_parquet(other)
    rows = ReusableRows(IMG_STATS, RECIPE, [broken, empty, cut, other, *bad_parts(tmp_path), tmp_path / "gone", good])
    assert rows.find([f"{RECIPE}:a", f"{RECIPE}:b"])[0].tolist() == [0, NOWHERE]
    assert rows.frame(*rows.find([f"{RECIPE}:a"]))["content_hash"].to_list() == ["h1"]


@given(st.data())
def test_rows_are_taken_in_any_order_from_any_file_and_row_group(tmp_path_factory, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))
    folder = tmp_path_factory.mktemp("take")
    paths = []
    for number, size in enumerate(sizes):
        frame = stats(*[(f"{RECIPE}:{number}-{row}", f"h{number}-{row}", None) for row in range(size)])
        if data.draw(st.booleans()):
            paths.append(folder / part_name(str(number)))
            write_part(IMG_STATS, frame, paths[-1])
            continue
        paths.append(folder / f"{number}.parquet")
        with_types = frame.to_arrow().cast(IMG_STATS.arrow)
        pq.write_table(with_types, paths[-1], row_group_size=data.draw(st.integers(1, 12)))
    every = [(file, row) for file, size in enumerate(sizes) for row in range(size)]
    # Runs, as of tables that hardly changed: rows that lie together are taken in another way than single ones.
    starts = data.draw(
        st.lists(st.tuples(st.sampled_from(range(len(every))), st.integers(1, 30)), min_size=1, max_size=9)
    )
    wanted = [place for start, length in starts for place in every[start : start + length]]
    rows = ReusableRows(IMG_STATS, RECIPE, paths)
    places = rows.find([f"{RECIPE}:{file}-{row}" for file, row in wanted])
    assert list(zip(*(place.tolist() for place in places), strict=True)) == wanted
    taken = rows.take(*places)
    assert taken["content_hash"].to_pylist() == [f"h{file}-{row}" for file, row in wanted]
    frame = rows.frame(*places)
    assert frame["content_hash"].to_list() == taken["content_hash"].to_pylist()
    assert np.array_equal(frame["img_w"].to_numpy(), [row for _, row in wanted])
    assert frame["thumbnail"].arr.first().to_list() == [None if row % 3 == 1 else row for _, row in wanted]


@pytest.mark.parametrize(("step", "run"), [(256, 1), (2, 1), (256, 16)])
def test_rows_of_many_row_groups_take_a_few_times_their_memory(step: int, run: int, tmp_path: Path) -> None:
    groups, size = 60, 256
    schema = EMBEDDINGS.with_embedding_width(64)
    keys = [f"{RECIPE}:{row}" for row in range(groups * size)]
    vectors = pl.Series(np.zeros((len(keys), 64), dtype=np.float32), dtype=pl.Array(pl.Float32, 64))
    given = {"index": range(len(keys)), "embedding": vectors, "model": ["m"] * len(keys), "source_key": keys}
    pq.write_table(schema.frame(given).to_arrow().cast(schema.arrow), tmp_path / "a.parquet", row_group_size=size)  # type: ignore[arg-type]
    rows = ReusableRows(schema, RECIPE, [tmp_path / "a.parquet"])
    wanted = (np.arange(0, len(keys), step)[:, None] + np.arange(run)).ravel()
    before = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(before))
    pa.set_memory_pool(POOLS[-1])
    try:
        taken = rows.take(np.zeros(len(wanted), dtype=np.int32), wanted)
    finally:
        pa.set_memory_pool(before)
    assert taken["source_key"].to_pylist() == [keys[row] for row in wanted]
    assert POOLS[-1].max_memory() < 3.5 * taken.nbytes + 8 * size * 64 * 4


def test_a_part_is_read_in_blocks(tmp_path: Path) -> None:
    frame = stats(*[(f"{RECIPE}:{row}", f"h{row}", None) for row in range(2_500)])
    path = tmp_path / part_name("large")
    write_part(IMG_STATS, frame, path)
    with open_rows(path) as file:
        assert list(file.sizes) == [1_024, 1_024, 452]
        assert pl.concat([pl.DataFrame(file.block(number)) for number in range(3)]).equals(frame)


@pytest.mark.parametrize(
    ("table", "hole"), [("embeddings", "embedding"), ("img_stats", "img_w"), ("img_stats", "content_hash")]
)
def test_a_hole_in_a_published_table_is_an_error_that_names_file_and_remedy(
    table: str, hole: str, tmp_path: Path
) -> None:
    """A disk that lost a piece must not turn into vectors of zeros."""
    random = np.random.default_rng(0)
    n, store = 600, TableStore(tmp_path)
    keys = [f"{RECIPE}:{row}" for row in range(n)]
    schema = EMBEDDINGS.with_embedding_width(64) if table == "embeddings" else IMG_STATS
    frame = stats(*[(key, f"{random.integers(1 << 60):x}", None) for key in keys])
    if table == "embeddings":
        vectors = pl.Series(random.normal(size=(n, 64)).astype(np.float32), dtype=pl.Array(pl.Float32, 64))
        frame = schema.frame({"index": range(n), "embedding": vectors, "model": ["m"] * n, "source_key": keys})  # type: ignore[dict-item]
    store.write(schema, "pets/train", frame)
    path = store.path(table, "pets/train")
    with pq.ParquetFile(path) as file:
        columns = [file.metadata.row_group(0).column(place) for place in range(file.metadata.num_columns)]
    column = next(c for c in columns if c.path_in_schema.split(".")[0] == hole)
    content = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 16] = bytes(16) if any(content[middle : middle + 16]) else b"\xff" * 16
    path.write_bytes(content)
    rows = ReusableRows(schema, RECIPE, [path])
    places = rows.find(keys)
    assert places[0].tolist() == [0] * n
    error = f"{re.escape(str(path))} is damaged .*recompute=True"
    with pytest.raises(DamagedFileError, match=error):
        rows.take(*places)
    if hole == "content_hash":
        with pytest.raises(DamagedFileError, match=error):
            rows.find_content("h")
    with pytest.raises(DamagedFileError, match=error):
        list(store.blocks(table, "pets/train", [hole]))


def test_a_lack_of_memory_is_not_taken_for_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(tmp_path, "train", stats((f"{RECIPE}:a", "h1", None)))
    rows = ReusableRows(IMG_STATS, RECIPE, [path])

    def lacking(*_: object) -> pa.Table:
        raise pa.ArrowMemoryError("malloc of size 1 failed")

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lacking)
    with pytest.raises(MemoryError):
        rows.take(*rows.find([f"{RECIPE}:a"]))


def test_threads_that_ask_at_once_have_the_bytes_mapped_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(tmp_path, "train", stats((f"{RECIPE}:a", "h1", None)))
    rows = ReusableRows(IMG_STATS, RECIPE, [path])
    opened: list[Path] = []
    all_asking = threading.Barrier(4)

    def slowly(path: Path) -> AbstractContextManager[RowFile]:
        opened.append(path)
        time.sleep(0.05)
        return open_rows(path)

    def ask(_: int) -> tuple[int, int] | None:
        all_asking.wait()
        return rows.find_content("h1")

    monkeypatch.setattr(reuse, "open_rows", slowly)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [(0, 0)] * 4
    assert opened == [path]
