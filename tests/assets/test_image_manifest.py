"""The listing in Dagster: boxes of annotations are rows of it, several of one file among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.datasets import DatasetEntry, register
from tests.conftest import Project


def test_several_annotated_boxes_of_one_file_pass_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Callable[..., list[Path]]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    photos(tmp_path / "images" / "train", 2)
    boxes = ("photo-0000.jpg,5,5,40,40", "photo-0000.jpg,50,5,40,40", "photo-0001.jpg,5,5,40,40")
    lines = ["filename,col_x,row_y,width,height", *(f"train/{box}" for box in boxes)]
    (tmp_path / "images" / "boxes.csv").write_text("\n".join(lines))
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(tmp_path / "home", tmp_path / "images", instance)
        entry = DatasetEntry(root=str(project.images), splits={"train": "train"}, annotations="boxes.csv")
        register("pets", entry)
        add_partitions(instance, "pets", ["train"])
        assert project.run("pets/train", "image_manifest").success
        listed = project.store.read("image_manifest", "pets/train")
    assert listed["filename"].is_duplicated().sum() == 2 and set(listed["media"]) == {"crop"}
