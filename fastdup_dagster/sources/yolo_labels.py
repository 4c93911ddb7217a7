"""The labels of a YOLO data set: one text file an image, beside the images that its YAML file names.

A label file lies where its image does, with the last `images` of the path as `labels`. Its lines: `class x y width
height` (centre, shares of the image), with a confidence after them, or with keypoints if the YAML has `kpt_shape`;
`class x1 y1 x2 y2 …`, a polygon; or four corners, a rotated box. Eight numbers are a rotated box unless the YAML says
`task: segment` or other lines have polygons of other lengths.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.label_files import lines_of, read_objects
from fastdup_dagster.sources.labels import NO_BOX, Box, LabelledBox, LabelledImage, LabelSet, extent, number
from fastdup_dagster.sources.locations import Location, is_remote, joined, location, location_of
from fastdup_dagster.sources.object_store import in_parallel
from fastdup_dagster.sources.parts import part_of
from fastdup_dagster.sources.paths import as_bytes, display_name, local_path, to_uri
from fastdup_dagster.sources.remote_errors import RemoteError
from fastdup_dagster.sources.s3 import S3Source
from fastdup_dagster.sources.yolo import YoloData, absolute_name, open_yolo

Size = tuple[int, int]
SizeOf = Callable[[str], Size | None]
"""Width and height in pixels, upright, of the image behind a URI; None if it is none."""

_SHOWN = 5
# Label files have six digits: what is nearer to a whole pixel than that, was one.
_DIGITS = 1e-6
_TEXT = frozenset({"txt"})
# Tools put the names of the classes there, a line each.
_NO_LABELS = frozenset({"classes.txt"})
# Number and text of each line of a label file with something on it; or why it cannot be read.
_Lines = list[tuple[int, str]] | OSError


def read_yolo(path: str | Path, size_of: SizeOf) -> LabelSet:
    """Reads a data set; shares of images become pixels.

    A line that is no label is a box with a reason; an image whose size cannot be told has boxes of NaN. Label files in
    an object store are read many at a time, and so are sizes of images there.

    Args:
        path: the YAML file, local or in an object store.
        size_of: asked for each image that has labels; several threads may ask.

    Raises:
        FileNotFoundError, RemoteError, ValueError: as `open_yolo`.
    """
    data = open_yolo(path)
    entries = [entry for entry, _ in data.images]
    files = [_label_uri(entry) for entry in entries]
    texts = list(_texts(files))
    lengths = {len(text.split()) - 1 for lines in texts if not isinstance(lines, OSError) for _, text in lines}
    is_rotated = _eight_are_corners(data, lengths)
    header = _header(data, is_rotated, any(many > 5 for many in lengths))
    found = LabelSet(str(path), data.root, [], [], header, data.notes + _orphans(data, files))
    asked = [lines and entry.error_code is None for entry, lines in zip(entries, texts, strict=True)]
    sizes = _sizes([entry.uri for entry, is_asked in zip(entries, asked, strict=True) if is_asked], size_of)
    unknown: Counter[int] = Counter()
    for (entry, split), file, lines, is_asked in zip(data.images, files, texts, asked, strict=True):
        size = next(sizes) if is_asked else None
        fields = {"id": len(found.images)}
        if size is not None:
            fields |= {"width": size[0], "height": size[1]}
        for box in _boxes(lines, file, data, is_rotated, size):
            box.image = len(found.images)
            found.boxes.append(box)
            if box.label is None and box.error is None:
                kind = box.fields["category_id"]
                box.label = str(kind)
                unknown[kind] += 1
        found.images.append(LabelledImage(absolute_name(entry), split, fields))
    if unknown:
        kinds = ", ".join(map(str, list(unknown)[:_SHOWN]))
        found.notes.append(f"{unknown.total()} labels are of classes that {path} does not name: {kinds}")
    return found


def _header(data: YoloData, is_rotated: bool, has_polygons: bool) -> dict[str, Any]:
    kinds = [{"id": kind, "name": name} for kind, name in sorted(data.names.items())]
    points = {} if data.keypoints is None else {"kpt_shape": list(data.keypoints)}
    has_polygons = data.task in (None, "segment") and has_polygons and not points
    task = "obb" if is_rotated else "segment" if has_polygons else "detect"
    return {"categories": kinds, "yolo": {"task": task, **points}}


def label_path(image: bytes) -> bytes:
    """Where the label file of an image is: the last folder `images` of its path becomes `labels`.

    Args:
        image: an absolute path, or a key with a slash before it.
    """
    stem = os.path.splitext(image)[0]  # noqa: PTH122 bytes
    head, images, tail = stem.rpartition(b"/images/")
    return (head + b"/labels/" + tail if images else stem) + b".txt"


def _label_uri(entry: Entry) -> str | None:
    """Where the label file of an image would be; None for a part of an archive or video."""
    if part_of(entry.uri) is not None:
        return None
    if not is_remote(entry.uri):
        return to_uri(label_path(local_path(entry.uri)))
    place = location_of(entry.uri)
    key = label_path(os.fsencode("/" + place.key))[1:]
    return Location(place.server, place.bucket, os.fsdecode(key)).uri


def _texts(files: Sequence[str | None]) -> Iterator[_Lines]:
    """What is in the label files, in order; nothing where there is none."""
    for remote, some in groupby(files, key=is_remote):
        if remote:
            yield from map(_lines, read_objects(uri for uri in some if uri is not None))
        else:
            yield from ([] if uri is None else _lines(_read(local_path(uri))) for uri in some)


def _read(path: bytes) -> bytes | OSError:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 bytes
            return file.read()
    except OSError as error:
        return error
    except ValueError:  # a name that no file can have
        return b""


def _lines(data: bytes | OSError) -> _Lines:
    if isinstance(data, FileNotFoundError | NotADirectoryError):
        return []
    if isinstance(data, OSError):
        return data
    return [(row, line) for row, line in enumerate(lines_of(data), 1) if line.strip()]


def _sizes(uris: Sequence[str], size_of: SizeOf) -> Iterator[Size | None]:
    """The sizes of images in order; of those in an object store, many at a time."""
    for remote, some in groupby(uris, key=is_remote):
        if remote:
            yield from in_parallel(size_of, some)
        else:
            yield from map(size_of, some)


def _orphans(data: YoloData, files: Sequence[str | None]) -> list[str]:
    """A note on the label files in the folders of the splits that are of none of their images."""
    wanted = set(files)
    found: list[str] = []
    for folder in dict.fromkeys(map(_label_folder, data.folders)):
        source = (
            S3Source(folder, extensions=_TEXT) if isinstance(folder, str) else FolderSource(folder, extensions=_TEXT)
        )
        found += [
            absolute_name(entry)
            for entry in source.entries()
            if entry.uri not in wanted and entry.filename.rpartition("/")[2] not in _NO_LABELS
        ]
    if not found:
        return []
    first = ", ".join(found[:_SHOWN])
    return [f"{len(found)} label files are not called like an image that is there, with .txt, and left out: {first}"]


def _label_folder(folder: str | Path) -> str | Path:
    """Where the labels of the images of a folder or prefix are."""
    if isinstance(folder, Path):
        return Path(os.fsdecode(os.path.dirname(label_path(as_bytes(folder / "image")))))  # noqa: PTH120 bytes
    place = location(str(joined(folder, "image")))
    key = os.path.dirname(label_path(os.fsencode("/" + place.key))[1:])  # noqa: PTH120 bytes
    return Location(place.server, place.bucket, os.fsdecode(key)).text


def _boxes(
    lines: _Lines, file: str | None, data: YoloData, is_rotated: bool, size: Size | None
) -> Iterator[LabelledBox]:
    if file is None:
        return
    shown = location_of(file).text if is_remote(file) else display_name(local_path(file))
    if isinstance(lines, RemoteError):  # which names the object
        yield LabelledBox(0, None, NO_BOX, {}, str(lines))
    elif isinstance(lines, OSError):
        yield LabelledBox(0, None, NO_BOX, {}, f"{shown}: {lines.strerror}")
    else:
        yield from (_label(text, f"{shown}:{row}", data, is_rotated, size) for row, text in lines)


def _eight_are_corners(data: YoloData, lengths: set[int]) -> bool:
    if data.keypoints is not None or data.task == "segment" or 8 not in lengths:
        return False
    return data.task == "obb" or not any(many > 5 and many % 2 == 0 for many in lengths - {8})


def _label(text: str, where: str, data: YoloData, is_rotated: bool, size: Size | None) -> LabelledBox:
    try:
        kind, *values = [number(part) for part in text.split()] or [-1.0]
        if kind < 0 or kind != int(kind):
            raise ValueError(f"expected the number of a class first, and numbers after it, found {reprlib.repr(text)}")
        box, fields = _geometry(values, data.keypoints, is_rotated, size)
    except ValueError as error:
        return LabelledBox(0, None, NO_BOX, {}, f"{where}: {error}")
    fields["category_id"] = int(kind)
    return LabelledBox(0, data.names.get(int(kind)), box, fields)


def _geometry(
    values: list[float], keypoints: tuple[int, int] | None, is_rotated: bool, size: Size | None
) -> tuple[Box, dict[str, Any]]:
    many = len(values)
    if keypoints is not None and many == 4 + keypoints[0] * keypoints[1]:
        return _centred(values, size), {"keypoints": _keypoint_pixels(values[4:], keypoints[1], size)} if size else {}
    if many in (4, 5):
        return _centred(values, size), {"confidence": values[4]} if many == 5 else {}
    if many == 8 and is_rotated:
        return _pixels(values, size), {}
    if many < 6 or many % 2:
        raise ValueError(f"{many} numbers after the class: expected 4 for a box, or pairs of a polygon")
    points = list(_pixels(values, size))
    return (extent(points), {"segmentation": [points]}) if size else (NO_BOX, {})


def _centred(values: list[float], size: Size | None) -> Box:
    x, y, width, height = values[:4]
    left, top, right, bottom = _pixels([x - width / 2, y - height / 2, x + width / 2, y + height / 2], size)
    return left, top, right - left, bottom - top


def _pixels(shares: list[float], size: Size | None) -> Box:
    """x1, y1, x2, y2, … in pixels; NaN where the size is not known."""
    if size is None:
        return (math.nan,) * len(shares)
    return tuple(_pixel(share, size[place % 2]) for place, share in enumerate(shares))


def _pixel(share: float, side: int) -> float:
    value = share * side
    whole = round(value)
    return float(whole) if abs(value - whole) <= _DIGITS * side else value


def _keypoint_pixels(values: list[float], numbers: int, size: Size) -> list[float]:
    """x, y, visibility of each point, as COCO has them; points without one are visible."""
    found: list[float] = []
    for place in range(0, len(values), numbers):
        found += [*_pixels(values[place : place + 2], size), values[place + 2] if numbers == 3 else 2]
    return found
