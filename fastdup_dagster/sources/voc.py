"""Pascal VOC: a folder of XML files, one an image.

The format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/. The first pixel is 1, and the last one of a box is
in it. Tools that count from 0 write the format too: a folder in which a box begins at 0 is read so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.labels import NO_BOX, Box, LabelledBox, LabelledImage, LabelSet, number
from fastdup_dagster.sources.paths import as_bytes, local_path

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SHOWN = 5
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_FOLDERS = ("JPEGImages", "images")
_SPLITS = ("train", "val", "test")
_IN_COLUMNS = ("name", "bndbox")


def read_voc(folder: str | Path) -> LabelSet:
    """Reads the XML files below a folder.

    File names start at `JPEGImages` or `images` beside the folder, if there is one, else at the folder itself; those of
    a sub-folder at the sub-folder of the same name there. Splits are those of `ImageSets/Main`.

    Raises:
        FileNotFoundError: if the folder is not there.
        ValueError: naming the files: none, broken ones, ones with a DTD, two about one image.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"annotations={str(folder)!r}: no such folder")
    entries = list(FolderSource(root, extensions=frozenset({"xml"})).entries())
    if not entries:
        raise ValueError(f"annotations={str(folder)!r}: no XML file in this folder")
    beside = (root.absolute().parent / name for name in _IMAGE_FOLDERS)
    base = next((path for path in beside if path.is_dir()), root.absolute())
    found = LabelSet(str(folder), base, [], [])
    splits = dict(_splits(root.absolute().parent / "ImageSets" / "Main"))
    broken: list[str] = []
    named: dict[str, str] = {}
    for entry in entries:
        path = Path(os.fsdecode(local_path(entry.uri)))
        try:
            page = _parse(path)
        except ValueError as error:
            broken.append(f"{path}: {error}")
            continue
        inside = Path(os.fsdecode(os.path.relpath(as_bytes(path), as_bytes(root)))).parent
        name = str(inside / (_text(page, "filename") or f"{path.stem}.jpg"))
        if name in named:
            raise ValueError(f"two files are about {name!r}: {named[name]}, {path}")
        named[name] = str(path)
        fields = {"id": len(found.images), **_size(page)}
        found.images.append(LabelledImage(name, splits.get(path.stem), fields))
        found.boxes += _boxes(page, len(found.images) - 1, path)
    if broken:
        raise ValueError(f"{len(broken)} broken files, the first: {'; '.join(broken[:_SHOWN])}")
    _count_from(found)
    return found


def _parse(path: Path) -> Element:
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        page = fromstring(path.read_bytes(), forbid_dtd=True)
    except ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    except (OSError, LookupError, ValueError) as error:  # defusedxml's own are ValueError
        raise ValueError(str(error) or type(error).__name__) from error
    if page.tag != "annotation":
        raise ValueError(f"its root is {page.tag[:40]!r}, not 'annotation'")
    return page


def _text(page: Element, place: str) -> str:
    return (page.findtext(place) or "").strip()


def _size(page: Element) -> dict[str, Any]:
    sizes = {name: _text(page, f"size/{name}") for name in ("width", "height")}
    return {name: int(text) for name, text in sizes.items() if text.isascii() and text.isdigit() and len(text) < 10}


def _boxes(page: Element, image: int, path: Path) -> Iterator[LabelledBox]:
    for place, item in enumerate(page.findall("object"), start=1):
        fields: dict[str, Any] = {}
        for child in item:
            if child.tag not in _IN_COLUMNS:
                value = {part.tag: (part.text or "").strip() for part in child} or (child.text or "").strip()
                fields.setdefault(child.tag, value)
        texts = [_text(item, f"bndbox/{side}") for side in _SIDES]
        box, error = NO_BOX, None
        try:
            box = tuple(number(text) for text in texts)
        except ValueError as reason:
            error = f"{path}, object {place}: bndbox of {', '.join(_SIDES)} = {', '.join(texts)}: {reason}"
        yield LabelledBox(image, _text(item, "name") or None, box, fields, error)


def _count_from(found: LabelSet) -> None:
    """Turns corners into x, y, width and height."""
    corners = [box.box for box in found.boxes if box.error is None]
    first = 0 if any(0 <= side < 1 for corner in corners for side in corner[:2]) else 1
    if corners and not first:
        found.notes.append(f"boxes of {found.name} begin at 0: counted from 0, not from 1 as Pascal VOC does")
    for box in found.boxes:
        box.box = _upright(box.box, first)


def _upright(corner: Box, first: int) -> Box:
    left, top, right, bottom = corner
    return left - first, top - first, right - left + first, bottom - top + first


def _splits(folder: Path) -> Iterator[tuple[str, str]]:
    """Name of an image file without extension, and its split."""
    for split in _SPLITS:
        try:
            lines = (folder / f"{split}.txt").read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        yield from ((line.split()[0], split) for line in lines if line.strip())
