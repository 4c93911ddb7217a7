"""The listing fixes ids: they are positions in the full listing, bad files included, and slices of it concatenate."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.settings import Settings, settings_from
from fastdup_dagster.sources import Entry, NothingFoundError, open_source
from fastdup_dagster.stages.image_manifest import list_images, manifest_version
from fastdup_dagster.storage import table_digest


class Made:
    """A source of n files of known sizes."""

    name = "a made source"
    notes: list[str] = []  # noqa: RUF012

    def __init__(self, count: int) -> None:
        self._count = count

    def entries(self):
        for number in range(self._count):
            yield Entry(f"{number:03}.jpg", f"file:///made/{number:03}.jpg", number, 1)


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


def listed(folder: Path, **settings: object) -> pl.DataFrame:
    return list_images(open_source(folder), settings_from(settings)).frame


offsets = st.none() | st.integers(0, 25)


@given(offsets, offsets, st.none() | st.integers(1, 25))
def test_a_slice_holds_the_rows_of_the_full_listing_with_their_ids(low, high, count) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    settings = settings_from({"min_offset": low, "max_offset": high, "num_images": count})
    expected = list(range(20))[low:high][:count]
    if not expected:
        with pytest.raises(NothingFoundError, match=f"min_offset={low}, max_offset={high}"):
            list_images(Made(20), settings)
        return
    listing = list_images(Made(20), settings)
    assert listing.frame["index"].to_list() == expected
    assert listing.frame.equals(list_images(Made(20), Settings()).frame[expected])
    outside = f"{20 - len(expected)} of 20 are outside num_images, min_offset, max_offset"
    assert listing.notes == ([outside] if len(expected) < 20 else [])


@given(st.lists(st.integers(0, 20), max_size=4))
def test_shards_concatenate_to_the_full_listing(cuts: list[int]) -> None:
    edges = sorted({0, *cuts, 20})
    shards = [
        list_images(Made(20), settings_from({"min_offset": low, "max_offset": high})).frame
        for low, high in itertools.pairwise(edges)
    ]
    assert pl.concat(shards).equals(list_images(Made(20), Settings()).frame)


def test_the_table_has_its_schema_and_one_row_per_file(tmp_path: Path) -> None:
    frame = list_images(open_source(write(tmp_path, "a.jpg", "b/c.png")), Settings(), split="train").frame
    assert frame.columns == IMAGE_MANIFEST.names
    assert frame.schema == IMAGE_MANIFEST.frame().schema
    assert frame["filename"].to_list() == ["a.jpg", "b/c.png"]
    assert frame["split"].to_list() == ["train", "train"]
    assert frame["file_size"].to_list() == [5, 7]
    assert frame["media"].unique().to_list() == ["image"]


def test_breaking_a_file_shifts_no_id(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number}.jpg" for number in range(6)))
    before = listed(tmp_path)
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "4.jpg").unlink()
    (tmp_path / "4.jpg").symlink_to(tmp_path / "gone")
    after = listed(tmp_path)
    same = ["index", "instance_id", "filename", "uri"]
    assert after.select(same).equals(before.select(same))
    assert after["error_code"].to_list() == [None, None, "ZERO_SIZE_FILE", None, "MISSING_FILE", None]


def test_adding_a_file_shifts_indexes_but_no_instance_id(tmp_path: Path) -> None:
    write(tmp_path, "b.jpg", "c.jpg")
    before = dict(listed(tmp_path).select("filename", "instance_id").iter_rows())
    write(tmp_path, "a.jpg")
    after = dict(listed(tmp_path).select("filename", "instance_id").iter_rows())
    assert {name: after[name] for name in before} == before
    assert len(set(after.values())) == 3


def test_instance_ids_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    frames = [listed(write(tmp_path / place, "a.jpg", "sub/b.jpg")) for place in ("here", "there")]
    assert frames[0]["instance_id"].equals(frames[1]["instance_id"])
    assert frames[0]["uri"].to_list() != frames[1]["uri"].to_list()
    assert all(len(name) == 32 for name in frames[0]["instance_id"])


def test_what_a_regular_expression_leaves_out_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "cats/1.jpg", "dogs/2.jpg", "cats/3.png")
    listing = list_images(open_source(tmp_path), settings_from({"find_regex": r"^cats/\d\.jpg$"}))
    assert listing.frame["filename"].to_list() == ["cats/1.jpg"]
    assert listing.notes == ["2 files do not match find_regex='^cats/\\\\d\\\\.jpg$'"]
    with pytest.raises(NothingFoundError, match="3 files do not match find_regex='birds'"):
        list_images(open_source(tmp_path), settings_from({"find_regex": "birds"}))


def test_files_under_the_smallest_size_are_left_out_and_counted_but_missing_ones_stay(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "longer-name.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone")
    listing = list_images(open_source(tmp_path), settings_from({"min_file_size": 10}))
    assert listing.frame["filename"].to_list() == ["broken.jpg", "longer-name.jpg"]
    assert listing.notes == ["1 files are under min_file_size=10 bytes"]


def test_notes_of_the_source_come_first(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg", "c.txt")
    notes = list_images(open_source(tmp_path), settings_from({"num_images": 1})).notes
    assert notes == [
        "not images by their names, left out: 1 .txt",
        "1 of 2 are outside num_images, min_offset, max_offset",
    ]


def test_a_touched_file_changes_the_version_of_the_manifest_but_not_its_digest(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    before = listed(tmp_path)
    assert manifest_version(listed(tmp_path)) == manifest_version(before)
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    touched = listed(tmp_path)
    assert manifest_version(touched) != manifest_version(before)
    assert table_digest(IMAGE_MANIFEST, touched) == table_digest(IMAGE_MANIFEST, before)
    write(tmp_path, "c.jpg")
    assert table_digest(IMAGE_MANIFEST, listed(tmp_path)) != table_digest(IMAGE_MANIFEST, before)


def test_a_moved_folder_changes_neither_version_nor_digest(tmp_path: Path) -> None:
    write(tmp_path / "here", "a.jpg")
    before = listed(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    after = listed(tmp_path / "there")
    assert manifest_version(after) == manifest_version(before)
    assert table_digest(IMAGE_MANIFEST, after) == table_digest(IMAGE_MANIFEST, before)


def test_the_time_of_modification_keeps_its_nanoseconds(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_700_000_000_123_456_789))
    mtime = listed(tmp_path)["mtime"]
    assert mtime.dtype == pl.Datetime("ns", "UTC")
    assert mtime.dt.timestamp("ns").to_list() == [1_700_000_000_123_456_789]
