"""COCO: what is read, what becomes a box with a reason, and what is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdup_dagster.sources.coco import read_coco


def coco(**changes: Any) -> dict[str, Any]:
    base = {
        "info": {"year": 2026},
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}, {"id": 2, "file_name": "sub/b.jpg"}],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20.5], "mood": "good"}],
    }
    return {**base, **changes}


def annotation(**fields: Any) -> dict[str, Any]:
    return coco(annotations=[{"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20], **fields}])


def test_a_file_and_a_dictionary_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(coco()))
    for found in (read_coco(path), read_coco(coco())):
        assert [image.filename for image in found.images] == ["a.jpg", "sub/b.jpg"]
        (box,) = found.boxes
        assert (box.image, box.label, box.box, box.error) == (0, "cat", (1, 2, 30, 20.5), None)
        assert box.fields["mood"] == "good" and found.images[0].fields["width"] == 60
        assert found.header == {"info": {"year": 2026}, "categories": coco()["categories"]}
    assert read_coco(path).base == tmp_path and read_coco(coco()).base == Path.cwd()


def test_arrays_and_bytes_of_a_dictionary_are_what_json_would_hold() -> None:
    given = annotation(bbox=np.array([1, 2, 30, 20]), segmentation={"counts": b"ab", "size": (4, 5)})
    (box,) = read_coco(given).boxes
    assert box.box == (1, 2, 30, 20) and box.fields["segmentation"] == {"counts": "ab", "size": [4, 5]}
    with pytest.raises(ValueError, match=r"object.*is nothing that JSON holds"):
        read_coco(annotation(more=object()))


NO_BOXES: list[Any] = [[1, 2, 3], [1, 2, 3, "wide"], "box", 5, [1, 2, math.nan, 4], [1, 2, math.inf, 4], {}]
NO_BOXES += [[True, 2, 30, 40], [1, 2, 10**400, 4], [[1], 2, 3, 4], [1, 2, None, 4]]


@pytest.mark.parametrize("bbox", NO_BOXES)
def test_a_box_that_is_none_keeps_its_place_with_a_reason(bbox: Any) -> None:
    (box,) = read_coco(annotation(bbox=bbox)).boxes
    assert all(map(math.isnan, box.box))
    assert box.error is not None and box.error.startswith("a COCO dictionary: annotation 7: bbox=")


def test_without_a_box_the_polygons_say_where_it_is() -> None:
    (box,) = read_coco(annotation(bbox=None, segmentation=[[5, 6, 25, 6, 25, 30], [1, 7, 2, 7, 2, 8]])).boxes
    assert box.box == (1, 6, 24, 24) and box.error is None
    for segmentation in (None, [], {"counts": [1]}, [[1, 2, 3]], [["a", 1, 2, 3]]):
        (box,) = read_coco(annotation(bbox=None, segmentation=segmentation)).boxes
        assert box.error is not None


def test_corners_of_a_rotated_box_are_eight_numbers() -> None:
    (box,) = read_coco(annotation(bbox=[5, 1, 9, 5, 5, 9, 1, 5])).boxes
    assert len(box.box) == 8 and box.error is None


def test_categories_and_images_that_are_not_listed_are_told_and_lose_no_box() -> None:
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 99, "bbox": [0, 0, 20, 20]},
        {"id": 2, "image_id": 55, "category_id": 3, "bbox": [0, 0, 20, 20]},
        {"id": 3, "image_id": [1], "category_id": {}, "bbox": [0, 0, 20, 20]},
        {"image_id": 55, "bbox": [0, 0, 20, 20]},
    ]
    found = read_coco(coco(annotations=annotations))
    assert [box.label for box in found.boxes] == ["99", "cat", "{}", None]
    assert [found.images[box.image].filename for box in found.boxes][1::2] == ["image_id 55: not among the images"] * 2
    assert found.notes == [
        "annotations of images that are not listed: image_id 55, [1]",
        "2 annotations are of categories that are not listed: category_id 99, {}",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "not COCO"),
        ({"images": {}}, "not COCO"),
        (coco(images=[]), "images is empty"),
        (coco(images=[5]), r"images\[0\] is 5: expected an object"),
        (coco(images=[{"file_name": "a.jpg"}]), r"images\[0\] has the id None"),
        (coco(images=[{"id": [1], "file_name": "a.jpg"}]), r"images\[0\] has the id \[1\]"),
        (coco(images=[{"id": 1}]), "image 1 has the file_name None"),
        (coco(images=[{"id": 1, "file_name": 5}]), "image 1 has the file_name 5"),
        (
            coco(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]),
            "two images have the id 1: 'a.jpg', 'b.jpg'",
        ),
        (
            coco(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]),
            "two images are called 'a.jpg': 1, 2",
        ),
        (coco(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "two categories have the id 1"),
        (coco(annotations={"id": 1}), "annotations is no list"),
    ],
)
def test_what_is_not_coco_is_refused_by_place(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"a COCO dictionary: .*{message}"):
        read_coco(given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{\n "images": [}', r"line 2, column 13: not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"images": [' + b"9" * 5000 + b"]}", "not JSON"),
        (b"", "line 1, column 1: not JSON"),
    ],
)
def test_broken_json_is_refused_with_file_and_line(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"broken\.json.*{message}"):
        read_coco(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        read_coco(tmp_path / "gone.json")
