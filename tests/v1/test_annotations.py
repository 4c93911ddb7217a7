"""A user's annotations: spellings, types, files that are missing on either side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster.annotations import read_annotations

QUIET = {"print_summary": False, "num_threads": 2}


@pytest.mark.parametrize("kind", ["pandas", "polars", "csv", "path", "lazy"])
def test_frames_and_csv_files_give_the_same(kind: str, annotated: pd.DataFrame, images: Path, tmp_path: Path) -> None:
    annotated.to_csv(tmp_path / "given.csv", index=False)
    given = {
        "pandas": annotated,
        "polars": pl.from_pandas(annotated),
        "lazy": pl.from_pandas(annotated).lazy(),
        "csv": str(tmp_path / "given.csv"),
        "path": tmp_path / "given.csv",
    }[kind]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=given, **QUIET)
    shown = fd.annotations(valid_only=False)
    known = shown[shown["error_code"] != "MISSING_ANNOTATION"]
    assert known["label"].tolist() == annotated["label"].tolist()
    assert known["weight"].tolist() == annotated["weight"].tolist()
    assert fastdup.create(tmp_path / "work").annotations().equals(fd.annotations())


def test_names_may_be_relative_absolute_or_as_the_results_spell_them(images: Path, tmp_path: Path) -> None:
    names = ["photo-0000.jpg", "./photo-0001.jpg", str(images / "photo-0002.jpg")]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=pd.DataFrame({"img_filename": names, "label": list("abc")}), **QUIET)
    assert fd.annotations()["label"].tolist() == list("abc")
    fd.run(annotations=fd.annotations(), **QUIET)
    assert fd.annotations()["label"].tolist() == list("abc")
    assert any("is_valid" in note for note in fd.config["notes"])


def test_annotations_alone_can_name_the_images(images: Path, tmp_path: Path) -> None:
    names = [str(images / f"photo-000{n}.jpg") for n in (5, 2)]
    fd = fastdup.create(tmp_path / "work")
    fd.run(annotations=pd.DataFrame({"filename": names}), **QUIET)
    assert fd.annotations()["filename"].tolist() == names


def test_a_file_outside_the_listing_is_taken_whatever_its_extension(images: Path, tmp_path: Path) -> None:
    odd = tmp_path / "picture.data"
    odd.write_bytes((images / "photo-0000.jpg").read_bytes())
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=pd.DataFrame({"filename": [str(odd), "photo-0000.jpg"]}), **QUIET)
    assert fd.annotations()["index"].tolist() == [3, 15]
    assert fd.tables.similarity["kind"].to_list() == ["identical_bytes"] * 2


def test_labels_of_any_kind_survive(images: Path, tmp_path: Path) -> None:
    names = [f"photo-000{n}.jpg" for n in range(6)]
    labels = [None, float("nan"), 3, "cat", 2.5, True]
    frame = pd.DataFrame({"filename": names, "label": pd.Series(labels, dtype="object"), "tags": [[1, 2]] * 6})
    frame["when"] = pd.Timestamp("2024-01-01")
    frame["kind"] = pd.Categorical(["x", "y"] * 3)
    frame["empty"] = None
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame, cc_threshold=-1, **QUIET)
    shown = fd.annotations()
    assert shown["label"].isna().tolist() == [True, True, False, False, False, False]
    assert shown["label"].tolist()[2:] == ["3", "cat", "2.5", "True"]
    assert [list(tags) for tags in shown["tags"]] == [[1, 2]] * 6
    assert shown["when"].eq(pd.Timestamp("2024-01-01")).all()
    assert shown["kind"].tolist() == ["x", "y"] * 3 and shown["empty"].isna().all()
    assert len(fd.connected_components_grouped()["label"][0]) == 6
    frame["label"] = [1, 2, 3, 4, 5, 6]
    fd.run(annotations=frame, **QUIET)
    assert fd.annotations()["label"].tolist() == [1, 2, 3, 4, 5, 6]
    assert fd.tables.manifest["label"].drop_nulls().to_list() == list("123456")


def test_columns_called_like_statistics_are_kept_apart(images: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"filename": ["photo-0000.jpg", "photo-0001.jpg"], "img_w": [1, 2], "mean": [3, 4], "from": [5, 6]}
    )
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame, threshold=-1, **QUIET)
    statistics = fd.img_stats()
    assert statistics["img_w"].tolist() == [128, 128] and statistics["img_w_annotation"].tolist() == [1, 2]
    assert statistics["mean_annotation"].tolist() == [3, 4]
    assert fd.similarity()["from_from"].tolist() in ([5, 6], [6, 5])


def test_filters_leave_out_annotated_files_too_and_say_so(images: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"filename": [f"photo-000{n}.jpg" for n in range(8)], "label": range(8)})
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame, find_regex=r"000[23]", **QUIET)
    assert fd.annotations(valid_only=False)["label"].tolist() == [2, 3]
    assert any("6 annotation rows" in note for note in fd.config["notes"])
    fd.run(annotations=frame, subset=["photo-0005.jpg", str(images / "photo-0001.jpg")], **QUIET)
    assert fd.annotations(valid_only=False)["label"].tolist() == [1, 5]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"filename": ["a", None]}), r"rows \[1\]"),
        (pd.DataFrame({"filename": ["a", "./a"]}), "1 duplicate file names.*'./a'"),
        (
            pd.DataFrame({"filename": ["a", "a"], "col_x": 1, "row_y": 1, "height": 9}),
            r"need the columns \['width'\] too",
        ),
        (pd.DataFrame({"label": ["a"]}, index=pd.Index(["a.jpg"], name="filename")), r"give annotations\.reset_index"),
        (pd.DataFrame([["a", 1, 2]], columns=["filename", "x", "x"]), "two columns are called 'x'"),
    ],
)
def test_what_cannot_be_an_annotation_is_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_annotations(frame)


def test_two_spellings_of_one_file_are_a_duplicate(images: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", images)
    twice = pd.DataFrame({"filename": ["photo-0000.jpg", str(images / "photo-0000.jpg")]})
    with pytest.raises(ValueError, match=r"several rows for one image.*photo-0000\.jpg"):
        fd.run(annotations=twice, **QUIET)


def test_numbers_of_boxes_may_be_text_that_says_a_number() -> None:
    frame = pl.DataFrame({"filename": ["a"], "col_x": ["1"], "row_y": ["2"], "width": ["30.5"], "height": ["40"]})
    assert read_annotations(frame).boxes == [(1.0, 2.0, 30.5, 40.0)]
    assert np.isnan(read_annotations(frame.with_columns(width=pl.lit(None))).boxes[0][2])
