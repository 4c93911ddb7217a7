"""`bounding_box` as the name of a detector: its boxes are the instances of a run, on both faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skimage.data
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster.models.store import ModelStore
from tests.conftest import Project
from tests.models.detectors.conftest import Write, raw_boxes, write_yolo, write_yunet

__all__ = ["write_yolo", "write_yunet"]
QUIET = {"print_summary": False, "num_threads": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in which the yolo of the tests finds things, and a black one in which it finds nothing."""
    made = tmp_path / "found"
    made.mkdir()
    for name, value in (("a", 255), ("b", 250), ("c", 0)):
        noise = np.random.default_rng(value).integers(0, 5, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(np.clip(noise + max(value - 5, 0), 0, 255).astype(np.uint8)).save(made / f"{name}.png")
    return made


def test_boxes_of_a_yolo_are_instances_with_label_and_confidence(
    folder: Path, tmp_path: Path, write_yolo: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    path = write_yolo(raw_boxes(3, 96, 3), 96, names=["person", "cat", "tree"])
    ModelStore().add("yolov5s", path, "MIT")
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(bounding_box="yolov5s", **QUIET)
    rows = fd.annotations(valid_only=False)
    crops, bare = rows[rows["confidence"].notna()], rows[rows["confidence"].isna()]
    assert set(crops["label"]) <= {"person", "cat", "tree"} and crops["confidence"].between(0.25, 1).all()
    assert {Path(name).name for name in crops["filename"]} == {"a.png", "b.png"}
    assert [(Path(n).name, c) for n, c in zip(bare["filename"], bare["error_code"], strict=True)] == [
        ("c.png", "MISSING_ANNOTATION")
    ]
    assert fd.invalid_instances()["error"].tolist()[-1] == "yolov5s found nothing in it"
    assert fd.config["data_type_found"] == "bbox"
    written = pd.read_csv(fd.export_v1() / "atrain_crops.csv")
    assert {"label", "confidence"} < set(written.columns)
    for row in written.itertuples():
        if isinstance(row.crop_filename, str):
            assert Image.open(Path(fd.work_dir) / row.crop_filename).size == (row.width, row.height)
    other = fastdup.create(tmp_path / "other", folder)
    other.run(bounding_box=str(path), **QUIET)
    assert other.annotations()[["label", "confidence"]].equals(fd.annotations()[["label", "confidence"]])


def test_a_run_again_detects_nothing_anew(
    folder: Path, tmp_path: Path, write_yolo: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_yolo(raw_boxes(3, 96, 3), 96)
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(bounding_box=str(path), **QUIET)
    before = fd.similarity()
    monkeypatch.setattr("fastdup_dagster.stages.detections._found", lambda *_: pytest.fail("looked again"))
    fd.run(bounding_box=str(path), **QUIET)
    assert fd.similarity().equals(before)


def test_annotations_of_the_images_go_to_their_boxes(folder: Path, tmp_path: Path, write_yolo: Write) -> None:
    known = pd.DataFrame(
        {"filename": ["a.png", "c.png"], "label": ["x", "y"], "split": ["train", "test"], "id": [7, 8]}
    )
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(bounding_box=str(write_yolo(raw_boxes(3, 96, 3), 96)), annotations=known, **QUIET)
    rows = fd.annotations(valid_only=False)
    of_a = rows[rows["filename"].str.endswith("a.png")]
    assert set(of_a["id"]) == {7} and set(of_a["split"]) == {"train"} and of_a["label"].str.startswith("class").all()
    assert set(rows[rows["filename"].str.endswith("b.png")]["error_code"]) <= {"MISSING_ANNOTATION", "BAD_BOUNDING_BOX"}


def test_a_face_gets_a_fifth_of_its_size_around_unless_a_margin_is_given(
    tmp_path: Path, write_yunet: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    ModelStore().add("yunet", write_yunet(), "MIT")
    image = np.zeros((256, 320, 3), np.uint8)
    image[64:96, 96:128] = 255
    Image.fromarray(image).save(tmp_path / "one.png")
    sizes = {}
    for name, margin in (
        ("default", {}),
        ("more", {"augmentation_horiz": 0.5}),
        ("pixels", {"augmentation_additive_margin": 4}),
    ):
        fd = fastdup.create(tmp_path / name, [str(tmp_path / "one.png")])
        fd.run(bounding_box="face", **margin, **QUIET)
        written = pd.read_csv(fd.export_v1() / "atrain_crops.csv")
        sizes[name] = tuple(written.loc[0, ["width", "height"]])
    # 32 x 32 and .2 on both sides
    assert sizes["default"] == pytest.approx((45, 45), abs=1)
    assert sizes["more"] == pytest.approx((64, 32), abs=1)
    assert sizes["pixels"] == pytest.approx((40, 40), abs=1)


def test_words_of_a_page_are_labels(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr", reason="RapidOCR is not installed: pip install 'fastdup-dagster[ocr]'")
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.fromarray(skimage.data.page()).save(folder / "page.png")
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(bounding_box="ocr", **QUIET)
    assert "Region-based segmentation" in fd.annotations()["label"].tolist()


def test_the_asset_lists_what_is_found_and_images_without_any_stop_no_gate(
    project: Project, tmp_path: Path, write_yolo: Write, folder: Path
) -> None:
    path = write_yolo(raw_boxes(3, 96, 3), 96)
    for image in (project.images / "train").iterdir():
        image.unlink()
    for image in folder.iterdir():
        image.rename(project.images / "train" / image.name)
    # a box that is cut off at the edge may be too small to be one
    project.register({"num_threads": 2, "bounding_box": str(path), "limits": {"max_invalid_share": 0.5}})
    assert project.run("pets/train", "image_manifest", "embeddings", "img_stats", "knn_graph", "similarity").success
    listed = project.store.read("image_manifest", "pets/train")
    assert set(listed["media"]) == {"crop", "image"}
    assert listed.filter(pl.col("media") == "image")["error_code"].to_list() == ["MISSING_ANNOTATION"]
    embeddings = project.store.read("embeddings", "pets/train")
    assert len(embeddings) == len(listed)
    assert set(embeddings.filter(pl.col("error_code").is_null())["index"]) <= set(
        listed.filter(pl.col("media") == "crop")["index"]
    )
