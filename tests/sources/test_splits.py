"""Sub-folders that are called like splits are splits; otherwise a folder is one split."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdup_dagster.sources import find_splits, images_outside


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")


def test_sub_folders_called_like_splits_are_found_in_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "val/a.jpg", "train/b.jpg", "Test/c.jpg", "other/d.jpg", "validation.txt")
    assert find_splits(tmp_path) == {"test": "Test", "train": "train", "val": "val"}
    assert list(find_splits(tmp_path)) == ["test", "train", "val"]


def test_splits_below_a_folder_called_images_are_found(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "images/val/b.jpg", "labels/train/a.txt")
    assert list(find_splits(tmp_path)) == ["train", "val"]
    assert find_splits(tmp_path)["val"] == "images/val"


def test_splits_of_the_root_go_before_those_of_images(tmp_path: Path) -> None:
    write(tmp_path, "train/a.jpg", "images/val/b.jpg")
    assert list(find_splits(tmp_path)) == ["train"]


def test_a_folder_without_such_names_is_one_split(tmp_path: Path) -> None:
    write(tmp_path, "cats/a.jpg", "trains/b.jpg", "train.jpg")
    assert find_splits(tmp_path) == {"all": "."}


def test_two_folders_that_differ_in_case_alone_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "Train/a.jpg", "train/b.jpg")
    with pytest.raises(ValueError, match=r"/Train and .*/train are both the split 'train'"):
        find_splits(tmp_path)


def test_images_in_no_split_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "train/a.jpg", "val/b.jpg", "c.jpg", "trainer/d.jpg", "x/train/e.jpg", "notes.txt")
    assert images_outside(tmp_path, ["train", "val"]) == 3
    assert images_outside(tmp_path, ["."]) == 0
    write(tmp_path, "nested/images/test/f.jpg", "nested/images/g.jpg")
    assert images_outside(tmp_path / "nested", ["images/test"]) == 1


def test_archives_called_like_splits_are_splits_where_no_folder_is(tmp_path: Path) -> None:
    write(tmp_path, "train.tar.gz", "Test.zip", "val.mp4", "other.tar", "test.txt")
    found = find_splits(tmp_path)
    assert found == {"test": "Test.zip", "train": "train.tar.gz", "val": "val.mp4"}
    assert images_outside(tmp_path, list(found.values())) == 1
    write(tmp_path, "train/a.jpg")
    assert find_splits(tmp_path) == {"train": "train"}


def test_two_archives_of_one_split_are_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path, "train.tar", "train.zip")
    with pytest.raises(ValueError, match=r"train\.tar and .*train\.zip are both the split 'train'"):
        find_splits(tmp_path)
