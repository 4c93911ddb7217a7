"""The plan: which splits, which settings, how many images are new, and what it will cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdup_dagster.command_line.plan import make_plan, resolve_entry
from fastdup_dagster.datasets import DatasetEntry, DatasetsError, register


def resolve(path: Path, *wanted: str, name: str = "pets", replace: bool = False, **changes: object):
    return resolve_entry(path, name, wanted, changes, None, replace)


def test_sub_folders_with_usual_names_are_splits_and_else_there_is_one(home, photos, tmp_path):
    photos(tmp_path / "plain", 2)
    photos(tmp_path / "cut" / "train", 2)
    photos(tmp_path / "cut" / "Val", 2)
    assert resolve(tmp_path / "plain")[0].splits == {"all": "."}
    entry, chosen = resolve(tmp_path / "cut")
    assert entry.splits == {"train": "train", "val": "Val"}
    assert chosen == ["train", "val"]
    assert resolve(tmp_path / "cut", "val")[1] == ["val"]


def test_a_split_that_was_asked_for_once_is_remembered_while_its_folder_is_there(home, photos, tmp_path):
    for split in ("train", "winter"):
        photos(tmp_path / "set" / split, 2)
    entry, chosen = resolve(tmp_path / "set", "winter")
    assert chosen == ["winter"]
    register("pets", entry)
    assert set(resolve(tmp_path / "set")[1]) == {"train", "winter"}
    (tmp_path / "set" / "winter").rename(tmp_path / "gone")
    assert resolve(tmp_path / "set")[1] == ["train"]


def test_replace_forgets_what_the_name_stood_for(home, photos, tmp_path):
    register("pets", DatasetEntry(root="/other", splits={"all": "."}, settings={"threshold": 0.5}, store="/results"))
    photos(tmp_path / "set", 2)
    with pytest.raises(DatasetsError, match="stands for /other"):
        resolve(tmp_path / "set")
    entry, _ = resolve(tmp_path / "set", replace=True)
    assert (entry.root, entry.settings, entry.store) == (str(tmp_path / "set"), {}, None)


def test_only_new_and_changed_images_count_as_work(project):
    entry = DatasetEntry(root=str(project.images), splits={"train": "train", "test": "test"})
    first = make_plan("pets", entry, ["train", "test"], {"num_threads": 2}, recompute=False)
    assert (first.images, first.new) == (18, 18)  # the same files in another place: other rows
    again = make_plan("pets", entry, ["train"], {"num_threads": 2}, recompute=True)
    assert again.new == 10
    assert again.rate is not None
    assert again.seconds == pytest.approx(10 / again.rate)
    other = make_plan("pets", entry, ["train"], {"num_threads": 2, "high_accuracy": True}, recompute=False)
    assert other.new == 10


def test_a_published_split_is_nothing_to_read(analysed, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(analysed.home))
    entry = DatasetEntry(root=str(analysed.images), splits={"train": "train"})
    plan = make_plan("pets", entry, ["train"], {"num_threads": 2}, recompute=False)
    assert (plan.images, plan.new, plan.rate, plan.seconds) == (10, 0, None, 0.0)
    assert plan.disk > 0


def test_an_empty_split_is_a_problem_of_that_split_alone(home, photos, tmp_path):
    photos(tmp_path / "set" / "train", 2)
    (tmp_path / "set" / "test").mkdir()
    entry, chosen = resolve(tmp_path / "set")
    plan = make_plan("pets", entry, chosen, {"num_threads": 1}, recompute=False)
    assert {split.split: (split.images, bool(split.problem)) for split in plan.splits} == {
        "test": (0, True),
        "train": (2, False),
    }
