"""Whatever COCO, YOLO and VOC files hold, reading gives a label set or a documented error, and writes nothing."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastdup_dagster.annotations import read_annotations
from fastdup_dagster.sources.coco import read_coco
from fastdup_dagster.sources.labels import LabelSet
from fastdup_dagster.sources.voc import read_voc
from fastdup_dagster.sources.yolo_labels import read_yolo

ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, "\ud800"])
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)


JSON = st.recursive(ODD, nested, max_leaves=6)
NUMBERS = st.lists(st.floats(-10, 100) | ODD, max_size=9)
KEYS = st.sampled_from([1, 2, "1"]) | JSON


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly objects of the right fields, some missing, some of another kind, some more."""
    some = st.fixed_dictionaries({}, optional=fields)
    return st.builds(lambda a, b: {**b, **a}, some, st.dictionaries(st.text(max_size=3), JSON, max_size=2))


COCO = objects(
    images=st.lists(objects(id=KEYS, file_name=st.text(max_size=8), width=JSON), max_size=3) | JSON,
    categories=st.lists(objects(id=KEYS, name=JSON), max_size=2) | JSON,
    annotations=st.lists(
        objects(id=KEYS, image_id=KEYS, category_id=KEYS, bbox=NUMBERS | JSON, segmentation=st.lists(NUMBERS) | JSON),
        max_size=4,
    )
    | JSON,
)
GOOD_COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "segmentation": [[1, 2, 3, 4]]}],
}
GOOD_VOC = """<?xml version="1.0" encoding="UTF-8"?><annotation><filename>a.jpg</filename><size><width>9</width></size>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"""
GOOD_YAML = "path: .\ntrain: images\nval: [list.txt]\nnames: {0: cat, 1: dog}\nkpt_shape: [2, 3]\ntask: pose\n"
DOCUMENTED = (ValueError, FileNotFoundError, NotImplementedError)
MANY = settings(max_examples=max(150, settings().max_examples), deadline=2000)


def check(read: Callable[[], LabelSet]) -> None:
    try:
        found = read()
    except DOCUMENTED as error:
        assert str(error)
        return
    for box in found.boxes:
        assert 0 <= box.image < len(found.images)
        assert len(box.box) in (4, 8) and all(type(value) is float for value in box.box)
        assert box.error is None or all(map(math.isnan, box.box))


def in_folder(read: Callable[[Path], LabelSet], **files: bytes) -> None:
    """Reads a folder of these files, and looks that no other is there afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in files.items():
            path = folder / file.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        before = sorted(folder.rglob("*"))
        check(lambda: read(folder))
        assert sorted(folder.rglob("*")) == before


def mutated(data: st.DataObject, good: bytes) -> bytes:
    found = bytearray(good)
    places = st.integers(0, len(found) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        found[place] = value
    first, last = sorted(data.draw(st.tuples(places, places)))
    again = data.draw(st.integers(0, 3))
    return bytes(found[:first] + found[first:last] * again + found[last:])


@given(given=COCO)
@MANY
def test_any_dictionary(given: Any) -> None:
    check(lambda: read_coco(given))
    for data_type in ("infer", "image"):
        try:
            found = read_annotations(given, data_type)
        except DOCUMENTED:
            continue
        assert len(found.columns) in (0, len(found))


@given(data=st.data())
@MANY
def test_mutated_coco_files(data: st.DataObject) -> None:
    in_folder(lambda folder: read_coco(folder / "a.json"), a_json=mutated(data, json.dumps(GOOD_COCO).encode()))


@given(data=st.data())
@MANY
def test_mutated_voc_files(data: st.DataObject) -> None:
    in_folder(read_voc, a_xml=mutated(data, GOOD_VOC.encode()))


@given(data=st.data())
@MANY
def test_mutated_yaml_and_lists(data: st.DataObject) -> None:
    yaml, listed = mutated(data, GOOD_YAML.encode()), mutated(data, b"./images/a.jpg\nimages/b.jpg\n")
    in_folder(
        lambda folder: read_yolo(folder / "data.yaml", lambda uri: (60, 40)),
        data_yaml=yaml, list_txt=listed, images__a_jpg=b"x", labels__a_txt=b"0 .5 .5 .1 .1\n",
    )  # fmt: skip


LINE = st.lists(st.floats().map(str) | st.integers(-3, 9).map(str) | st.text(max_size=4), max_size=12).map(" ".join)


@given(
    lines=st.lists(LINE, max_size=4).map("\n".join).map(lambda text: text.encode("utf-8", "replace")) | st.binary(),
    more=st.sampled_from(["", "kpt_shape: [2, 3]\n", "task: obb\n", "task: segment\n"]),
    size=st.sampled_from([(60, 40), None]),
)
@MANY
def test_any_lines_of_labels(lines: bytes, more: str, size: tuple[int, int] | None) -> None:
    in_folder(
        lambda folder: read_yolo(folder / "data.yaml", lambda uri: size),
        data_yaml=f"train: images\nnames: [cat]\n{more}".encode(), images__a_jpg=b"x", labels__a_txt=lines,
    )  # fmt: skip
