"""The schemas are the contract of the tables: complete, documented, and enforced when a table is built."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import fastdup_dagster
from fastdup_dagster.images.statistics import ADVANCED_NAMES, BASIC_NAMES
from fastdup_dagster.schemas import EMBEDDINGS, ERROR_CODES, IMG_STATS, KNN_GRAPH, TABLES, THUMBNAIL_BYTES, Column

PACKAGE = Path(fastdup_dagster.__file__).parent
# The codes that the V1 API promises, and ours for a feature vector that is no good.
PROMISED = {
    "MISSING_FILE",
    "ZERO_SIZE_FILE",
    "CORRUPT_IMAGE",
    "IMAGE_TOO_SMALL",
    "IMAGE_TOO_LARGE",
    "BAD_BOUNDING_BOX",
    "MISSING_ANNOTATION",
    "UNSUPPORTED_FORMAT",
    "READ_ERROR",
    "INVALID_EMBEDDING",
}


def test_every_promised_error_code_is_documented() -> None:
    assert set(ERROR_CODES) == PROMISED
    assert all(len(text) > 10 for text in ERROR_CODES.values())


def test_every_error_code_that_the_engine_gives_is_documented() -> None:
    given = re.compile(r"(?:ImageError\(\s*|error_code=|\"error_code\": |mtime_ns, |_fail\(task, )\"([A-Z][A-Z_]+)\"")
    found = {code for path in PACKAGE.rglob("*.py") for code in given.findall(path.read_text(encoding="utf-8"))}
    assert {"CORRUPT_IMAGE", "ZERO_SIZE_FILE", "MISSING_FILE", "INVALID_EMBEDDING"} <= found  # the search finds them
    assert found <= set(ERROR_CODES)


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_column_is_described_and_named_once(table) -> None:
    assert len(set(table.names)) == len(table.names)
    assert all(column.description for column in table.columns)
    assert table.row
    assert table[table.names[0]] is table.columns[0]


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_the_empty_table_has_the_columns_and_types_of_its_schema(table) -> None:
    frame = table.frame()
    assert frame.columns == table.names
    assert frame.is_empty()
    assert frame.to_arrow().cast(table.arrow).schema.equals(table.arrow)


def test_the_statistics_that_are_computed_are_the_columns_of_the_table() -> None:
    assert {*BASIC_NAMES, *ADVANCED_NAMES} <= set(IMG_STATS.names)
    assert IMG_STATS["thumbnail"].dtype == pa.list_(pa.uint8(), THUMBNAIL_BYTES)
    assert THUMBNAIL_BYTES == 16 * 16 * 3


def test_a_row_knows_where_it_came_from_without_that_counting_as_its_content() -> None:
    assert EMBEDDINGS.volatile == IMG_STATS.volatile == {"source_key"}
    assert TABLES["image_manifest"].volatile == {"uri", "split", "mtime", "etag"}


def test_a_missing_column_that_must_be_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"'knn_graph': missing columns \['rank'\]"):
        KNN_GRAPH.frame({"from": [1], "to": [2], "distance": [0.5]})


def test_a_null_where_none_is_allowed_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'knn_graph': nulls in columns \['to'\]"):
        KNN_GRAPH.frame({"from": [1], "to": [None], "rank": [1], "distance": [0.5]})


def test_nullable_columns_that_are_missing_become_null_and_extra_ones_are_kept_on_request() -> None:
    frame = EMBEDDINGS.frame(
        pl.DataFrame({"index": [1], "model": ["m"], "source_key": ["k"], "note": ["n"]}), extra=["note"]
    )
    assert frame.columns == [*EMBEDDINGS.names, "note"]
    assert frame["embedding"].to_list() == [None]
    assert frame.schema["embedding"] == pl.Array(pl.Float32, 576)


def test_an_unknown_column_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no column 'form'; it has from, to, rank, distance"):
        KNN_GRAPH["form"]


def test_the_width_of_embeddings_is_part_of_the_type() -> None:
    wide = EMBEDDINGS.with_embedding_width(960)
    assert wide["embedding"].dtype == pa.list_(pa.float32(), 960)
    assert wide.names == EMBEDDINGS.names
    assert EMBEDDINGS["embedding"].dtype == pa.list_(pa.float32(), 576)


def test_a_column_has_the_polars_type_of_its_arrow_type() -> None:
    pairs = {pa.int64(): pl.Int64, pa.list_(pa.uint8(), 3): pl.Array(pl.UInt8, 3), pa.string(): pl.String}
    for arrow, polars in pairs.items():
        assert Column("x", arrow, "-").polars_dtype == polars
