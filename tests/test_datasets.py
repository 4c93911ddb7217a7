"""datasets.yaml: what is accepted, what an error says, and that writing never loses or tears anything."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fastdup_dagster.datasets import DatasetEntry, DatasetsError, dataset_names, load_dataset, register

GOOD = """\
# kept by hand
datasets:
  photos:
    root: /data/photos
    splits: {train: train, test: lists/test.txt}  # two
    settings: {threshold: 0.92}
"""

SETTINGS = """\
datasets:
  photos:
    root: /data/photos
    settings:
      threshold: 0.92
      limits:
        max_invalid_share: 30
    splits: {train: train}
"""


@pytest.fixture
def path(home: Path) -> Path:
    return home / "datasets.yaml"


def test_an_entry_gives_sources_settings_and_store(path, home):
    path.write_text(GOOD)
    entry = load_dataset("photos")
    assert entry.source("test") == "/data/photos/lists/test.txt"
    assert entry.typed_settings().threshold == 0.92
    assert entry.store_root() == home / "store"


def test_no_file_is_no_data_set(path):
    assert dataset_names() == []


def test_the_environment_may_name_another_file(tmp_path, home, monkeypatch):
    monkeypatch.setenv("FASTDUP_DATASETS", str(tmp_path / "other.yaml"))
    register("photos", DatasetEntry(root="/data", splits={"all": "."}))
    assert "photos" in (tmp_path / "other.yaml").read_text()


def load_all() -> None:
    for name in dataset_names():
        load_dataset(name)


def test_a_model_is_looked_for_beside_the_file_that_names_it(path):
    path.write_text(GOOD.replace("threshold: 0.92", "model_path: mine.onnx"))
    assert load_dataset("photos").typed_settings().model_path == str(path.parent / "mine.onnx")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (GOOD.replace("root:", "rot:"), 4, "datasets.photos.rot"),
        (GOOD.replace("    root: /data/photos\n", ""), 3, "root"),
        (GOOD.replace("threshold: 0.92", "treshold: 0.92"), 6, "did you mean 'threshold'"),
        (GOOD.replace("threshold: 0.92", "threshold: high"), 6, "threshold='high'"),
        (GOOD.replace("threshold: 0.92", "bounding_box: nose"), 6, "bounding_box='nose'"),
        (GOOD.replace("{train: train, test: lists/test.txt}", "{}"), 5, "splits"),
        (GOOD.replace("train: train", "tr/ain: train"), 5, "tr/ain"),
        (GOOD.replace("photos:", "pho tos:"), 3, "'pho tos'"),
        (GOOD.replace("datasets:", "dataset:"), 2, "unknown key 'dataset'"),
        ("datasets: [a]\n", 1, "no mapping"),
        ("datasets: {a: [1\n", 2, ""),
        ("- a\n", None, "expected `datasets:`"),
    ],
)
def test_an_error_names_file_line_and_key(path, text, line, said):
    path.write_text(text)
    with pytest.raises(DatasetsError) as error:
        load_all()
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert line is None or f"line {line}" in str(error.value)


def test_another_data_sets_mistake_does_not_matter(path):
    path.write_text(GOOD + "  broken: {root: 1}\n")
    assert load_dataset("photos").root == "/data/photos"
    assert dataset_names() == ["photos", "broken"]
    with pytest.raises(DatasetsError, match="broken"):
        load_all()


def test_an_unknown_name_lists_the_known_ones(path):
    path.write_text(GOOD)
    with pytest.raises(DatasetsError, match=r"no data set 'fotos'.*there are: photos"):
        load_dataset("fotos")
    with pytest.raises(DatasetsError, match="no split 'val'; there are: train, test"):
        load_dataset("photos").source("val")


def test_a_relative_root_starts_at_the_file(path):
    path.write_text(GOOD.replace("/data/photos", "images"))
    assert load_dataset("photos").root == str(path.parent / "images")


def test_registering_keeps_everything_else_comments_included(path):
    path.write_text(GOOD)
    register("more", DatasetEntry(root="/more", splits={"all": "."}, store="/results"))
    text = path.read_text()
    assert text.startswith(GOOD)
    assert load_dataset("more").store == "/results"


def test_a_file_that_cannot_be_read_is_not_overwritten(path):
    path.write_text("datasets: {a: [1\n")
    with pytest.raises(DatasetsError):
        register("more", DatasetEntry(root="/more", splits={"all": "."}))
    assert path.read_text() == "datasets: {a: [1\n"


def test_many_writers_at_once_lose_nothing(path):
    def write(number: int) -> None:
        register(f"set-{number}", DatasetEntry(root=f"/{number}", splits={"all": "."}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(dataset_names()) == {f"set-{number}" for number in range(12)}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (SETTINGS, 7, "settings.limits.max_invalid_share"),
        (SETTINGS.replace("max_invalid_share: 30", "max_invalid: 0.1"), 7, "settings.limits.max_invalid"),
        (SETTINGS.replace("max_invalid_share: 30", "max_dark_share: yes"), 7, "settings.limits.max_dark_share"),
        (SETTINGS.replace("max_invalid_share: 30", "severity: {dark: stop}"), 7, "settings.limits.severity.dark"),
        (SETTINGS.replace("max_invalid_share: 30", "severity: {drak: warn}"), 7, "settings.limits.severity.drak"),
        (SETTINGS.replace("threshold: 0.92", "threshold: 9").replace("30", "0.3"), 5, "settings.threshold"),
        (SETTINGS.replace("    settings:", "    split_column: subset\n    settings:"), 4, "name their file"),
    ],
)
def test_an_error_in_a_setting_names_its_own_line(path, text, line, said):
    path.write_text(text)
    with pytest.raises(DatasetsError) as error:
        load_dataset("photos")
    assert f"line {line}, datasets.photos." in str(error.value)
    assert said in str(error.value)


def test_a_remote_root_stays_a_url(path):
    path.write_text("datasets: {far: {root: 's3://bucket/images/', splits: {all: ., train: train}}}\n")
    entry = load_dataset("far")
    assert (entry.source("all"), entry.source("train")) == ("s3://bucket/images/", "s3://bucket/images/train")


def test_an_entry_is_read_again_as_soon_as_the_file_is_another_one(path):
    path.write_text(GOOD)
    assert load_dataset("photos").typed_settings().threshold == 0.92
    register("photos", load_dataset("photos").model_copy(update={"settings": {"threshold": 0.93}}))
    assert load_dataset("photos").typed_settings().threshold == 0.93
    path.unlink()
    with pytest.raises(DatasetsError, match="no data set"):
        load_dataset("photos")
