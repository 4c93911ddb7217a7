"""Tables are published whole or not at all, and their digest is the data: no more, no less."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fastdup_dagster.schemas import EMBEDDINGS, IMAGE_MANIFEST, IMG_STATS, KNN_GRAPH, Column, TableSchema
from fastdup_dagster.storage import BusyError, StagedTable, TableStore, table_digest, write_atomically

EVERY_TYPE = TableSchema(
    "every_type",
    "row",
    (
        Column("index", pa.int64(), "-"),
        Column("number", pa.float64(), "-", nullable=True),
        Column("small", pa.int32(), "-", nullable=True),
        Column("text", pa.string(), "-", nullable=True),
        Column("flag", pa.bool_(), "-", nullable=True),
        Column("when", pa.timestamp("ns", "UTC"), "-", nullable=True),
        Column("box", pa.list_(pa.float64()), "-", nullable=True),
        Column("vector", pa.list_(pa.float32(), 3), "-", nullable=True),
        Column("place", pa.string(), "-", nullable=True, in_digest=False),
    ),
)
_UTC = datetime.UTC
rows = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | st.floats(allow_nan=False),
            "small": st.none() | st.integers(-(2**31), 2**31 - 1),
            "text": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
            "flag": st.none() | st.booleans(),
            "when": st.none()
            | st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.just(_UTC)),
            "box": st.none() | st.lists(st.floats(0, 9), max_size=3),
            "vector": st.none() | st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
            "place": st.none() | st.text("ab", max_size=2),
        }
    ),
    min_size=1,
    max_size=12,
)


def table(records: list[dict[str, Any]]) -> pl.DataFrame:
    dtypes = {column.name: column.polars_dtype for column in EVERY_TYPE.columns}
    return EVERY_TYPE.frame(pl.DataFrame([{"index": i, **r} for i, r in enumerate(records)], schema=dtypes))


def edges(count: int = 4) -> pl.DataFrame:
    return KNN_GRAPH.frame(
        {"from": range(count), "to": range(1, count + 1), "rank": [1] * count, "distance": [0.5] * count}
    )


@pytest.mark.parametrize("kind", ["frames", "slices of an Arrow table", "pieces in an Arrow table"])
@given(rows, st.data())
def test_neither_digest_nor_rows_depend_on_how_they_are_cut(tmp_path_factory, kind, records, data) -> None:
    frame = table(records)
    arrow = frame.to_arrow()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(frame)))))
    spans = list(zip([0, *cuts], [*cuts, len(frame)], strict=True))
    with StagedTable(EVERY_TYPE, "a/b", Path("unused"), tmp_path_factory.mktemp("blocks")) as staged:
        if kind == "frames":
            blocks: list[pl.DataFrame | pa.Table] = [frame[start:end] for start, end in spans]
        else:
            blocks = [arrow.slice(start, end - start) for start, end in spans]
        for block in blocks if kind != "pieces in an Arrow table" else [pa.concat_tables(blocks)]:
            staged.write(block)
        staged.close()
        assert staged.digest == table_digest(EVERY_TYPE, frame)
        assert staged.rows == len(frame)
        assert_frame_equal(staged.scan().collect(), frame)


@given(rows, st.data())
def test_the_digest_changes_with_any_value_that_counts_and_with_no_volatile_one(records, data) -> None:
    before = table_digest(EVERY_TYPE, table(records))
    row = data.draw(st.integers(0, len(records) - 1))
    column = data.draw(st.sampled_from([c.name for c in EVERY_TYPE.columns if c.name != "index"]))
    other = data.draw(rows)[0][column]
    changed = [*records[:row], {**records[row], column: other}, *records[row + 1 :]]
    same = column == "place" or repr(other) == repr(records[row][column])
    assert (table_digest(EVERY_TYPE, table(changed)) == before) == same


@given(rows)
def test_the_digest_depends_on_the_order_of_the_rows(records) -> None:
    frame = table(records).drop("index").with_columns(pl.lit(0, dtype=pl.Int64).alias("index"))
    told_apart = [name for name in frame.columns if name != "place"]
    turned = frame.reverse()
    same = frame.select(told_apart).rows() == turned.select(told_apart).rows()
    assert (table_digest(EVERY_TYPE, frame) == table_digest(EVERY_TYPE, turned)) == same


def test_a_null_an_empty_text_a_zero_and_an_empty_list_are_told_apart() -> None:
    for column, values in {"text": (None, ""), "number": (None, 0.0), "box": (None, []), "flag": (None, False)}.items():
        digests = {table_digest(EVERY_TYPE, table([dict.fromkeys(EVERY_TYPE.names[1:]) | {column: v}])) for v in values}
        assert len(digests) == 2, column


def test_texts_and_lists_that_concatenate_alike_are_told_apart() -> None:
    def of(column: str, *values: object) -> str:
        return table_digest(EVERY_TYPE, table([dict.fromkeys(EVERY_TYPE.names[1:]) | {column: v} for v in values]))

    assert of("text", "ab", "c") != of("text", "a", "bc")
    assert of("box", [1.0], [2.0, 3.0]) != of("box", [1.0, 2.0], [3.0])


def test_digests_are_those_of_earlier_versions() -> None:
    """Tables that were published keep their data version: another digest would have everything after them made anew."""
    records = [
        {"number": 1.5, "small": None, "text": "é", "flag": True, "when": datetime.datetime(2020, 1, 2, tzinfo=_UTC)}
        | {"box": [1.0, 2.0], "vector": None, "place": "a"},
        {"number": None, "small": -7, "text": None, "flag": None, "when": None}
        | {"box": None, "vector": [1.0, 2.0, 3.0], "place": None},
        {"number": 0.0, "small": 7, "text": "", "flag": False, "when": datetime.datetime(1990, 1, 2, tzinfo=_UTC)}
        | {"box": [], "vector": [0.5, 0.0, -1.0], "place": ""},
    ]
    others = pl.DataFrame(
        {
            "day": [None, datetime.date(2020, 1, 2), datetime.date(1960, 1, 2)],
            "length": [datetime.timedelta(1), None, datetime.timedelta(2)],
            "bytes": [b"a", None, b""],
            "price": [Decimal("1.20"), None, Decimal("1.30")],
            "parts": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
            "tags": [["a"], [], [None, "b"]],
            "nested": [[[1]], None, [[2], None]],
            "nothing": [None, None, None],
        }
    )
    frame = pl.concat([table(records), others], how="horizontal")
    assert table_digest(EVERY_TYPE, frame) == "278261a01cb38d523d11d9a44923131c"


@pytest.mark.parametrize(
    "values",
    [
        [None, datetime.date(2020, 1, 2), datetime.date(2021, 1, 2)],
        [datetime.datetime(2020, 1, 1), None, datetime.datetime(2020, 1, 1, 1)],
        [datetime.timedelta(1), None, datetime.timedelta(2)],
        [datetime.time(1), None, datetime.time(2)],
        [b"a", None, b""],
        [Decimal("1.20"), None, Decimal("1.30")],
        [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
        [["a"], [], [None, "b"]],
        [[[1]], None, [[2], None]],
        [2**63, None, 2**64 - 1],
    ],
    ids=lambda values: type(next(v for v in values if v is not None)).__name__,
)
def test_a_users_column_of_any_type_is_stored_and_counts_in_the_digest_at_any_block_size(
    tmp_path: Path, values: list[Any]
) -> None:
    frame = edges(3).with_columns(pl.Series("annotation", values))
    store = TableStore(tmp_path)
    digest = store.write(KNN_GRAPH, "a/b", frame)
    assert table_digest(KNN_GRAPH, store.read("knn_graph", "a/b")) == digest == table_digest(KNN_GRAPH, frame)
    with store.stage(KNN_GRAPH, "a/b") as staged:
        for row in range(3):
            staged.write(frame[row])
        staged.close()
        assert staged.digest == digest
    turned = frame.with_columns(pl.Series("annotation", values[::-1]))
    assert table_digest(KNN_GRAPH, turned) != digest != table_digest(KNN_GRAPH, frame.drop("annotation"))


def test_an_annotation_without_any_value_is_stored(tmp_path: Path) -> None:
    frame = edges(2).with_columns(pl.Series("annotation", [None, None]))
    assert TableStore(tmp_path).write(KNN_GRAPH, "a/b", frame) == table_digest(KNN_GRAPH, frame)


def test_columns_named_like_each_others_parts_do_not_mix_in_the_digest() -> None:
    frame = edges(2).with_columns(
        pl.Series("a", [[1.0], [2.0]]), pl.Series("a/item", [3.0, 4.0]), pl.Series("a/valid", [True, False])
    )
    swapped = frame.with_columns(pl.Series("a", [[3.0], [4.0]]), pl.Series("a/item", [1.0, 2.0]))
    assert table_digest(KNN_GRAPH, frame) != table_digest(KNN_GRAPH, swapped)


def test_the_digest_covers_names_types_and_the_width_of_vectors() -> None:
    empty = EMBEDDINGS.frame()
    assert table_digest(EMBEDDINGS, empty) != table_digest(EMBEDDINGS.with_embedding_width(960), _wide(960))
    assert table_digest(KNN_GRAPH, edges(0)) != table_digest(KNN_GRAPH, edges(0).with_columns(pl.lit(1).alias("x")))


def _wide(width: int) -> pl.DataFrame:
    return EMBEDDINGS.with_embedding_width(width).frame()


def test_the_manifests_place_and_time_do_not_count_but_its_size_does() -> None:
    frame = IMAGE_MANIFEST.frame(
        {"index": [0], "instance_id": ["i"], "filename": ["a"], "uri": ["file:///a"], "media": ["image"]}
    )
    digest = table_digest(IMAGE_MANIFEST, frame)
    moved = frame.with_columns(
        pl.lit("file:///b").alias("uri"), pl.lit(datetime.datetime.now(_UTC)).alias("mtime"), pl.lit("e").alias("etag")
    )
    assert table_digest(IMAGE_MANIFEST, IMAGE_MANIFEST.frame(moved)) == digest
    grown = frame.with_columns(pl.lit(3, dtype=pl.Int64).alias("file_size"))
    assert table_digest(IMAGE_MANIFEST, grown) != digest


def test_what_is_written_comes_back_in_the_schemas_types_and_order(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    frame = edges(5).with_columns(pl.Series("label", ["a", None, "b", "c", "d"], dtype=pl.Categorical))
    store.write(KNN_GRAPH, "pets/train", frame)
    back = store.read("knn_graph", "pets/train")
    assert back.columns == [*KNN_GRAPH.names, "label"]
    assert back.schema["label"] == pl.String
    assert back.drop("label").equals(edges(5))
    assert store.read("knn_graph", "pets/train", ["to"]).columns == ["to"]
    arrow = pq.read_schema(store.path("knn_graph", "pets/train"))
    assert pa.schema(list(arrow)[:4]).equals(KNN_GRAPH.arrow)


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    with store.stage(IMG_STATS, "a/b") as staged:
        staged.publish()
    assert store.read("img_stats", "a/b").equals(IMG_STATS.frame())
    assert staged.digest == table_digest(IMG_STATS, IMG_STATS.frame())


def test_nothing_is_visible_before_publishing_and_everything_after(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    with store.stage(KNN_GRAPH, "a/b") as staged:
        staged.write(edges(2))
        staged.close()
        assert not store.exists("knn_graph", "a/b")
        assert staged.scan().collect().equals(edges(2))
        assert staged.publish() == str(store.path("knn_graph", "a/b"))
    assert store.read("knn_graph", "a/b").equals(edges(2))
    assert not staged.path.exists()


def test_a_table_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash of the machine may leave a file with a hole, when the parts that it was made from are gone."""
    store, sync = TableStore(tmp_path), os.fsync
    synced: list[tuple[int, bool]] = []

    def watched(file: int) -> None:
        synced.append((os.fstat(file).st_ino, store.exists("knn_graph", "a/b")))
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)
    store.write(KNN_GRAPH, "a/b", KNN_GRAPH.frame())
    assert synced == [(store.path("knn_graph", "a/b").stat().st_ino, False)]


