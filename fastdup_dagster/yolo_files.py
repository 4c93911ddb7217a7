"""A YOLO data set of what is to be written: `data.yaml`, a folder of images and one of labels, each with its splits."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from fastdup_dagster.images import ImageError, read_bytes
from fastdup_dagster.label_files import UNLABELLED, WrittenBox, WrittenImage
from fastdup_dagster.label_tables import Header
from fastdup_dagster.sources import is_remote, local_path, path_of
from fastdup_dagster.sources.coco import polygon_numbers
from fastdup_dagster.sources.labels import extent, number
from fastdup_dagster.sources.object_store import in_parallel
from fastdup_dagster.sources.parts import part_of

TASKS = ("detect", "segment", "obb")
_UNSAFE = re.compile(r"[\x00-\x1f/\\]")


def write_yolo(
    folder: Path, images: Sequence[WrittenImage], header: Header, task: str | None = None, copy_images: bool = False
) -> Path:
    """Writes a YOLO data set.

    Classes are numbered from 0 in the order of the ids of their categories. An image without a split goes into `train`.

    Args:
        folder: absolute; must be empty, or not there.
        images: what is written.
        header: the categories; a class that is not among them is added after them.
        task: `detect` writes boxes, `segment` polygons, `obb` four corners; by default what was read, or `obb` if a
            box is rotated.
        copy_images: copy the images; else links lead to them.

    Returns:
        The YAML file.

    Raises:
        FileExistsError: if something is in the folder.
        ValueError: for another task, and for images that no link or copy can be made of.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: give a new folder")
    described: Mapping[str, Any] = header.rest.get("yolo", {})
    rotated = any(len(box.box) > 4 for image in images for box in image.boxes)
    task = task or described.get("task") or ("obb" if rotated else "detect")
    if task not in TASKS:
        raise ValueError(f"task={task!r}: expected one of {', '.join(TASKS)}")
    shape = described.get("kpt_shape") if task == "detect" else None
    classes = _Classes(header.rest.get("categories", ()))
    _refuse_unplaceable(images, copy_images)
    placed: list[tuple[Path, str]] = []
    taken: set[str] = set()
    splits: dict[str, None] = {}
    for image in images:
        split = _safe(image.split or "train")
        splits[split] = None
        place = _free(_inside(image.filename, split), taken, split)
        placed.append((folder / "images" / split / place, image.uri))
        labels = folder / "labels" / split / place.with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(_lines(image, classes, task, shape)), encoding="ascii")
    _place_images(placed, copy_images)
    described = {"path": ".", **{split: f"images/{split}" for split in splits}, "names": classes.names}
    described |= {"task": task} if task != "detect" else {}
    described |= {"kpt_shape": shape} if shape else {}
    target = folder / "data.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    with target.open("wb") as file:
        writer.dump(described, file)
    return target


class _Classes:
    """Numbers of classes: those of the categories first, in the order of their ids."""

    def __init__(self, categories: Sequence[Mapping[str, Any]]) -> None:
        ordered = sorted(categories, key=lambda item: (isinstance(item["id"], str), item["id"]))
        self.names: dict[int, str] = {}
        self._by_id: dict[Any, int] = {}
        self._by_name: dict[str, int] = {}
        for item in ordered:
            self._by_id[item["id"]] = self._add(str(item.get("name", item["id"])))

    def _add(self, name: str) -> int:
        number = len(self.names)
        self.names[number] = name
        self._by_name.setdefault(name, number)
        return number

    def of(self, box: WrittenBox) -> int:
        """The number of a box's class."""
        identity, name = box.fields.get("category_id"), box.label or UNLABELLED
        if identity in self._by_id:
            return self._by_id[identity]
        return self._by_name[name] if name in self._by_name else self._add(name)


def _lines(image: WrittenImage, classes: _Classes, task: str, shape: list[int] | None) -> list[str]:
    size = image.size() if image.boxes else None
    if size is None:  # shares of an image that nobody knows the size of
        return []
    return [
        " ".join([str(classes.of(box)), *(f"{value:.9g}" for value in _shares(box, task, shape, size))]) + "\n"
        for box in image.boxes
    ]


