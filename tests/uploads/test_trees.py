"""A folder and a bucket look the same to whoever watches them, object by object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.uploads import trees
from fastdup_dagster.uploads.trees import digest_sum, open_tree

FILES = ("a/1.jpg", "a/2.jpg", "a/b/3.jpg", "a.jpg", "a-b/4.jpg", "é ü/5%+.jpg", "z/_SUCCESS", "0.jpg")


@pytest.fixture(params=["folder", "bucket"])
def place(request: Any, tmp_path: Path) -> str:
    """A tree with the files, in a folder or in a bucket."""
    if request.param == "folder":
        for name in FILES:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        return str(tmp_path)
    server = request.getfixturevalue("s3_server")
    request.getfixturevalue("s3_credentials")
    return f"s3://{server.bucket(**{f'in put/{name}': name.encode() for name in FILES})}/in put"


def everything(place: str) -> list[tuple[str, str]]:
    tree, found, after = open_tree(place), [], ""
    while True:
        page = tree.page(after)
        assert len(page.objects) <= trees.PAGE
        found += page.objects
        if page.after is None:
            return found
        after = page.after


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_pages_hold_every_object_once_wherever_they_are_cut(place: str, size: int, monkeypatch) -> None:
    monkeypatch.setattr(trees, "PAGE", size)
    found = everything(place)
    assert sorted(name for name, _ in found) == sorted(FILES)
    assert digest_sum("", found) == digest_sum(digest_sum("", found[:3]), found[:2:-1])


def test_sub_folders_are_those_directly_below(place: str) -> None:
    assert sorted(open_tree(place).folders()) == ["a", "a-b", "z", "é ü"]


def test_a_marker_has_a_token_and_an_age_and_may_be_missing(place: str) -> None:
    assert open_tree(place).marker("_SUCCESS") is None
    marker = open_tree(f"{place}/z").marker("_SUCCESS")
    assert marker is not None
    assert -1 <= marker.age < 60
    assert marker == open_tree(f"{place}/z").marker("_SUCCESS") or marker.token
    assert open_tree(f"{place}/nothing").marker("_SUCCESS") is None
    assert open_tree(f"{place}/nothing").folders() == []
    assert open_tree(f"{place}/nothing").page("").objects == []


@given(st.lists(st.tuples(st.text(), st.text()), unique=True), st.data())
def test_the_sum_depends_on_the_objects_alone_and_on_each_of_them(objects, data) -> None:
    whole = digest_sum("", objects)
    assert digest_sum("", data.draw(st.permutations(objects))) == whole
    cut = data.draw(st.integers(0, len(objects)))
    assert digest_sum(digest_sum("", objects[:cut]), objects[cut:]) == whole
    if objects:
        assert digest_sum("", objects[1:]) != whole


def test_a_file_written_anew_has_another_token_even_with_its_old_time_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    before = everything(str(tmp_path))
    (tmp_path / "b").write_bytes(b"two")
    os.utime(tmp_path / "b", ns=(1, 1))
    (tmp_path / "b").replace(path)
    assert everything(str(tmp_path)) != before


def test_loops_of_links_and_names_of_any_bytes_are_survived(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "gone").symlink_to(tmp_path / "nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    found = everything(str(tmp_path))
    assert [name for name, _ in found] == [os.fsdecode(b"\xff.jpg")]
    assert len(digest_sum("", found)) == 32
