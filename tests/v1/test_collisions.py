"""A user's columns may have any name: nothing that the results are made with meets them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import fastdup_dagster as fastdup

QUIET = {"print_summary": False, "num_threads": 2}
AWKWARD = ["_code", "_id", "_metric", "row", "new", "count", "component_id", "distance", "from", "to", "outlier",
    "nearest", "files", "files_ids", "len", "blur", "blur_annotation", "mean", "area", "comp_size", "metric", "value",
    "group", "members", "error", "shown", "filename_from", "media", "parent", "box", "uri", "instance_id"]  # fmt: skip


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory, images: Path) -> fastdup.Fastdup:
    """A run whose annotations have columns of all these names, the value is the row."""
    names = [f"photo-000{n}.jpg" for n in range(8)]
    frame = pd.DataFrame({"filename": names, **{column: range(8) for column in AWKWARD}})
    fd = fastdup.create(tmp_path_factory.mktemp("collisions"), images)
    fd.run(annotations=frame, threshold=-1, cc_threshold=-1, **QUIET)
    return fd


def test_annotations_keep_every_column_and_every_row_is_valid(awkward: fastdup.Fastdup) -> None:
    shown = awkward.annotations()
    assert len(shown) == 8 and shown["is_valid"].all()
    assert list(shown.columns) == [*AWKWARD, "index", "filename", "error_code", "is_valid"]
    for column in AWKWARD:
        assert shown[column].tolist() == list(range(8)), column


def test_every_accessor_shows_them_beside_its_own(awkward: fastdup.Fastdup) -> None:
    pairs, lonely, stats = awkward.similarity(), awkward.outliers(), awkward.img_stats()
    members, _ = awkward.connected_components()
    rows = awkward.annotations().set_index("index")
    for column in AWKWARD:
        assert (pairs[f"{column}_to"] == pairs["to"].map(rows[column])).all(), column
        assert (lonely[f"{column}_nearest"] == lonely["nearest"].map(rows[column])).all(), column
        of_user = f"{column}_annotation" if column in ("blur", "mean") else column
        of_user = "blur_annotation_annotation" if column == "blur_annotation" else of_user
        assert of_user in stats.columns, column
    assert stats["blur"].tolist() != list(range(8)) and stats["blur_annotation"].tolist() in ([*range(8)], [*range(8)])
    assert members["count"].eq(8).all() and members["count_annotation"].tolist() == list(range(8))


@pytest.mark.parametrize("metric", ["blur", "mean", "min", "max", "stdv", "file_size", "img_w"])
def test_groups_have_the_mean_of_the_statistic_not_of_the_users_column(metric: str, awkward: fastdup.Fastdup) -> None:
    grouped = awkward.connected_components_grouped(metric=metric)
    assert grouped[metric][0] == pytest.approx(awkward.img_stats()[metric].mean())
    assert grouped["len"].tolist() == [8]


def test_galleries_sort_by_what_was_asked_for(awkward: fastdup.Fastdup, tmp_path: Path) -> None:
    for arguments in ({}, {"metric": "blur"}, {"sort_by": "metric"}, {"sort_by": "value"}, {"sort_by": "_code"}):
        page = awkward.vis.component_gallery(tmp_path / "page.html", show=False, **arguments)
        assert "Component 0" in page.read_text()
    assert awkward.vis.outliers_gallery(tmp_path, sort_by="_id", show=False).is_file()
    assert len(awkward.img_grouped_annot(["_id"])) == 15