def _shares(box: WrittenBox, task: str, shape: list[int] | None, size: tuple[int, int]) -> list[float]:
    points = _corners(box.box)
    if task == "obb":
        return _scaled(points, size)
    if task == "segment":
        return _scaled(_numbers(box, "segmentation") or points, size)
    left, top, width, height = extent(points)
    shares = _scaled([left + width / 2, top + height / 2, width, height], size)
    given = _numbers(box, "keypoints")
    if shape and len(given) == 3 * shape[0]:
        for place in range(0, len(given), 3):
            shares += [*_scaled(given[place : place + 2], size), *given[place + 2 : place + shape[1]]]
    return shares if shape else shares + _numbers(box, "confidence")[:1]


def _corners(box: list[float]) -> list[float]:
    if len(box) != 4:
        return box
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _numbers(box: WrittenBox, name: str) -> list[float]:
    """The numbers of a field, polygons one after another; none if it holds anything else."""
    given = box.fields.get(name)
    try:
        if name == "segmentation":
            return list(polygon_numbers(given))
        return [number(value) for value in (given if isinstance(given, list) else [given])]
    except ValueError:
        return []


def _scaled(values: Sequence[float], size: tuple[int, int]) -> list[float]:
    return [value / size[place % 2] for place, value in enumerate(values)]


def _safe(name: str) -> str:
    """A name for a folder or file that lies where it is put."""
    shown = _UNSAFE.sub("_", name)[:200]
    return "_" if shown in ("", ".", "..") else shown


def _inside(filename: str, split: str) -> PurePosixPath:
    """A relative path below the folder of a split, whatever an annotation calls a file.

    What stands before a folder `images` goes: another one would mislead those who look for the labels.
    """
    parts = [_safe(part) for part in PurePosixPath(filename).parts if part not in ("/", "//", ".", "..")] or ["_"]
    folders = parts[:-1]
    folders = folders[len(folders) - folders[::-1].index("images") :] if "images" in folders else folders
    return PurePosixPath(*(folders[1:] if folders[:1] == [split] else folders), parts[-1])


def _free(place: PurePosixPath, taken: set[str], split: str) -> PurePosixPath:
    """The path, with a number where its label file would be another image's."""
    found, number = place, 1
    while f"{split}/{found.with_suffix('')}" in taken:
        found = place.with_stem(f"{place.stem}-{number}")
        number += 1
    taken.add(f"{split}/{found.with_suffix('')}")
    return found


def _refuse_unplaceable(images: Sequence[WrittenImage], copy: bool) -> None:
    for image in images:
        part = part_of(image.uri)
        shown = os.fsdecode(path_of(image.uri))
        if part is not None and part.kind == "video":
            raise ValueError(f"{shown} is a frame of a video, which no file of its own can be made of")
        if not copy and (part is not None or is_remote(image.uri)):
            raise ValueError(f"no link leads to {shown}: copy the images (copy_images=True, --copy-images)")


def _place_images(images: Sequence[tuple[Path, str]], copy: bool) -> None:
    """Copies or links; what is in an object store is read many files at a time."""
    remote = [(target, uri) for target, uri in images if is_remote(uri)]
    for target, uri in images:
        target.parent.mkdir(parents=True, exist_ok=True)
        if part_of(uri) is None and not is_remote(uri):
            _place_file(target, local_path(uri), copy)
        elif not is_remote(uri):
            _write_copy((target, uri))
    for _ in in_parallel(_write_copy, remote):
        pass


def _write_copy(pair: tuple[Path, str]) -> None:
    target, uri = pair
    try:
        data = read_bytes(uri)
    except ImageError as error:
        if error.code == "MISSING_FILE":  # its labels stay
            return
        raise ValueError(f"{os.fsdecode(path_of(uri))} cannot be copied: {error}") from error
    target.write_bytes(data)


def _place_file(target: Path, source: bytes, copy: bool) -> None:
    if copy and os.path.isfile(source):  # noqa: PTH113 bytes
        shutil.copyfile(source, os.fsencode(target))
    else:
        os.symlink(source, os.fsencode(target))  # noqa: PTH211 bytes
