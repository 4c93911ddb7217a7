"""What the accessors show: columns, dtypes, rows; before a run, and when there is nothing to show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup

ACCESSORS: dict[str, Callable[[Fastdup], Any]] = {
    "num_instances": lambda fd: fd.num_instances(),
    "annotations": lambda fd: fd.annotations(),
    "similarity": lambda fd: fd.similarity(),
    "outliers": lambda fd: fd.outliers(),
    "img_stats": lambda fd: fd.img_stats(),
    "connected_components": lambda fd: fd.connected_components(),
    "connected_components_grouped": lambda fd: fd.connected_components_grouped(),
    "embeddings": lambda fd: fd.embeddings(),
    "invalid_instances": lambda fd: fd.invalid_instances(),
    "config": lambda fd: fd.config,
    "summary": lambda fd: fd.summary(verbose=False),
    "img_grouped_annot": lambda fd: fd.img_grouped_annot(),
    "item": lambda fd: fd[0],
    "init_search": lambda fd: fd.init_search(3),
    "export_v1": lambda fd: fd.export_v1(),
}
STATISTICS = ["img_w", "img_h", "unique", "blur", "mean", "min", "max", "stdv", "file_size", "contrast"]
USER = ["label", "split", "weight"]
OURS = ["index", "filename", "error_code", "is_valid"]


@pytest.mark.parametrize("name", ACCESSORS)
def test_before_run_every_accessor_says_to_run_first(name: str, fd: Fastdup) -> None:
    with pytest.raises(RuntimeError, match=r"call run\(\) first"):
        ACCESSORS[name](fd)


def test_search_without_init_search_says_so(finished: Fastdup) -> None:
    for search in (lambda: fastdup.Fastdup(finished.work_dir).search("x"), lambda: Fastdup("x").vector_search(vec=[1])):
        with pytest.raises(RuntimeError, match=r"init_search\(\) first"):
            search()


def test_user_columns_come_first_and_every_instance_has_a_row(finished: Fastdup) -> None:
    every, valid = finished.annotations(valid_only=False), finished.annotations()
    assert list(every.columns) == list(valid.columns) == USER + OURS
    assert every["index"].tolist() == list(range(16))
    codes = every.set_index("index")["error_code"]
    assert codes[0] == "CORRUPT_IMAGE"
    assert codes[[13, 14, 15]].tolist() == ["MISSING_ANNOTATION", "MISSING_ANNOTATION", "MISSING_FILE"]
    assert valid["error_code"].eq("VALID").all() and valid["is_valid"].all()
    assert finished.num_instances() == len(valid) == 12
    assert finished.num_instances(valid_only=False) == 16


def test_names_are_paths_that_open(finished: Fastdup, images: Path) -> None:
    for name in finished.annotations()["filename"]:
        assert Path(name).is_file()
        assert Path(name).parent == images


def test_invalid_instances_say_why(finished: Fastdup) -> None:
    frame = finished.invalid_instances()
    assert list(frame.columns) == ["index", "filename", "error_code", "error"]
    assert frame["index"].tolist() == [0, 13, 14, 15]
    assert frame["error"].str.len().gt(0).all()


@pytest.mark.parametrize(
    ("frame", "plain", "suffixes"),
    [
        (lambda fd, **k: fd.similarity(**k), ["from", "to", "distance"], ["_from", "_to"]),
        (lambda fd, **k: fd.outliers(**k), ["outlier", "nearest", "distance"], ["_outlier", "_nearest"]),
        (lambda fd, **k: fd.img_stats(**k), ["index", *STATISTICS], None),
        (
            lambda fd, **k: fd.connected_components(**k)[0],
            ["index", "component_id", "count", "mean_distance", "min_distance", "max_distance"],
            None,
        ),
    ],
)
def test_columns_and_dtypes_do_not_depend_on_whether_there_are_rows(
    frame: Callable[..., pd.DataFrame], plain: list[str], suffixes: list[str] | None, finished: Fastdup
) -> None:
    more = (
        [n for n in USER + OURS if n != "index"]
        if suffixes is None
        else [f"{n}{s}" for s in suffixes for n in USER + OURS]
    )
    full, empty = frame(finished), frame(finished, split="no such split")
    assert len(full) and not len(empty)
    assert list(full.columns) == list(empty.columns) == plain + more
    assert list(frame(finished, data=False).columns) == plain
    assert full.dtypes.equals(empty.dtypes)


def test_similarity_is_sorted_and_over_the_threshold_and_tells_who_is_who(finished: Fastdup) -> None:
    frame = finished.similarity()
    assert frame["distance"].is_monotonic_decreasing
    assert (frame["distance"] > 0.2).all()
    names = finished.annotations(valid_only=False).set_index("index")["filename"]
    assert (frame["filename_from"] == frame["from"].map(names)).all()
    assert (frame["filename_to"] == frame["to"].map(names)).all()
    assert not set(frame["from"]) & {0, 13, 14, 15}


def test_a_split_needs_both_ends_and_takes_one_name_or_several(finished: Fastdup) -> None:
    every = finished.similarity()
    train = finished.similarity(split="train")
    expected = every[(every["split_from"] == "train") & (every["split_to"] == "train")]
    assert train["from"].tolist() == expected["from"].tolist()
    assert len(finished.similarity(split=["train", "test"])) == len(every)
    assert set(finished.img_stats(split=["test"])["split"]) == {"test"}
    with pytest.raises(TypeError, match="7"):
        finished.similarity(split=[7])


def test_components_of_a_split_are_those_of_its_subgraph(finished: Fastdup) -> None:
    frame, info = finished.connected_components(split="train")
    ids = set(finished.annotations().query("split == 'train'")["index"])
    graph = finished.tables.knn_graph.filter(pl.col("distance") >= np.float32(0.5))
    inside = merged([(a, b) for a, b in graph.select("from", "to").iter_rows() if {a, b} <= ids])
    assert frame.groupby("component_id")["index"].agg(list).tolist() == inside
    assert info["count"].tolist() == [len(members) for members in inside]
    assert frame.groupby("component_id")["count"].first().tolist() == info["count"].tolist()


def merged(edges: list[tuple[int, int]]) -> list[list[int]]:
    """Components by repeated merging, ordered by smallest member."""
    groups: list[set[int]] = []
    for edge in edges:
        touching = [group for group in groups if group & set(edge)]
        groups = [group for group in groups if group not in touching] + [set(edge).union(*touching)]
    return sorted(sorted(group) for group in groups)


def test_unannotated_images_are_shown_on_demand_and_take_nobodys_place_otherwise(finished: Fastdup) -> None:
    edges = finished.similarity(include_unannotated=True)
    assert {13, 14} & set(finished.img_stats(include_unannotated=True)["index"]) == {13, 14}
    assert not {13, 14} & set(finished.img_stats()["index"])
    assert set(finished.similarity()["from"]) <= set(edges["from"]) | {13, 14}
    assert len(finished.outliers(include_unannotated=True)) >= 1
    assert len(finished.connected_components(include_unannotated=True)[0]) >= 3


def test_grouped_components_are_largest_first_unless_asked_otherwise(finished: Fastdup) -> None:
    frame = finished.connected_components_grouped(metric="blur")
    assert list(frame.columns) == ["files", "files_ids", "component_id", "distance", "len", "label", "blur"]
    assert frame["len"].is_monotonic_decreasing
    assert finished.connected_components_grouped(ascending=False)["len"].is_monotonic_increasing
    by_blur = finished.connected_components_grouped(sort_by="blur", metric="blur", ascending=False)
    assert by_blur["blur"].is_monotonic_decreasing
    assert frame["files_ids"].map(len).tolist() == frame["len"].tolist()
    statistics = finished.img_stats().set_index("index")["blur"]
    assert frame["blur"][0] == pytest.approx(statistics[frame["files_ids"][0]].mean())
    for arguments, value in (({"metric": "blurr"}, "blurr"), ({"sort_by": "size"}, "size")):
        with pytest.raises(ValueError, match=value):
            finished.connected_components_grouped(**arguments)


def test_an_instance_is_found_by_its_id_as_any_number(finished: Fastdup) -> None:
    row = finished[3]
    assert row["index"] == 3 and row["filename"].endswith("photo-0000.jpg") and row["label"] == "cat"
    assert finished[np.int64(3)] == finished[3.0] == row
    for unknown in (99, -1, 3.5, "x", None):
        with pytest.raises(IndexError, match=str(unknown)):
            finished[unknown]


def test_embeddings_are_those_of_valid_instances_in_order(finished: Fastdup) -> None:
    names, vectors = finished.embeddings()
    assert names == finished.annotations()["filename"].tolist()
    assert vectors.dtype == np.float32 and vectors.shape == (12, 576)
    assert finished.embeddings(d=576)[1].shape == (12, 576)
    with pytest.raises(ValueError, match="960"):
        finished.embeddings(d=960)


def test_summary_counts_with_the_given_thresholds(finished: Fastdup, capsys: pytest.CaptureFixture[str]) -> None:
    lines = finished.summary()
    assert capsys.readouterr().out.count("\n") >= len(lines)
    assert lines[0] == "Dataset contains 16 images"
    assert "75.00% (12)" in lines[1] and "25.00% (4)" in lines[1]
    statistics = finished.img_stats()
    for name, value, count in (
        ("blur_threshold", 1000, (statistics["blur"] < 1000).sum()),
        ("brightness_threshold", 120, (statistics["mean"] > 120).sum()),
        ("darkness_threshold", 120, (statistics["mean"] < 120).sum()),
    ):
        changed = finished.summary(verbose=False, **{name: value})
        assert any(f"({count})" in line and f"{value}" in line for line in changed), changed
        with pytest.raises(ValueError, match="nan"):
            finished.summary(verbose=False, **{name: float("nan")})
    assert capsys.readouterr().out == ""


def test_config_survives_json_and_says_what_was_run(finished: Fastdup) -> None:
    config = finished.config
    assert json.loads(json.dumps(config)) == config
    assert (config["threshold"], config["cc_threshold"], config["nearest_neighbors_k"]) == (0.2, 0.5, 2)
    assert len(config["model"]["sha256"]) == 64 and config["model"]["width"] == 576
    assert config["index"] == "Flat" and "onnxruntime" in config["versions"]
    assert fastdup.create(finished.work_dir).config == config


def test_grouping_by_image_keeps_one_row_per_file(finished: Fastdup) -> None:
    frame = finished.img_grouped_annot()
    assert frame["filename"].is_unique and len(frame) == 16
    assert finished.img_grouped_annot(["label"]).equals(finished.img_grouped_annot(["label"]))
    with pytest.raises(ValueError, match="nonsense"):
        finished.img_grouped_annot(["nonsense"])


def test_set_fastdup_kwargs_fills_in_and_refuses() -> None:
    filled = Fastdup.set_fastdup_kwargs({"threshold": 0.5})
    assert filled["threshold"] == 0.5 and filled["cc_threshold"] == 0.96 and filled["nnf_mode"] == "HNSW32"
    with pytest.raises(TypeError, match="'treshold'; did you mean 'threshold'"):
        Fastdup.set_fastdup_kwargs({"treshold": 0.5})


def test_a_bucket_is_asked_for_one_object(s3_server: Any) -> None:
    bucket = s3_server.bucket(**{"cats/1.jpg": b"x"})
    answers = {
        f: Fastdup.s3_folder_exists_and_not_empty(f"s3://{bucket}/{f}") for f in ("cats", "cats/", "cat", "", "x")
    }
    assert answers == {"cats": True, "cats/": True, "cat": False, "": True, "x": False}
    with pytest.raises(ValueError, match="http://x"):
        Fastdup.s3_folder_exists_and_not_empty("http://x")
