"""The plan: which splits, which settings, how many images are new, and what it will cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdup_dagster.command_line.plan import make_plan, resolve_entry
from fastdup_dagster.datasets import DatasetEntry, DatasetsError, register


def resolve(path: Path, *wanted: str, name: str = "pets", replace: bool = False, **changes: object):
    return resolve_entry(path, name, wanted, changes, None, replace)


def planned(path: Path, *wanted: str):
    entry, chosen = resolve(path, *wanted)
    return make_plan("pets", entry, chosen, {"num_threads": 1}, recompute=False)


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


def test_a_setting_that_is_null_is_forgotten_in_limits_and_captions_too(home, photos, tmp_path):
    limits = {"max_dark_share": 0.5, "severity": {"dark": "block", "blurry": "warn"}}
    remembered = {"threshold": 0.5, "limits": limits, "captions": {"model": "tags"}}
    photos(tmp_path / "set", 2)
    register("pets", DatasetEntry(root=str(tmp_path / "set"), splits={"all": "."}, settings=remembered))

    def kept(**changes: object) -> dict[str, object]:
        return dict(resolve(tmp_path / "set", **changes)[0].settings)

    assert kept(limits={"severity": {"dark": "warn"}})["limits"]["severity"] == {"dark": "warn", "blurry": "warn"}
    assert kept(limits={"severity": None})["limits"] == {"max_dark_share": 0.5}
    assert kept(limits={"max_dark_share": None})["limits"] == limits | {"max_dark_share": None}
    assert kept(limits=None, captions=None) == {"threshold": 0.5}


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


def test_images_in_none_of_the_splits_are_said_to_be_left_out(home, photos, tmp_path):
    photos(tmp_path / "set" / "train", 2)
    photos(tmp_path / "set" / "extra", 3)
    [note] = planned(tmp_path / "set").notes
    assert note.startswith(f"3 images of {tmp_path / 'set'} lie in none of the splits (train)")
    assert planned(tmp_path / "set", "all").notes == []


def test_all_is_the_whole_folder_alone_also_beside_folders_called_like_splits(home, photos, tmp_path):
    for split in ("train", "test"):
        photos(tmp_path / "set" / split, 2)
    entry, chosen = resolve(tmp_path / "set", "all")
    assert (entry.splits, chosen) == ({"all": "."}, ["all"])
    register("pets", entry)
    assert resolve(tmp_path / "set")[0].splits == {"test": "test", "train": "train"}
    with pytest.raises(DatasetsError, match="cannot stand beside its parts"):
        resolve(tmp_path / "set", "all", "train")


def test_a_split_may_be_called_as_its_folder_is(home, photos, tmp_path):
    photos(tmp_path / "set" / "Train", 2)
    photos(tmp_path / "set" / "test", 2)
    entry, chosen = resolve(tmp_path / "set", "Train")
    assert (entry.splits, chosen) == ({"test": "test", "train": "Train"}, ["train"])
    with pytest.raises(DatasetsError, match="no split 'TEST'"):
        resolve(tmp_path / "set", "TEST")


def test_after_one_sub_folder_was_asked_for_a_plain_run_says_what_it_leaves_out(home, photos, tmp_path):
    photos(tmp_path / "set" / "cats", 2)
    photos(tmp_path / "set" / "dogs", 3)
    register("pets", resolve(tmp_path / "set", "cats")[0])
    plan = planned(tmp_path / "set")
    assert [split.split for split in plan.splits] == ["cats"]
    assert "3 images" in plan.notes[0]
    assert "--split all" in plan.notes[0]


def test_a_name_stands_for_one_list_file(home, photos, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("x.jpg\n")
    register("pets", resolve(tmp_path / "a.txt")[0])
    assert resolve(tmp_path / "a.txt")[0].splits == {"all": "a.txt"}
    for other in (tmp_path / "b.txt", tmp_path):
        with pytest.raises(DatasetsError, match=r"stands for .*a\.txt"):
            resolve(other)
    assert resolve(tmp_path / "b.txt", replace=True)[0].splits == {"all": "b.txt"}


def test_a_mistake_in_another_entry_does_not_matter(home, photos, tmp_path):
    photos(tmp_path / "set", 2)
    (home / "datasets.yaml").write_text("datasets: {broken: {rooot: /x}}\n")
    assert resolve(tmp_path / "set")[0].splits == {"all": "."}


def test_settings_that_contradict_what_is_remembered_are_refused_in_words(home, photos, tmp_path):
    photos(tmp_path / "set", 2)
    register("pets", resolve(tmp_path / "set", d=576)[0])
    with pytest.raises(DatasetsError, match=r"d=576 with high_accuracy=True.*remembered") as raised:
        resolve(tmp_path / "set", high_accuracy=True)
    assert "\n" not in str(raised.value)


def test_a_name_taken_from_the_folder_may_be_given_with_name(home, photos, tmp_path):
    photos(tmp_path / "my photos", 2)
    with pytest.raises(DatasetsError, match=r"'my photos'.*--name"):
        resolve(tmp_path / "my photos", name="my photos")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"nnf_mode": "HNSW_32x"}, "nnf_mode='HNSW_32x'"), ({"nnf_mode": "PQ7"}, "nnf_mode='PQ7' with .* d=576")],
)
def test_an_index_that_faiss_does_not_know_is_refused_in_the_plan(home, photos, tmp_path, changes, said):
    photos(tmp_path / "set", 2)
    entry, chosen = resolve(tmp_path / "set", **changes)
    with pytest.raises(ValueError, match=said):
        make_plan("pets", entry, chosen, {}, recompute=False)


def test_results_that_can_go_nowhere_are_refused_in_the_plan(home, photos, tmp_path):
    photos(tmp_path / "set", 2)
    (tmp_path / "file").write_text("")
    entry, chosen = resolve_entry(tmp_path / "set", "pets", (), {}, tmp_path / "file" / "out", False)
    with pytest.raises(DatasetsError, match=r"results cannot go to .*/file/out .*--store"):
        make_plan("pets", entry, chosen, {}, recompute=False)
