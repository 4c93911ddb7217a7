"""Listings of registered splits: what annotations add to them, and what of annotations is left out is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import NothingFoundError
from fastdup_dagster.stages.image_manifest import Listing, manifest_version
from fastdup_dagster.stages.split_listing import list_split


@pytest.fixture
def root(tmp_path: Path, photos) -> Path:
    photos(tmp_path / "train", 3)
    photos(tmp_path / "val", 2, first=10)
    return tmp_path


def write(root: Path, text: str) -> None:
    (root / "labels.csv").write_text(text)


def listed(root: Path, split: str = "train", **entry: Any) -> Listing:
    given = {"splits": {"train": "train", "val": "val"}, "annotations": "labels.csv"} | entry
    return list_split(DatasetEntry(root=str(root), **given), split, Settings())


BY_FOLDER = """\
filename,label,weather,split
train/photo-0001.jpg,cat,sun,train
train/photo-0000.jpg,dog,rain,train
val/photo-0010.jpg,cat,,val
"""


def test_label_and_the_users_columns_stand_beside_the_files_of_the_split(root):
    write(root, BY_FOLDER)
    frame = listed(root).frame
    assert frame.columns == [*IMAGE_MANIFEST.names, "weather"]
    rows = frame.select("index", "filename", "label", "weather", "split").rows()
    assert rows == [
        (0, "photo-0000.jpg", "dog", "rain", "train"),
        (1, "photo-0001.jpg", "cat", "sun", "train"),
        (2, "photo-0002.jpg", None, None, "train"),
    ]
    assert listed(root, "val").frame["label"].to_list() == ["cat", None]


def test_a_changed_label_is_another_listing(root):
    write(root, BY_FOLDER)
    before = manifest_version(listed(root).frame)
    assert manifest_version(listed(root).frame) == before
    write(root, BY_FOLDER.replace("cat,sun", "cat,snow"))
    assert manifest_version(listed(root).frame) != before


def test_a_column_says_which_split_a_file_is_in(root):
    write(
        root, "filename,label,subset\ntrain/photo-0001.jpg,cat,T\nval/photo-0010.jpg,dog,T\ntrain/photo-0000.jpg,a,V\n"
    )
    entry = {"split_column": "subset", "splits": {"train": "T", "val": "V"}}
    frame = listed(root, **entry).frame
    assert frame.select("filename", "label", "subset", "split").rows() == [
        ("train/photo-0001.jpg", "cat", "T", "train"),
        ("val/photo-0010.jpg", "dog", "T", "train"),
    ]
    assert listed(root, "val", **entry).frame["filename"].to_list() == ["train/photo-0000.jpg"]


def test_an_annotated_file_that_is_not_there_is_a_row(root):
    write(root, "filename,label\ntrain/gone.jpg,cat\nval/gone.jpg,dog\n")
    frame = listed(root).frame
    assert frame.filter(pl.col("error_code").is_not_null())["filename"].to_list() == ["train/gone.jpg"]


def test_boxes_are_instances(root):
    write(
        root,
        "filename,label,col_x,row_y,width,height\ntrain/photo-0001.jpg,a,1,2,30,40\ntrain/photo-0001.jpg,b,5,6,20,20\n",
    )
    frame = listed(root).frame
    assert frame.filter(pl.col("media") == "crop").select("label", "box").rows() == [
        ("a", [1.0, 2.0, 30.0, 40.0]),
        ("b", [5.0, 6.0, 20.0, 20.0]),
    ]
    assert frame.filter(pl.col("error_code") == "MISSING_ANNOTATION").height == 2


def test_a_list_file_takes_the_rows_of_what_it_lists(root):
    write(root, BY_FOLDER)
    (root / "list.txt").write_text("train/photo-0000.jpg\nval/photo-0010.jpg\n")
    listing = listed(root, "mine", splits={"mine": "list.txt"})
    assert listing.frame["label"].to_list() == ["dog", "cat"]


def test_a_column_like_one_of_the_listing_is_left_out_and_said(root):
    write(root, "filename,label,media,mood\ntrain/photo-0001.jpg,cat,film,good\n")
    listing = listed(root)
    assert set(listing.frame["media"]) == {"image"}
    assert "annotation columns called like the listing's own are left out: media" in listing.notes


def test_what_is_wrong_is_said(root):
    with pytest.raises(FileNotFoundError, match=r"labels\.csv"):
        listed(root)
    write(root, BY_FOLDER)
    with pytest.raises(ValueError, match="'subset' is no column of the annotations; there are: label, weather, split"):
        listed(root, split_column="subset")
    with pytest.raises(NothingFoundError, match="split=nowhere"):
        listed(root, split_column="split", splits={"train": "nowhere"})
