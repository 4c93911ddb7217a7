"""`export`: a published data set comes out cleaned, as pycocotools loads it, with a list of what is not in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from pycocotools.coco import COCO

import fastdup_dagster as fastdup
from fastdup_dagster.cli import main
from tests.conftest import MakePhotos, Project


def export(*given: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, given)])


@pytest.fixture
def pets(analysed: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The shared data set: a copy in train of 10 images, a leak in test of 8."""
    monkeypatch.setenv("DAGSTER_HOME", str(analysed.home))
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    return analysed


def loaded(path: Path) -> COCO:
    return COCO(str(path))


def test_a_dry_run_counts_and_writes_nothing(pets: Project, tmp_path: Path) -> None:
    found = export("pets", "--format", "coco", "--out", tmp_path / "c.json", "--dry-run", "--json",
                   "--drop", "duplicates,leaks")  # fmt: skip
    told: dict[str, Any] = json.loads(found.stdout)
    assert told["splits"]["train"]["instances"] == 10 and told["splits"]["test"]["kept"] == 8
    assert (told["splits"]["train"]["duplicates"] + told["splits"]["train"]["leaks"], told["written"]) == (2, None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_is_listed_with_the_reason_and_what_stays(pets: Project, tmp_path: Path) -> None:
    out = tmp_path / "cleaned.json"
    assert export("pets", "--format", "coco", "--out", out).exit_code == 0
    listed = pl.read_csv(tmp_path / "cleaned.dropped.csv")
    assert listed.select("split", "filename", "reason", "kept").rows() == [
        ("train", "photo-0003.jpg", "duplicates", "copy.jpg")
    ]
    images = loaded(out).imgs.values()
    assert {image["split"] for image in images} == {"train", "test"}
    names = {image["file_name"] for image in images}
    assert len(names) == 17 and {"train/copy.jpg", "test/leak.jpg"} <= names
    assert all((pets.images / name).is_file() for name in names)
    again = export("pets", "--format", "coco", "--out", out)
    assert again.exit_code == 2 and "is there already" in again.output
    one = export("pets", "--format", "coco", "--out", out, "--split", "test", "--overwrite", "--drop", "none")
    assert one.exit_code == 0 and len(loaded(out).imgs) == 8


def test_yolo_has_its_splits_and_images(pets: Project, tmp_path: Path) -> None:
    assert export("pets", "--format", "yolo", "--out", tmp_path / "y", "--copy-images").exit_code == 0
    assert len(list((tmp_path / "y" / "images" / "train").rglob("*.jpg"))) == 9
    assert len(list((tmp_path / "y" / "images" / "test").rglob("*.jpg"))) == 8
    assert (tmp_path / "y.dropped.csv").is_file()


def test_boxes_of_a_work_dir_keep_their_ids(tmp_path: Path, photos: MakePhotos) -> None:
    photos(tmp_path / "images", 3)
    boxes = [[5, 5, 60, 60], [0, 0, 4, 4], [20, 10, 50, 40], [10, 10, 40, 40]]
    coco = {
        "images": [{"id": 7 + n, "file_name": f"photo-{n:04}.jpg", "width": 128, "height": 96} for n in range(3)],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 20 + n, "image_id": 7 + n // 2, "category_id": 3, "bbox": box, "area": 1, "iscrowd": 0}
            for n, box in enumerate(boxes)
        ],
    }
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    fd.run(annotations=coco, print_summary=False, num_threads=1)
    out = tmp_path / "out.json"
    assert export("--work-dir", tmp_path / "work", "--format", "coco", "--out", out).exit_code == 0
    assert sorted(loaded(out).anns) == [20, 22, 23]
    assert sorted(loaded(out).imgs) == [7, 8, 9]
    assert pl.read_csv(tmp_path / "out.dropped.csv")["detail"][0].startswith("BAD_BOUNDING_BOX")
    wrong = export("--work-dir", tmp_path / "work", "--format", "coco", "--out", out, "--drop", "leaks", "--overwrite")
    assert wrong.exit_code == 2 and "leaks: the splits were not compared" in wrong.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "give the NAME"),
        (("nobody",), "no data set 'nobody'"),
        (("pets", "--split", "val"), "no split 'val'"),
        (("pets", "--drop", "ugly"), "unknown reason 'ugly'"),
        (("--work-dir", "x", "--split", "train"), "--split is for data sets"),
    ],
)
def test_wrong_usage_says_what_is_wrong(pets: Project, tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    found = export(*given, "--format", "coco", "--out", tmp_path / "c.json")
    assert found.exit_code == 2 and said in found.output
