"""YOLO: a YAML file that names the images of each split and the classes, and one text file of labels an image.

The format: https://docs.ultralytics.com/datasets/detect/. A label file lies where its image does, with the last
`images` of the path as `labels`. Its lines: `class x y width height` (centre, shares of the image), with a confidence
after them, or with keypoints if the YAML has `kpt_shape`; `class x1 y1 x2 y2 …`, a polygon; or four corners, a rotated
box. Eight numbers are a rotated box unless the YAML says `task: segment` or other lines have polygons of other lengths.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fastdup_dagster.sources.base import Entry, NothingFoundError
from fastdup_dagster.sources.folder import FolderSource, stat_entry
from fastdup_dagster.sources.labels import NO_BOX, Box, LabelledBox, LabelledImage, LabelSet, clean, extent, number
from fastdup_dagster.sources.paths import as_bytes, display_name, local_path

SPLITS = ("train", "val", "test")
YAML_SUFFIXES = (".yaml", ".yml")
Size = tuple[int, int]
SizeOf = Callable[[str], Size | None]
"""Width and height in pixels, upright, of the image behind a URI; None if it is none."""

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHOWN = 5
# Label files have six digits: what is nearer to a whole pixel than that, was one.
_DIGITS = 1e-6


@dataclass(frozen=True)
class YoloData:
    """What a YAML file describes.

    Attributes:
        path: of the file.
        root: folder that its paths start at.
        images: entry and split of every image, each once.
        names: class names by number.
        keypoints: how many a box has in its line, and the numbers of each: 2, or 3 with visibility; None for none.
        task: detect, segment, obb, …; None if it does not say.
        notes: sentences for people.
    """

    path: Path
    root: Path
    images: list[tuple[Entry, str]]
    names: dict[int, str]
    keypoints: tuple[int, int] | None
    task: str | None
    notes: list[str]

    def name_of(self, entry: Entry) -> str:
        """Path of an image: relative to the root, absolute outside it."""
        root = as_bytes(self.root).rstrip(b"/") + b"/"
        return os.fsdecode(local_path(entry.uri).removeprefix(root))


def is_yolo(path: str | Path) -> bool:
    """Whether a path may be that of a YOLO data set, by its name."""
    return Path(path).suffix.lower() in YAML_SUFFIXES


def yolo_root(path: str | Path) -> Path:
    """The folder that the paths in a YAML file start at: `path` in it, relative to the file's own folder."""
    return _root(Path(path).expanduser().absolute(), _load(Path(path).expanduser()))


def open_yolo(path: str | Path) -> YoloData:
    """Reads a YAML file and lists its images; nothing is downloaded, whatever the file says.

    Raises:
        FileNotFoundError: if the file, or a folder or list that it names, is not there.
        NothingFoundError: if there is no image.
        ValueError: naming file and key of what is wrong.
    """
    place = Path(path).expanduser()
    data = _load(place)
    root = _root(place.absolute(), data)
    images: dict[str, tuple[Entry, str]] = {}
    twice: Counter[tuple[str, str]] = Counter()
    notes: list[str] = []
    for split in SPLITS:
        for entry in _entries(place, split, data.get(split), root, notes):
            if entry.uri not in images:
                images[entry.uri] = entry, split
            elif (first := images[entry.uri][1]) != split:
                twice[first, split] += 1
    if not images:
        raise NothingFoundError(f"no images found in {path}: its {', '.join(SPLITS)} name none")
    notes += [f"{many} images are in {a} and in {b}: taken as {a}" for (a, b), many in twice.items()]
    task = data.get("task")
    return YoloData(
        place, root, list(images.values()), _names(place, data), _keypoints(place, data),
        task if isinstance(task, str) else None, notes,
    )  # fmt: skip


def read_yolo(path: str | Path, size_of: SizeOf) -> LabelSet:
    """Reads a data set; shares of images become pixels.

    A line that is no label is a box with a reason; an image whose size cannot be told has boxes of NaN.

    Args:
        path: the YAML file.
        size_of: asked for each image that has labels.

    Raises:
        FileNotFoundError, ValueError: as `open_yolo`.
    """
    data = open_yolo(path)
    lines = [_lines(entry) for entry, _ in data.images]
    lengths = {len(text.split()) - 1 for labels in lines for _, text in labels}
    is_rotated = _eight_are_corners(data, lengths)
    header = _header(data, is_rotated, any(many > 5 for many in lengths))
    found = LabelSet(str(path), data.root, [], [], header, list(data.notes))
    unknown: Counter[int] = Counter()
    for (entry, split), labels in zip(data.images, lines, strict=True):
        size = size_of(entry.uri) if labels and entry.error_code is None else None
        fields = {"id": len(found.images)}
        if size is not None:
            fields |= {"width": size[0], "height": size[1]}
        found.images.append(LabelledImage(os.fsdecode(local_path(entry.uri)), split, fields))
        for where, text in labels:
            box = _label(text, where, data, is_rotated, size)
            box.image = len(found.images) - 1
            found.boxes.append(box)
            if box.label is None and box.error is None:
                kind = box.fields["category_id"]
                box.label = str(kind)
                unknown[kind] += 1
    if unknown:
        kinds = ", ".join(map(str, list(unknown)[:_SHOWN]))
        found.notes.append(f"{unknown.total()} labels are of classes that {path} does not name: {kinds}")
    return found


