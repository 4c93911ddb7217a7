"""A folder is listed whole, in bytewise order, whatever its names, links and permissions are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdup_dagster.images import ImageError, read_bytes
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import IMAGE_EXTENSIONS, Entry, FolderSource, NothingFoundError, local_path, open_source
from fastdup_dagster.stages.image_manifest import list_images

AWKWARD = [
    b"a space.jpg",
    b"comma,comma.jpg",
    b'double"quote.jpg',
    b"apostrophe's.jpg",
    b"new\nline.jpg",
    b"carriage\rreturn.jpg",
    b"tab\there.jpg",
    b"hash#tag.jpg",
    b"percent%20.jpg",
    b"question?mark=1&b.jpg",
    b"<script>alert(1)<b>.jpg",
    b"back\\slash.jpg",
    b"looks-escaped\\xff.jpg",
    b"not utf-8 \xff\xfe.jpg",
    b"latin caf\xe9.jpg",
    "unicode \u00e9\u4e2d\U0001f600\u202e.jpg".encode(),
    "nfd e\u0301.jpg".encode(),
    b"n" * 236 + b".jpg",
    b"-rf.jpg",
    b"~home.jpg",
    b"{brace}*[a-z].jpg",
    b".hidden.jpg",
    b" .jpg",
    b"trailing space.jpg ".strip() + b".png",
]


def names(folder: Path) -> list[str]:
    return [entry.filename for entry in FolderSource(folder).entries()]


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())


def test_files_come_in_bytewise_order_of_their_relative_paths(tmp_path: Path) -> None:
    paths = [
        "b.jpg",
        "a/z.jpg",
        "a-b.jpg",
        "a.jpg",
        "B.jpg",
        "a/b/c.jpg",
        "10.jpg",
        "9.jpg",
        "\u00e9.jpg",
        "z.jpg",
        "ab.jpg",
    ]
    write(tmp_path, *paths)
    assert names(tmp_path) == sorted(paths, key=lambda path: path.encode())


@given(st.lists(st.lists(st.sampled_from([b"a", b"B", b"-", b".", b"\xff", b" "]), min_size=1, max_size=4), max_size=8))
@settings(max_examples=25)
def test_the_order_is_that_of_the_bytes_for_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    for folders in tree:
        folder = b"/".join([root, *(part + b"x" for part in folders)])
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - bytes
        with open(folder + b"/p.jpg", "wb") as file:  # noqa: PTH123
            file.write(b"1")
    listed = [entry.uri for entry in FolderSource(Path(os.fsdecode(root))).entries()]
    found = []
    for folder, _, files in os.walk(root):
        found += [os.path.join(folder, name)[len(root) + 1 :] for name in files]  # noqa: PTH118
    assert [len(read_bytes(uri)) for uri in listed] == [1] * len(found)
    assert [local_path(uri)[len(root) + 1 :] for uri in listed] == sorted(found)


def test_hidden_files_and_folders_are_listed(tmp_path: Path) -> None:
    write(tmp_path, ".hidden/.a.jpg", ".b.png", "c.jpg")
    assert names(tmp_path) == [".b.png", ".hidden/.a.jpg", "c.jpg"]


def test_extensions_count_whatever_their_case_and_others_are_left_out_with_a_count(tmp_path: Path) -> None:
    write(tmp_path, "a.JPG", "b.JpEg", "c.txt", "d.TXT", "e", "f.jpg.bak", "g.Webp")
    source = FolderSource(tmp_path)
    assert [entry.filename for entry in source.entries()] == ["a.JPG", "b.JpEg", "g.Webp"]
    assert source.notes == ["not images by their names, left out: 1 without extension, 1 .bak, 2 .txt"]


def test_archives_and_videos_beside_images_are_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.tar", "c.tar.gz", "d.zip", "e.mp4", "f.mp4")
    source = FolderSource(tmp_path)
    assert len(list(source.entries())) == 1
    assert source.notes == [
        "left out, because images and archives or videos are not mixed: 1 .gz, 2 .mp4, 1 .tar, 1 .zip"
    ]


def test_every_extension_of_the_contract_is_taken(tmp_path: Path) -> None:
    contract = {
        "jpg",
        "jpeg",
        "jfif",
        "jp2",
        "tif",
        "tiff",
        "giff",
        "gif",
        "heif",
        "heic",
        "avif",
        "bmp",
        "png",
        "webp",
    }
    assert contract == IMAGE_EXTENSIONS
    write(tmp_path, *(f"a.{extension}" for extension in contract))
    assert len(names(tmp_path)) == len(contract)


def test_size_and_time_of_modification_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_234_567_890_123_456_789))
    assert list(FolderSource(tmp_path).entries()) == [
        Entry("a.jpg", f"file://{tmp_path}/a.jpg", 5, 1_234_567_890_123_456_789)
    ]


@pytest.mark.parametrize("seconds", [-(10**9), 0, 2**33, 2**34])
def test_a_file_with_an_impossible_date_is_listed(tmp_path: Path, seconds: int) -> None:
    write(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", (seconds, seconds))
    frame = list_images(FolderSource(tmp_path), Settings()).frame
    assert frame["mtime"].null_count() == 0


def test_an_empty_file_is_a_row_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (entry,) = FolderSource(tmp_path).entries()
    assert (entry.error_code, entry.file_size) == ("ZERO_SIZE_FILE", 0)


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (entry,) = FolderSource(tmp_path).entries()
    assert entry.error_code == "ZERO_SIZE_FILE"


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "outside/deep/a.jpg", "in/b.jpg")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "in" / "c.jpg").symlink_to(tmp_path / "in" / "b.jpg")
    assert names(tmp_path / "in") == ["b.jpg", "c.jpg", "linked/deep/a.jpg"]
    assert names(tmp_path / "in" / "linked") == ["deep/a.jpg"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    write(tmp_path, "a/one.jpg", "b/two.jpg")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "other").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "back").symlink_to(tmp_path / "a")
    found = names(tmp_path)
    assert found[:2] == ["a/one.jpg", "a/other/two.jpg"]
    assert "b/two.jpg" in found
    assert len(found) == len(set(found)) < 10


def test_a_broken_link_and_one_to_itself_are_rows(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "itself.jpg").symlink_to(tmp_path / "itself.jpg")
    write(tmp_path, "good.jpg")
    entries = list(FolderSource(tmp_path).entries())
    assert [entry.error_code for entry in entries] == ["MISSING_FILE", None, "MISSING_FILE"]
    assert entries[0].file_size is None
    assert entries[0].error == "a link that leads nowhere"


def test_a_folder_that_cannot_be_listed_is_noted_and_the_others_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/1.jpg", "closed/2.jpg", "z/3.jpg")
    scan = os.scandir

    def refuse(path: bytes) -> Iterator[os.DirEntry[bytes]]:
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("fastdup_dagster.sources.folder.os.scandir", refuse)
    source = FolderSource(tmp_path)
    assert [entry.filename for entry in source.entries()] == ["a/1.jpg", "z/3.jpg"]
    assert source.notes == ["folder not listed: closed (Permission denied)"]


def test_folders_nested_deeper_than_python_recurses_are_listed(tmp_path: Path) -> None:
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1_100):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.jpg").write_bytes(b"deep")
    finally:
        os.chdir(here)
    try:
        (entry,) = FolderSource(tmp_path).entries()
        assert entry.filename == "d/" * 1_100 + "a.jpg"
        assert read_bytes(entry.uri) == b"deep"
    finally:  # pytest's own removal of the folder recurses
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


@pytest.mark.parametrize("name", AWKWARD, ids=lambda name: repr(name[:24]))
def test_an_awkward_name_goes_all_the_way_from_the_listing_to_the_bytes(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"content of " + name)
    frame = list_images(FolderSource(tmp_path), Settings()).frame
    assert read_bytes(frame["uri"][0]) == b"content of " + name
    frame["filename"][0].encode("utf-8")
    assert frame["uri"][0].isascii()


def test_awkward_names_get_different_filenames_and_ids(tmp_path: Path) -> None:
    for name in AWKWARD:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:  # noqa: PTH123 - bytes
            file.write(b"x")
    frame = list_images(FolderSource(tmp_path), Settings()).frame
    assert frame["filename"].n_unique() == frame["instance_id"].n_unique() == frame["uri"].n_unique() == len(AWKWARD)


def test_an_empty_folder_is_an_error_that_says_where_and_for_what(tmp_path: Path) -> None:
    with pytest.raises(NothingFoundError) as raised:
        list_images(open_source(tmp_path), Settings())
    assert str(tmp_path) in str(raised.value)
    assert all(extension in str(raised.value) for extension in IMAGE_EXTENSIONS)


def test_a_folder_without_images_says_what_it_holds_instead(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.doc")
    with pytest.raises(NothingFoundError, match=r"1 \.doc, 1 \.txt"):
        list_images(open_source(tmp_path), Settings())


def test_a_folder_of_broken_videos_and_archives_alone_has_a_row_for_each(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.zip", "c.mp4", "d.tar.gz")
    listing = list_images(open_source(tmp_path), Settings())
    assert listing.frame.select("filename", "media", "error_code").rows() == [
        ("b.zip", "member", "READ_ERROR"),
        ("c.mp4", "frame", "CORRUPT_IMAGE"),
        ("d.tar.gz", "member", "READ_ERROR"),
    ]
    assert "not images by their names, left out: 1 .txt" in listing.notes


def test_folders_that_all_link_to_one_another_are_listed_in_no_time_and_in_one_order(tmp_path: Path) -> None:
    places = [tmp_path / f"f{number:02}" for number in range(12)]
    for place in places:
        write(place, "a.jpg")
    for place in places:
        for other in places:
            (place / f"to-{other.name}").symlink_to(other)
    source = FolderSource(tmp_path)
    found = [entry.filename for entry in source.entries()]
    assert {f"{place.name}/a.jpg" for place in places} <= set(found)
    assert len(found) == len(set(found)) <= 2 * len(places)
    assert any("another link led to" in note for note in source.notes)
    assert [entry.filename for entry in source.entries()] == found


def test_listing_twice_gives_the_same_rows_and_the_same_notes(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.txt")
    source = FolderSource(tmp_path)
    first, notes = list(source.entries()), source.notes
    assert (list(source.entries()), source.notes) == (first, notes)


def test_a_file_that_goes_away_after_the_listing_is_missing_not_a_crash(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    (entry,) = FolderSource(tmp_path).entries()
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ImageError) as raised:
        read_bytes(entry.uri)
    assert raised.value.code == "MISSING_FILE"
