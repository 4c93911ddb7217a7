"""Where things are: names relative to any given folder, folders that are moved away from, names of any bytes."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster.analysis import DatasetWarning
from fastdup_dagster.names import existing, printable, raw_name, shown_name, spellings
from fastdup_dagster.sources import display_name

QUIET = {"print_summary": False, "num_threads": 2}


@pytest.fixture
def two_folders(images: Path, tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, numbers in ((first, range(3)), (second / "deep", range(3, 6))):
        folder.mkdir(parents=True)
        for number in numbers:
            shutil.copy(images / f"photo-000{number}.jpg", folder)
    return first, second


def frame(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"filename": pd.Series(names, dtype="object"), "label": [f"of {n}" for n in range(len(names))]})


def labelled(fd: fastdup.Fastdup) -> dict[str, str]:
    shown = fd.annotations(valid_only=False)
    return {Path(n).name: label for n, label in zip(shown["filename"], shown["label"], strict=True) if label == label}


def test_names_may_be_relative_to_any_given_folder(two_folders: tuple[Path, Path], tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", list(two_folders))
    fd.run(
        annotations=frame(["photo-0001.jpg", "deep/photo-0004.jpg", str(two_folders[0] / "photo-0002.jpg")]), **QUIET
    )
    assert labelled(fd) == {"photo-0001.jpg": "of 0", "photo-0004.jpg": "of 1", "photo-0002.jpg": "of 2"}
    assert len(fd.annotations(valid_only=False)) == 6
    fd.run(subset=["photo-0001.jpg", "deep/photo-0003.jpg"], **QUIET)
    assert fd.num_instances() == 2


def test_names_may_be_relative_to_what_listed_files_have_in_common(
    two_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = two_folders
    files = [first / "photo-0000.jpg", second / "deep" / "photo-0003.jpg", second / "deep" / "photo-0004.jpg"]
    fd = fastdup.create(tmp_path / "work", files)
    fd.run(annotations=frame(["first/photo-0000.jpg", "photo-0003.jpg", "second/deep/photo-0004.jpg"]), **QUIET)
    assert labelled(fd) == {"photo-0000.jpg": "of 0", "photo-0003.jpg": "of 1", "photo-0004.jpg": "of 2"}
    assert len(fd.annotations(valid_only=False)) == 3


def test_a_name_in_two_folders_needs_its_folder(two_folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = two_folders
    shutil.copy(first / "photo-0000.jpg", second)
    fd = fastdup.create(tmp_path / "work", [first, second])
    with pytest.raises(ValueError, match=r"'photo-0000\.jpg' is in several"):
        fd.run(annotations=frame(["photo-0000.jpg"]), **QUIET)


def test_annotations_that_name_no_file_at_all_are_warned_about(images: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", images)
    with pytest.warns(DatasetWarning, match=rf"no annotation names a file that is there: .*'x/1\.jpg'.*{images}"):
        fd.run(annotations=frame(["x/1.jpg", "x/2.jpg"]), **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatasetWarning)
        fd.run(annotations=frame(["x/1.jpg", "photo-0000.jpg"]), **QUIET)


def test_the_current_folder_may_change(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    fd, early = fastdup.create("work", "images"), fastdup.create("early", ["images"])
    fd.run(**QUIET)
    assert fd.annotations()["filename"][0] == "images/copy-a.jpg" and fd.input_dir == "images"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fd.work_dir == tmp_path / "work" and fd.input_dir == str(tmp_path / "images")
    early.run(**QUIET)
    reopened = fastdup.create(tmp_path / "work")
    for there in (fd, reopened, early):
        assert there.run(threshold=0.5, **QUIET) == 0
        assert there.num_instances() == 14 and len(there.similarity()) > 0
        assert all(Path(name).is_file() for name in there.annotations()["filename"])
        there.init_search(1)
        assert len(there.search(there.annotations()["filename"][3])) == 1
        assert there.vis.duplicates_gallery(show=False).is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_results_of_another_object_in_the_same_work_dir_are_seen(images: Path, tmp_path: Path) -> None:
    one, two = fastdup.create(tmp_path, images), fastdup.create(tmp_path)
    one.run(threshold=0.5, **QUIET)
    assert len(two.similarity()) == len(one.similarity())
    two.init_search(2)
    one.run(threshold=-1, num_images=5, **QUIET)
    assert two.config["threshold"] == -1
    assert two.similarity().equals(one.similarity()) and two.num_instances() == 4
    assert two.img_grouped_annot().equals(one.img_grouped_annot())
    with pytest.raises(RuntimeError, match="init_search"):
        two.vector_search(vec=two.embeddings()[1][0])


ODD = (
    b"plain.png",
    b"back\\slash.png",
    b"caf\xe9.png",
    b"\xff\xfe.png",
    b"both\\\xff.png",
    "ünï.png".encode(),
    b"a\\xffb.png",
)


@pytest.mark.parametrize("as_list", [False, True], ids=["folder", "list"])
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_names_that_results_show_mean_their_file_everywhere(
    as_list: bool, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [os.fsdecode(os.fsencode(folder) + b"/" + name) for name in sorted(ODD)]
    for number, path in enumerate(paths):
        with Path(path).open("wb") as file:
            Image.effect_noise((40, 30), 30 + number).convert("RGB").save(file, "PNG")
    monkeypatch.chdir(tmp_path)
    given: object = [os.path.relpath(path) if relative else path for path in paths] if as_list else folder
    fd = fastdup.create(tmp_path / "work", "images" if relative and not as_list else given)
    fd.run(**QUIET)
    shown = fd.annotations()["filename"].tolist()
    assert len(set(shown)) == len(ODD) and [existing(n) for n in shown] == [
        os.path.relpath(p) if relative else p for p in paths
    ]
    fd.init_search(1)
    for number, name in enumerate(shown):
        assert fd.search(name)["to"].tolist() == [name]
        found = fd.search(paths[number])
        assert found["to"].tolist() == [name] and found["from"].tolist() == [printable(paths[number])]
        vector, file = fd.feature_vector(name)
        assert file == name and (vector[0] == fd.embeddings()[1][number]).all()
    assert fd.feature_vectors(shown)[1] == shown
    listing = tmp_path / "list.txt"
    listing.write_bytes(b"\n".join(os.fsencode(folder) + b"/" + name for name in sorted(ODD)))
    assert fd.feature_vectors(listing)[1] == [printable(path) for path in paths]
    assert len(fd.feature_vectors(folder)[1]) == len(ODD)
    kept = fd.annotations()
    fd.run(annotations=kept.assign(label=[f"l{n}" for n in range(len(ODD))]), **QUIET)
    assert fd.annotations()["label"].tolist() == [f"l{n}" for n in range(len(ODD))]
    assert fd.annotations()["filename"].tolist() == shown
    for subset in (shown[1:3], paths[1:3]):
        fd.run(subset=subset, **QUIET)
        assert fd.annotations()["index"].tolist() == [1, 2]
        assert fastdup.create(fd.work_dir).config["subset"] == subset
    fd.run(embeddings=fd.embeddings()[1], annotations=kept.iloc[1:3], subset=shown[1:2], **QUIET)
    assert fd.num_instances() == 1


def test_a_shown_name_can_be_read_back() -> None:
    for name in ODD:
        assert os.fsencode(raw_name(display_name(name))) == name
        assert name in {os.fsencode(spelling) for spelling in spellings(shown_name(name))}
