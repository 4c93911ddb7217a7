"""Pascal VOC: a folder of XML files, one an image.

The format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/. The first pixel is 1, and the last one of a box is
in it. Tools that count from 0 write the format too: a folder in which a box begins at 0 is read so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.label_files import parent_of, place_of, read_file, read_objects
from fastdup_dagster.sources.labels import NO_BOX, Box, LabelledBox, LabelledImage, LabelSet, number
from fastdup_dagster.sources.locations import joined, location, location_of
from fastdup_dagster.sources.paths import as_bytes, local_path
from fastdup_dagster.sources.s3 import S3Source, names_in

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SHOWN = 5
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_FOLDERS = ("JPEGImages", "images")
_SPLITS = ("train", "val", "test")
_IN_COLUMNS = ("name", "bndbox")
_XML = frozenset({"xml"})
# Of an XML file: how people write its place, its path in the folder, its bytes or why there are none.
_File = tuple[str, PurePath, bytes | OSError]


def read_voc(folder: str | Path) -> LabelSet:
    """Reads the XML files below a folder.

    File names start at `JPEGImages` or `images` beside the folder, if there is one, else at the folder itself; those of
    a sub-folder at the sub-folder of the same name there. Splits are those of `ImageSets/Main`.

    Args:
        folder: a folder, or a prefix in an object store.

    Raises:
        RemoteError: if the prefix cannot be listed, or its server not be reached.
        FileNotFoundError: if the folder is not there.
        ValueError: naming the files: none, broken ones, ones with a DTD, two about one image.
    """
    root = place_of(folder)
    if isinstance(root, Path) and not root.is_dir():
        raise FileNotFoundError(f"annotations={str(folder)!r}: no such folder")
    base, parent = _remote_base(root) if isinstance(root, str) else _local_base(root)
    found = LabelSet(str(folder), base, [], [])
    splits = {} if parent is None else dict(_splits(joined(parent, "ImageSets/Main")))
    broken: list[str] = []
    named: dict[str, str] = {}
    for path, inside, data in _remote_files(root) if isinstance(root, str) else _local_files(root):
        try:
            page = _parse(data)
        except ValueError as error:
            broken.append(f"{path}: {error}")
            continue
        name = str(inside.parent / (_text(page, "filename") or f"{inside.stem}.jpg"))
        if name in named:
            raise ValueError(f"two files are about {name!r}: {named[name]}, {path}")
        named[name] = path
        fields = {"id": len(found.images), **_size(page)}
        found.images.append(LabelledImage(name, splits.get(inside.stem), fields))
        found.boxes += _boxes(page, len(found.images) - 1, path)
    if not found.images and not broken:
        raise ValueError(f"annotations={str(folder)!r}: no XML file in this folder")
    if broken:
        raise ValueError(f"{len(broken)} broken files, the first: {'; '.join(broken[:_SHOWN])}")
    _count_from(found)
    return found


def _local_base(root: Path) -> tuple[Path, Path]:
    """Where file names start, and the folder that the XML files' folder is in."""
    parent = root.absolute().parent
    beside = (parent / name for name in _IMAGE_FOLDERS)
    return next((path for path in beside if path.is_dir()), root.absolute()), parent


def _remote_base(root: str) -> tuple[str, str | None]:
    """The same of a prefix, which a bucket as a whole is in none of."""
    parent = parent_of(root)
    if parent is None:
        return root, None
    folders, _ = names_in(parent)
    return next((str(joined(parent, name)) for name in _IMAGE_FOLDERS if name in folders), root), parent


def _local_files(root: Path) -> Iterator[_File]:
    for entry in FolderSource(root, extensions=_XML).entries():
        path = Path(os.fsdecode(local_path(entry.uri)))
        data: bytes | OSError
        try:
            data = path.read_bytes()
        except OSError as error:
            data = error
        yield str(path), Path(os.fsdecode(os.path.relpath(as_bytes(path), as_bytes(root)))), data


def _remote_files(root: str) -> Iterator[_File]:
    first = len(location(root).folder.key)
    uris = [entry.uri for entry in S3Source(root, extensions=_XML).entries()]
    for uri, data in zip(uris, read_objects(uris), strict=True):
        place = location_of(uri)
        yield place.text, PurePosixPath(place.key[first:]), data


def _parse(data: bytes | OSError) -> Element:
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        if isinstance(data, OSError):
            raise data
        page = fromstring(data, forbid_dtd=True)
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


def _boxes(page: Element, image: int, path: str) -> Iterator[LabelledBox]:
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


def _splits(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Name of an image file without extension, and its split."""
    for split in _SPLITS:
        try:
            lines = read_file(joined(folder, f"{split}.txt")).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            continue
        yield from ((line.split()[0], split) for line in lines if line.strip())