def test_readers_see_the_old_table_until_the_new_one_is_published(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    store.write(KNN_GRAPH, "a/b", edges(2))
    with store.stage(KNN_GRAPH, "a/b") as staged:
        staged.write(edges(7))
        old = store.scan("knn_graph", "a/b")
        staged.close()
        assert old.collect().height == 2
        staged.publish()
    assert store.read("knn_graph", "a/b").height == 7


@pytest.mark.parametrize("opened", [False, True])
def test_leaving_without_publishing_leaves_no_file_and_the_old_table(tmp_path: Path, opened: bool) -> None:
    store = TableStore(tmp_path)
    store.write(KNN_GRAPH, "a/b", edges(2))
    with pytest.raises(ZeroDivisionError), store.stage(KNN_GRAPH, "a/b") as staged:
        if opened:
            staged.write(edges(3))
        raise ZeroDivisionError
    assert store.read("knn_graph", "a/b").height == 2
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b.parquet"]
    assert not staged.path.parent.exists()


def test_two_tables_being_written_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    with store.stage(KNN_GRAPH, "a/b") as first, store.stage(KNN_GRAPH, "a/b") as second:
        first.write(edges(2))
        second.write(edges(3))
        first.publish()
        second.publish()
    assert store.read("knn_graph", "a/b").height == 3


def test_a_closed_table_takes_no_more_rows(tmp_path: Path) -> None:
    with TableStore(tmp_path).stage(KNN_GRAPH, "a/b") as staged:
        staged.write(edges(1))
        staged.close()
        with pytest.raises(RuntimeError, match=r"knn_graph \[a/b\] is closed"):
            staged.write(edges(1))


def test_a_digest_is_not_to_be_had_before_the_first_row_or_close(tmp_path: Path) -> None:
    with TableStore(tmp_path).stage(KNN_GRAPH, "a/b") as staged, pytest.raises(RuntimeError, match="close"):
        _ = staged.digest


def test_a_table_that_is_not_there_is_named_with_its_partition_and_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'knn_graph' of 'pets/val'.*val\.parquet"):
        TableStore(tmp_path).scan("knn_graph", "pets/val")


def test_keys_with_glob_characters_and_dots_are_names_not_patterns(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    for number, key in enumerate(["v1.5/train", "v1.5/[a]*?", "v1.5/a"], 1):
        store.write(KNN_GRAPH, key, edges(number))
    assert [store.read("knn_graph", key).height for key in ("v1.5/train", "v1.5/[a]*?", "v1.5/a")] == [1, 2, 3]


def test_a_removed_table_is_gone_and_removing_it_again_is_fine(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    store.write(KNN_GRAPH, "a/b", edges(1))
    store.remove("knn_graph", "a/b")
    store.remove("knn_graph", "a/b")
    assert not store.exists("knn_graph", "a/b")


def test_rows_of_another_type_are_refused_not_coerced_to_rubbish(tmp_path: Path) -> None:
    with TableStore(tmp_path).stage(KNN_GRAPH, "a/b") as staged, pytest.raises(pa.ArrowInvalid):
        staged.write(edges(1).with_columns(pl.lit("x").alias("to")))


def test_a_file_written_atomically_is_old_or_new_and_leaves_no_temporary(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "sub" / "page.html"
    write_atomically(target, b"old")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    monkeypatch.setattr("fastdup_dagster.storage.os.replace", _refuse)
    with pytest.raises(OSError, match="disk"):
        write_atomically(target, b"newer")
    assert [(p.name, p.read_bytes()) for p in target.parent.iterdir()] == [("page.html", b"new")]


def _refuse(*_: object) -> None:
    raise OSError("disk full")


def test_a_vector_table_survives_many_blocks_and_row_groups(tmp_path: Path) -> None:
    schema = EMBEDDINGS.with_embedding_width(4)
    vectors = np.random.default_rng(0).normal(size=(40_000, 4)).astype(np.float32)
    frame = schema.frame(
        pl.DataFrame(
            {
                "index": np.arange(len(vectors)),
                "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 4)),
                "model": ["m"] * len(vectors),
                "source_key": [""] * len(vectors),
            }
        )
    )
    store = TableStore(tmp_path)
    digest = store.write(schema, "a/b", frame)
    with store.stage(schema, "a/b") as staged:
        for start in range(0, len(frame), 9_999):
            staged.write(frame[start : start + 9_999])
        staged.close()
        assert staged.digest == digest
    assert np.array_equal(store.read("embeddings", "a/b")["embedding"].to_numpy(), vectors)


HOLD = """
import sys, time
from fastdup_dagster.storage import TableStore
with TableStore(sys.argv[1]).lock("features", "pets/train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_on_a_partition_is_refused_until_the_first_one_has_ended_however_it_ends(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(BusyError, match=r"another run is working on features of 'pets/train'")
        with refused, store.lock("features", "pets/train", patience=0.1):
            pass
        with store.lock("galleries", "pets/train", patience=0), store.lock("features", "pets/test", patience=0):
            pass
        other.kill()
        other.wait()
    with store.lock("features", "pets/train", patience=0.5):
        pass
