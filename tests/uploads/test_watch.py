"""A finished upload is launched once, whatever happens between two looks; an unfinished one never."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdup_dagster.datasets import DatasetEntry, Uploads
from fastdup_dagster.uploads import trees
from fastdup_dagster.uploads.memory import Finished
from fastdup_dagster.uploads.watch import Budget, Look, State


class Uploader:
    """Uploads into a folder or a bucket, and looks at it."""

    def __init__(self, root: str, server: Any = None) -> None:
        self.root, self.server = root, server
        self.now = 1_000.0
        self.text: str | None = None
        self.problems: list[str] = []
        self.entry = DatasetEntry(root=root, splits={"train": "train"}, store="/nowhere")

    def put(self, name: str, data: bytes = b"x") -> None:
        if self.server is None:
            path = Path(self.root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
            self.server.client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)

    def delete(self, name: str) -> None:
        if self.server is None:
            (Path(self.root) / name).unlink()
        else:
            bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
            self.server.client.delete_object(Bucket=bucket, Key=f"{prefix}/{name}")

    def settle(self, minutes: float = 10) -> None:
        self.entry = self.entry.model_copy(update={"uploads": Uploads(settled_minutes=minutes)})

    def look(self, minutes: float = 1, **budget: Any) -> list[Finished]:
        """Looks some minutes later, from what the last look left as text."""
        self.now += 60 * minutes
        state = State.from_text(self.text)
        look = Look(state, Budget(**budget) if budget else None, clock=lambda: self.now)
        look.at({"pets": self.entry})
        self.text, self.problems = state.to_text(), look.problems
        for finished in look.finished:
            if finished.place is not None:
                splits = {**self.entry.splits, finished.partition.partition("/")[2]: finished.place}
                self.entry = self.entry.model_copy(update={"splits": splits})
        return look.finished

    def looked(self, minutes: float = 1, **budget: Any) -> list[str]:
        return [finished.partition for finished in self.look(minutes, **budget)]


@pytest.fixture(params=["folder", "bucket"])
def uploads(request: Any, tmp_path: Path) -> Uploader:
    if request.param == "folder":
        return Uploader(str(tmp_path / "root"))
    server = request.getfixturevalue("s3_server")
    request.getfixturevalue("s3_credentials")
    return Uploader(f"s3://{server.bucket()}/ro ot", server)


@pytest.fixture
def local(tmp_path: Path) -> Uploader:
    return Uploader(str(tmp_path / "root"))


@pytest.fixture
def old(monkeypatch) -> Callable[[], None]:
    """Objects count as old enough at once; the clock of a storage is not waited for."""
    monkeypatch.setattr("fastdup_dagster.uploads.watch._YOUNG", -10.0)
    return lambda: None


def test_a_split_is_launched_when_its_marker_is_there_and_again_when_it_is_written_anew(uploads, old) -> None:
    uploads.put("train/1.jpg")
    assert uploads.looked() == []
    uploads.put("train/_SUCCESS", b"1")
    [first] = uploads.look()
    assert (first.partition, first.place) == ("pets/train", None)
    assert uploads.looked() == []
    uploads.put("train/2.jpg")
    assert uploads.looked() == []
    uploads.put("train/_SUCCESS", b"2")
    [second] = uploads.look()
    assert second.run_key != first.run_key
    assert uploads.looked() == []


def test_a_marker_is_waited_for_as_long_as_its_clock_could_hide_another_write(uploads) -> None:
    uploads.put("train/_SUCCESS")
    uploads.put("train/_SUCCESS")  # the same bytes within the same second
    assert uploads.looked() == []


def test_a_marker_that_was_removed_counts_anew_when_it_comes_back(uploads, old) -> None:
    uploads.put("train/_SUCCESS")
    assert uploads.looked() == ["pets/train"]
    uploads.delete("train/_SUCCESS")
    assert uploads.looked() == []
    uploads.put("train/_SUCCESS")
    assert uploads.looked() == ["pets/train"]


def test_a_new_folder_beside_the_splits_becomes_one_once_its_upload_is_finished(uploads, old) -> None:
    uploads.put("train/1.jpg")
    uploads.put("Val/1.jpg")
    uploads.put(".hidden/_SUCCESS")
    uploads.put("_staging/_SUCCESS")
    assert uploads.looked() == []
    uploads.put("Val/_SUCCESS")
    [found] = uploads.look()
    assert (found.partition, found.place) == ("pets/val", "Val")
    assert uploads.looked() == []


def test_a_folder_that_cannot_be_a_split_is_named_and_stops_nothing(uploads, old) -> None:
    uploads.put("train/_SUCCESS")
    uploads.put("Train/_SUCCESS")
    uploads.put("ü/_SUCCESS")
    assert uploads.looked() == ["pets/train"]
    assert any("Train and train are both the split 'train'" in problem for problem in uploads.problems)
    assert any("split name 'ü'" in problem for problem in uploads.problems)


def test_a_whole_data_set_has_no_further_splits(uploads, old) -> None:
    uploads.entry = DatasetEntry(root=uploads.root, splits={"all": "."}, store="/nowhere")
    uploads.put("train/_SUCCESS")
    assert uploads.looked() == []
    uploads.put("_SUCCESS")
    assert uploads.looked() == ["pets/all"]


def test_a_listing_that_did_not_change_for_so_long_is_launched_once(uploads) -> None:
    uploads.settle(10)
    uploads.put("train/1.jpg")
    assert uploads.looked() == []
    assert uploads.looked(9) == []
    uploads.put("train/2.jpg")
    assert uploads.looked(2) == []  # it begins anew
    assert uploads.looked(9) == []
    assert uploads.looked(2) == ["pets/train"]
    assert uploads.looked(100) == []


@pytest.mark.parametrize("change", ["added", "changed", "deleted", "deleted all", "renamed"])
def test_every_kind_of_change_of_a_settled_listing_is_noticed(uploads, change: str) -> None:
    uploads.settle(10)
    uploads.put("train/1.jpg")
    uploads.put("train/2.jpg", b"two")
    uploads.look()
    assert uploads.looked(10) == ["pets/train"]
    if change == "added":
        uploads.put("train/3.jpg")
    if change == "changed":
        uploads.put("train/2.jpg", b"owt")
    if change.startswith("deleted") or change == "renamed":
        uploads.delete("train/2.jpg")
    if change == "deleted all":
        uploads.delete("train/1.jpg")
    if change == "renamed":
        uploads.put("train/4.jpg", b"two")
    assert uploads.looked(20) == []
    assert uploads.looked(10) == ["pets/train"]
    assert uploads.looked(100) == []


def test_content_that_comes_back_is_launched_again_under_another_key(local) -> None:
    local.settle(10)
    local.put("train/1.jpg")
    copy = Path(local.root) / "copy"
    keys = []
    for _ in range(2):
        local.look()
        keys += [found.run_key for found in local.look(10)]
        (Path(local.root) / "train" / "1.jpg").rename(copy)
        local.put("train/1.jpg", b"other")
        local.look()
        keys += [found.run_key for found in local.look(10)]
        copy.rename(Path(local.root) / "train" / "1.jpg")
    assert len(keys) == len(set(keys)) == 4


def test_a_listing_of_many_pages_goes_on_in_the_next_look_from_where_it_was(uploads, monkeypatch) -> None:
    monkeypatch.setattr(trees, "PAGE", 2)
    uploads.settle(10)
    for number in range(9):
        uploads.put(f"train/{number}.jpg")
    looks = 0
    while not uploads.looked(5, requests=3):
        looks += 1
        assert looks < 12
    # two listings of five pages each, at two pages a look beside the one of folders, the second 10 minutes on
    assert looks >= 5
    assert uploads.looked(100, requests=3) == []


def test_an_interrupted_look_is_taken_again_with_the_same_keys(local, old) -> None:
    local.put("train/_SUCCESS")
    local.look()
    local.put("train/_SUCCESS", b"2")
    before = local.text
    [first] = local.look()
    local.text = before
    [again] = local.look()
    assert first == again


def test_what_is_over_the_number_of_launches_follows_and_every_split_has_its_turn(local, old) -> None:
    for number in range(7):
        local.put(f"part{number}/_SUCCESS")
    found = []
    for _ in range(4):
        some = local.looked(1, requests=50, launches=2)
        assert len(some) <= 2
        found += some
    assert sorted(found) == [f"pets/part{number}" for number in range(7)]
    local.put("part6/_SUCCESS", b"2")
    seen = [local.looked(1, requests=3) for _ in range(5)]
    assert [key for some in seen for key in some] == ["pets/part6"]


def test_a_store_within_the_folder_does_not_start_runs(local) -> None:
    local.entry = DatasetEntry(root=local.root, splits={"all": "."}, store=f"{local.root}/results")
    local.settle(10)
    local.put("1.jpg")
    local.look()
    assert local.looked(10) == ["pets/all"]
    local.put("results/pages/x.jpg")
    assert local.looked(10) == []
    assert local.looked(10) == []


def test_a_data_set_that_is_no_longer_registered_is_forgotten(local, old) -> None:
    local.put("train/_SUCCESS")
    local.look()
    state = State.from_text(local.text)
    Look(state).at({})
    assert state.launched == {}


def test_a_state_that_is_none_begins_anew_under_other_keys(local, old) -> None:
    local.put("train/_SUCCESS")
    [first] = local.look()
    local.text = "[]"
    [again] = local.look()
    assert first.partition == again.partition
    assert first.run_key != again.run_key


def test_a_root_that_cannot_be_reached_is_named_and_the_others_are_looked_at(local, old, s3_server) -> None:
    local.put("train/_SUCCESS")
    gone = DatasetEntry(root="s3://no-such-bucket/x", splits={"train": "train"}, store="/nowhere")
    look = Look(State())
    look.at({"gone": gone, "pets": local.entry})
    assert [found.partition for found in look.finished] == ["pets/train"]
    assert any("no bucket 'no-such-bucket'" in problem for problem in look.problems)


def test_a_split_whose_folder_went_away_waits(local, old) -> None:
    local.put("train/_SUCCESS")
    local.look()
    shutil.rmtree(Path(local.root) / "train")
    assert local.looked() == []
    assert not (Path(local.root) / "train").exists()
