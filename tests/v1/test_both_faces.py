"""Fastdup.run() on a partition's files and the materialised assets make the same tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster.schemas import TABLES, TableSchema
from fastdup_dagster.storage import TableStore, table_digest

COMMON = ("image_manifest", "embeddings", "img_stats", "knn_graph", "similarity", "outliers", "components")


@pytest.mark.parametrize("split", ["train", "test"])
def test_tables_of_both_faces_have_equal_digests(split: str, analysed: Any, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path, analysed.images / split)
    fd.run(print_summary=False, num_threads=2)
    mine, theirs = TableStore(tmp_path), analysed.store
    for name in COMMON:
        ours, other = mine.read(name, "run/all"), theirs.read(name, f"pets/{split}")
        assert ours.height == other.height
        assert digest(TABLES[name], ours) == digest(TABLES[name], other), name


def digest(schema: TableSchema, frame: pl.DataFrame) -> str:
    return table_digest(schema.with_embedding_width(576), frame)


def test_a_global_box_means_the_same_to_both(project: Any, tmp_path: Path) -> None:
    box = "row_y=5,col_x=10,height=60,width=80"
    project.register({"num_threads": 2, "bounding_box": box})
    assert project.run("pets/test").success
    fd = fastdup.create(tmp_path / "work", project.images / "test")
    fd.run(bounding_box=box, print_summary=False, num_threads=2)
    for name in COMMON:
        theirs = project.store.read(name, "pets/test")
        ours = TableStore(tmp_path / "work").read(name, "run/all")
        assert digest(TABLES[name], ours) == digest(TABLES[name], theirs), name
    assert fd.tables.manifest["media"].unique().to_list() == ["crop"]
