"""Pascal VOC: what is read, where pixels are counted from, and what is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fastdup_dagster.sources.voc import read_voc

PAGE = """<annotation><folder>VOC</folder><filename>{name}</filename><size><width>60</width><height>40</height>
<depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>cat</name><pose>Left</pose><difficult>1</difficult><part><name>head</name></part>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def write(folder: Path, name: str, *boxes: tuple[object, ...], image: str | None = None) -> Path:
    path = folder / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PAGE.format(
        name=f"{name}.jpg" if image is None else image, objects="".join(OBJECT.format(*b) for b in boxes)
    )
    path.write_text(text)
    return path


def test_pixels_are_counted_from_one_and_the_last_is_in_the_box(tmp_path: Path) -> None:
    write(tmp_path / "Annotations", "a", (1, 11, 20, 30), (5, 6, 7, 8))
    write(tmp_path / "Annotations", "b")
    (tmp_path / "JPEGImages").mkdir()
    found = read_voc(tmp_path / "Annotations")
    assert [box.box for box in found.boxes] == [(0, 10, 20, 20), (4, 5, 3, 3)]
    assert [box.label for box in found.boxes] == ["cat", "cat"]
    assert found.boxes[0].fields == {"pose": "Left", "difficult": "1", "part": {"name": "head"}}
    assert [image.filename for image in found.images] == ["a.jpg", "b.jpg"]
    assert found.images[0].fields == {"id": 0, "width": 60, "height": 40}
    assert found.base == tmp_path / "JPEGImages" and found.notes == []


def test_where_a_box_begins_at_zero_pixels_are_counted_from_zero(tmp_path: Path) -> None:
    write(tmp_path, "a", (0, 11, 20, 30), (5, 6, 17, 18))
    found = read_voc(tmp_path)
    assert [box.box for box in found.boxes] == [(0, 11, 20, 19), (5, 6, 12, 12)]
    assert "counted from 0" in found.notes[0]


def test_folders_and_splits(tmp_path: Path) -> None:
    write(tmp_path / "Annotations", "deep/a", image="a.jpg")
    write(tmp_path / "Annotations", "c", image="")
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("c\n")
    (sets / "val.txt").write_text("a  1\n\n")
    found = read_voc(tmp_path / "Annotations")
    assert [(i.filename, i.split) for i in found.images] == [("c.jpg", "train"), ("deep/a.jpg", "val")]


@pytest.mark.parametrize("value", ["", "wide", "nan", "inf", "1e999"])
def test_a_box_that_is_none_keeps_its_place_with_file_and_number(value: str, tmp_path: Path) -> None:
    write(tmp_path, "a", (1, 1, 20, 20), (1, value, 20, 20))
    good, bad = read_voc(tmp_path).boxes
    assert good.error is None and all(map(math.isnan, bad.box))
    assert bad.error is not None and f"{tmp_path / 'a.xml'}, object 2: bndbox" in bad.error


LAUGHS = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>
<annotation><filename>&c;</filename></annotation>"""
OUTSIDE = (
    """<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotation><filename>&b;</filename></annotation>"""
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "not XML: .*line 1"),
        ("", "not XML"),
        ("<data/>", "its root is 'data'"),
        (LAUGHS, "DTD"),
        (OUTSIDE, "DTD"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "encoding"),
    ],
)
def test_broken_and_dangerous_files_are_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "b.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"1 broken files, the first: .*b\.xml: .*{message}"):
        read_voc(tmp_path)


def test_no_file_no_folder_and_two_files_about_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no XML file in this folder"):
        read_voc(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        read_voc(tmp_path / "gone")
    write(tmp_path, "a", image="x.jpg")
    write(tmp_path, "b", image="x.jpg")
    with pytest.raises(ValueError, match=r"two files are about 'x\.jpg': .*a\.xml, .*b\.xml"):
        read_voc(tmp_path)