def _load(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r}: no such file")
    try:
        data = YAML(typ="safe", pure=True).load(path.read_bytes())
    except Exception as error:  # the reader raises many kinds on broken input
        raise ValueError(f"{path}: not YAML: {str(error) or type(error).__name__}") from error
    if not isinstance(data, dict) or not any(data.get(split) for split in SPLITS):
        raise ValueError(f"{path}: not a YOLO data set: expected path, train, val, test and names")
    return data


def _root(path: Path, data: dict[Any, Any]) -> Path:
    given = data.get("path") or "."
    if not isinstance(given, str):
        raise ValueError(f"{path}: path={reprlib.repr(given)}: expected a folder")
    if _REMOTE.match(given):
        raise NotImplementedError(f"{path}: path={given!r}: remote locations are not supported yet")
    tried = [path.parent / given, Path.cwd() / given]
    return Path(os.fsdecode(as_bytes(next((folder for folder in tried if _is_dir(folder)), tried[0]))))


def _is_dir(path: Path) -> bool:
    return "\0" not in str(path) and os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for a name that is too long


def _entries(path: Path, split: str, given: Any, root: Path, notes: list[str]) -> Iterator[Entry]:
    places = given if isinstance(given, list) else [] if given is None else [given]
    for place in places:
        if not isinstance(place, str):
            raise ValueError(f"{path}: {split}={reprlib.repr(given)}: expected a folder or a list of files")
        if _REMOTE.match(place):
            raise NotImplementedError(f"{path}: {split}={place!r}: remote locations are not supported yet")
        target = root / place
        if _is_dir(target):
            source = FolderSource(target)
            yield from source.entries()
            notes += source.notes
        elif "\0" not in place and os.path.isfile(target):  # noqa: PTH113 - see _is_dir
            yield from _listed(target, root)
        else:
            raise FileNotFoundError(f"{path}: {split}={place!r}: no such folder or list file: {target}")


def _listed(path: Path, root: Path) -> Iterator[Entry]:
    """The images of a text file, one a row: relative to the file's own folder, or to the root."""
    for line in path.read_bytes().decode("utf-8", "surrogateescape").lstrip("\ufeff").splitlines():
        if name := line.strip():
            tried = [as_bytes(folder / name) for folder in (path.parent, root, Path.cwd())]
            found = next((p for p in tried if b"\0" not in p and os.path.lexists(p)), tried[0])
            yield stat_entry(display_name(os.fsencode(name)), found)


def _names(path: Path, data: dict[Any, Any]) -> dict[int, str]:
    given = data.get("names") or {}
    pairs = enumerate(given) if isinstance(given, list) else given.items() if isinstance(given, dict) else None
    if pairs is None:
        raise ValueError(f"{path}: names={reprlib.repr(given)}: expected a list, or numbers and names")
    names: dict[int, str] = {}
    for kind, name in pairs:
        if isinstance(kind, bool) or not isinstance(kind, int) or isinstance(name, list | dict) or name is None:
            raise ValueError(f"{path}: names: {reprlib.repr(kind)}: {reprlib.repr(name)}: expected a number and a name")
        names[kind] = clean(str(name))
    return names


def _keypoints(path: Path, data: dict[Any, Any]) -> tuple[int, int] | None:
    match data.get("kpt_shape"):
        case None:
            return None
        case [int(many), 2 | 3 as numbers] if 0 < many < 10_000:
            return many, numbers
        case given:
            raise ValueError(f"{path}: kpt_shape={reprlib.repr(given)}: expected [number of points, 2 or 3]")


def _header(data: YoloData, is_rotated: bool, has_polygons: bool) -> dict[str, Any]:
    kinds = [{"id": kind, "name": name} for kind, name in sorted(data.names.items())]
    points = {} if data.keypoints is None else {"kpt_shape": list(data.keypoints)}
    has_polygons = data.task in (None, "segment") and has_polygons and not points
    task = "obb" if is_rotated else "segment" if has_polygons else "detect"
    return {"categories": kinds, "yolo": {"task": task, **points}}


def label_path(image: bytes) -> bytes:
    """Where the label file of an image is: the last folder `images` of its path becomes `labels`."""
    stem = os.path.splitext(image)[0]  # noqa: PTH122 bytes
    head, images, tail = stem.rpartition(b"/images/")
    return (head + b"/labels/" + tail if images else stem) + b".txt"


def _lines(entry: Entry) -> list[tuple[str, str]]:
    """Place and text of each line with something on it; an image without a label file has none."""
    path = label_path(local_path(entry.uri))
    shown = display_name(path)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 bytes
            text = file.read().decode("utf-8", "backslashreplace").removeprefix("\ufeff")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        return [(f"{shown}: {error.strerror}", "")]
    return [(f"{shown}:{row}", line) for row, line in enumerate(text.split("\n"), 1) if line.strip()]


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
