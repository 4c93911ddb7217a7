"""Runs on given embeddings: which arguments have an effect, what names mean, what cannot be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fastdup_dagster as fastdup

QUIET = {"print_summary": False, "num_threads": 2}
VECTORS = np.random.default_rng(3).normal(size=(6, 16)).astype(np.float32)
FRAME = pd.DataFrame({"filename": ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "c.png", "d\\e.png"]})


@pytest.fixture
def fd(tmp_path: Path) -> fastdup.Fastdup:
    return fastdup.create(tmp_path / "work")


def test_their_width_may_be_said(fd: fastdup.Fastdup) -> None:
    fd.run(embeddings=VECTORS, annotations=FRAME, d=16, **QUIET)
    again = fastdup.create(fd.work_dir)
    assert again.config["d"] == 16 and again.embeddings(d=16)[1].shape == (6, 16)
    assert again.config["embeddings"] == {"shape": [6, 16]} and again.config["subset"] is None
    again.init_search(2, d=16)
    assert again.vector_search(vec=VECTORS[4])["to"][0] == "c.png"
    for d in (15, "16", True, 0):
        with pytest.raises(ValueError, match=f"d={d!r}"):
            fd.run(embeddings=VECTORS, annotations=FRAME, d=d, **QUIET)


REFUSED: tuple[tuple[str, Any], ...] = (
    ("min_file_size", 5),
    ("bounding_box", "row_y=1,col_x=1,height=20,width=20"),
    ("augmentation_horiz", 0.1),
    ("augmentation_vert", 0.1),
    ("augmentation_additive_margin", 3),
    ("high_accuracy", True),
    ("run_advanced_stats", True),
    ("model_path", "model.onnx"),
    ("model_preprocessing", "clip"),
)


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_is_done_to_images_is_refused(name: str, value: Any, fd: fastdup.Fastdup) -> None:
    with pytest.raises(ValueError, match=f"{name}={value!r}.*embeddings"):
        fd.run(embeddings=VECTORS, annotations=FRAME, **{name: value}, **QUIET)


def test_a_regular_expression_chooses_by_name(fd: fastdup.Fastdup) -> None:
    fd.run(embeddings=VECTORS, annotations=FRAME, find_regex="^a/|png$", **QUIET)
    assert fd.annotations()["index"].tolist() == [0, 1, 4, 5]
    assert any("2 files do not match find_regex='^a/|png$'" in note for note in fd.config["notes"])
    assert np.array_equal(fd.embeddings()[1], VECTORS[[0, 1, 4, 5]])
    with pytest.raises(ValueError, match="nothing"):
        fd.run(embeddings=VECTORS, annotations=FRAME, find_regex="nothing", **QUIET)


def test_names_stay_as_they_were_given_without_an_input_dir(
    fd: fastdup.Fastdup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd.run(embeddings=VECTORS, annotations=FRAME, **QUIET)
    assert fd.annotations()["filename"].tolist() == FRAME["filename"].tolist()
    monkeypatch.chdir(tmp_path)
    again = fastdup.create(fd.work_dir)
    assert again.embeddings()[0] == FRAME["filename"].tolist()
    again.run(embeddings=VECTORS, annotations=again.annotations(), **QUIET)
    assert again.annotations()["filename"].tolist() == FRAME["filename"].tolist()


def test_a_subset_may_be_relative_absolute_or_as_the_results_spell_it(tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", tmp_path)
    fd.run(embeddings=VECTORS, annotations=FRAME, **QUIET)
    shown = fd.annotations()["filename"].tolist()
    assert shown[5] == str(tmp_path / "d\\e.png")
    for subset in (["b/1.jpg", "d\\e.png"], [tmp_path / "b/1.jpg", str(tmp_path / "d\\e.png")], [shown[2], shown[5]]):
        fd.run(embeddings=VECTORS, annotations=FRAME, subset=subset, **QUIET)
        assert fd.annotations()["index"].tolist() == [2, 5]
        assert fd.config["subset"] == [str(name) for name in subset]
    with pytest.raises(ValueError, match=r"b/3\.jpg"):
        fd.run(embeddings=VECTORS, annotations=FRAME, subset=["b/3.jpg"], **QUIET)


def test_exported_crops_name_only_files_that_were_written(images: Path, tmp_path: Path) -> None:
    names = ["photo-0000.jpg", "photo-0001.jpg", "gone.jpg"]
    boxes = pd.DataFrame({"filename": names, "col_x": 1, "row_y": 2, "width": 40, "height": 30.5})
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(embeddings=VECTORS[:3], annotations=boxes, **QUIET)
    folder = fd.export_v1()
    crops = pd.read_csv(folder / "atrain_crops.csv")
    assert crops["crop_filename"].isna().tolist() == [False, False, True]
    assert crops["height"].tolist() == [31, 31, 30.5] and crops["width"].tolist() == [40] * 3
    for name in crops["crop_filename"].dropna():
        assert (folder / name).is_file()
    assert pd.read_csv(folder / "atrain_features.dat.csv")["filename"].tolist()[2] == str(images / "gone.jpg")


def test_the_report_says_that_they_were_given(fd: fastdup.Fastdup) -> None:
    fd.run(embeddings=VECTORS, annotations=FRAME, **QUIET)
    html = fd.vis.report(show=False).read_text()
    assert "given embeddings" in html and "efficientnet_lite0" not in html


def test_search_by_image_takes_a_model_that_is_there_and_fits(fd: fastdup.Fastdup) -> None:
    fd.run(embeddings=VECTORS, annotations=FRAME, **QUIET)
    with pytest.raises(FileNotFoundError, match=r"nope\.onnx"):
        fd.init_search(2, model_path="nope.onnx")


def test_names_of_a_relative_input_can_be_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    fd = fastdup.create("work", "images")
    fd.run(embeddings=VECTORS, annotations=FRAME, **QUIET)
    shown = fd.annotations()["filename"].tolist()
    assert shown == [f"images/{name}" for name in FRAME["filename"]]
    fd.run(embeddings=VECTORS, annotations=fd.annotations(), subset=shown[1:3], **QUIET)
    assert fd.annotations()["filename"].tolist() == shown[1:3]
