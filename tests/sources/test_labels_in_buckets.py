"""COCO and Pascal VOC in a bucket say what they say in a folder, and their images are found beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import faulty_proxy

from fastdup_dagster.annotations import read_annotations
from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.coco import read_coco
from fastdup_dagster.sources.remote_errors import RemoteFileNotFoundError
from fastdup_dagster.sources.voc import read_voc
from fastdup_dagster.stages.split_listing import list_split

_VOC = """<annotation><filename>{0}.jpg</filename><size><width>128</width><height>96</height></size><object>
<name>cat</name><bndbox><xmin>{1}</xmin><ymin>2</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object></annotation>"""
_NAMES = [f"photo-{number:04}" for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path, photos: Callable[..., Any]) -> Path:
    """Three photos with a box each, by COCO and by VOC."""
    photos(tmp_path / "JPEGImages", 3)
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, 1, 40, 50]} for n in range(3)]
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate(_NAMES)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "JPEGImages" / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "Annotations" / "more").mkdir(parents=True)
    for number, name in enumerate(_NAMES):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(_VOC.format(name, number + 1))
    (tmp_path / "Annotations" / "more" / "other.xml").write_text(_VOC.format("other", 9))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text(f"{_NAMES[2]}\n")
    return tmp_path


def test_coco_in_a_bucket_is_that_of_the_folder_with_the_prefix_as_its_base(s3_server: Any, folder: Path) -> None:
    bucket = s3_server.upload(folder)
    here, there = read_coco(folder / "JPEGImages/coco.json"), read_coco(f"s3://{bucket}/JPEGImages/coco.json")
    assert (there.images, there.boxes, there.header) == (here.images, here.boxes, here.header)
    assert there.base == f"s3://{bucket}/JPEGImages"
    with pytest.raises(RemoteFileNotFoundError, match="nothing"):
        read_coco(f"s3://{bucket}/nothing.json")


def test_voc_in_a_bucket_is_that_of_the_folder_whatever_the_server_does(
    s3_server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_server.upload(folder)
    here = read_voc(folder / "Annotations")
    with faulty_proxy(s3_server.url, share=0.2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        there = read_voc(f"s3://{bucket}/Annotations")
    assert (there.images, there.boxes) == (here.images, here.boxes)
    assert [image.filename for image in there.images] == ["more/other.jpg", *(f"{name}.jpg" for name in _NAMES)]
    assert [image.split for image in there.images] == [None, None, None, "val"]
    assert there.base == f"s3://{bucket}/JPEGImages"


def test_a_prefix_without_a_page_and_a_broken_page_are_refused_by_name(s3_server: Any) -> None:
    bucket = s3_server.bucket(**{"in/a.xml": b"<annotation>", "other/a.txt": b"x"})
    with pytest.raises(ValueError, match="no XML file"):
        read_voc(f"s3://{bucket}/other")
    with pytest.raises(ValueError, match=f"1 broken files, the first: s3://{bucket}/in/a.xml: not XML"):
        read_voc(f"s3://{bucket}/in/")


@pytest.mark.parametrize("annotations", ["JPEGImages/coco.json", "Annotations"])
def test_a_data_set_in_a_bucket_takes_its_boxes_from_there(s3_server: Any, folder: Path, annotations: str) -> None:
    (folder / "Annotations" / "more" / "other.xml").unlink()
    bucket = s3_server.upload(folder, "set/")
    entry = DatasetEntry(root=f"s3://{bucket}/set", splits={"all": "JPEGImages"}, annotations=annotations, settings={})
    frame = list_split(entry, "all", Settings()).frame
    assert frame["label"].to_list() == ["cat"] * 3
    assert frame["error_code"].null_count() == 3
    assert [uri.rpartition("/")[2] for uri in frame["uri"]] == [f"{name}.jpg" for name in _NAMES]


def test_csv_in_a_bucket_is_read(s3_server: Any) -> None:
    bucket = s3_server.bucket(**{"labels.csv": b"filename,label\na.jpg,cat\n"})
    assert read_annotations(f"s3://{bucket}/labels.csv").filenames == ["a.jpg"]
