"""COCO: one JSON file, or a dictionary of the same shape, with `images`, `annotations` and `categories`.

The format: https://cocodataset.org/#format-data. A box may also be eight numbers, the corners of a rotated one.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastdup_dagster.sources.label_files import parent_of, place_of, read_file
from fastdup_dagster.sources.labels import NO_BOX, Box, LabelledBox, LabelledImage, LabelSet, clean, extent, number

_LISTS = ("images", "annotations", "categories")
_SHOWN = 5


def read_coco(given: str | Path | Mapping[str, Any]) -> LabelSet:
    """Reads COCO annotations.

    An annotation whose box cannot be used, or whose image is not listed, is a box with a reason.

    Args:
        given: path of a JSON file, whose folder is the base of file names, or its place in an object store; or a
            dictionary, whose base is the current folder.

    Raises:
        FileNotFoundError: if the file is not there.
        RemoteError: if it cannot be read from an object store.
        ValueError: naming file and place, if it is not COCO: broken JSON, no list of images, an image without `id` or
            `file_name`, two images of one id or one name.
    """
    name = "a COCO dictionary" if isinstance(given, Mapping) else str(given)
    data = _plain(given) if isinstance(given, Mapping) else _load(place_of(given))
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise ValueError(f"{name}: not COCO: expected an object with lists images, annotations and categories")
    for key in _LISTS:
        _check_objects(name, key, data.get(key, []))
    images, places = _images(name, data["images"])
    categories = _categories(name, data.get("categories", []))
    header = {key: value for key, value in data.items() if key not in _LISTS}
    header["categories"] = data.get("categories", [])
    base = Path.cwd() if isinstance(given, Mapping) else _folder(place_of(given))
    found = LabelSet(name, base, images, [], header)
    _add_boxes(found, data.get("annotations", []), places, categories)
    return found


def _folder(place: str | Path) -> str | Path:
    return parent_of(place) or place if isinstance(place, str) else place.absolute().parent


def _load(path: str | Path) -> Any:
    if isinstance(path, Path) and not path.is_file():
        raise FileNotFoundError(f"annotations={str(path)!r}: no such file")
    data = read_file(path)
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, a heap of brackets
        raise ValueError(f"{path}: not JSON: {error}") from error


def _plain(given: Mapping[str, Any]) -> Any:
    """The dictionary as JSON would hold it: arrays as lists, bytes as text."""
    try:
        return json.loads(json.dumps(given, default=_json_value))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a COCO dictionary: {error}") from error


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):  # how pycocotools gives run lengths
        return value.decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{reprlib.repr(value)} of type {type(value).__name__} is nothing that JSON holds")


def _check_objects(name: str, key: str, items: Any) -> None:
    if not isinstance(items, list):
        raise ValueError(f"{name}: {key} is no list")
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise ValueError(f"{name}: {key}[{place}] is {reprlib.repr(item)}: expected an object")


def _identity(name: str, key: str, place: int, item: dict[str, Any]) -> int | str:
    found = item.get("id")
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise ValueError(f"{name}: {key}[{place}] has the id {reprlib.repr(found)}: expected a whole number")
    return found


def _images(name: str, items: list[dict[str, Any]]) -> tuple[list[LabelledImage], dict[int | str, int]]:
    if not items:
        raise ValueError(f"{name}: images is empty")
    images: list[LabelledImage] = []
    places: dict[int | str, int] = {}
    named: dict[str, int | str] = {}
    for place, item in enumerate(items):
        found = _identity(name, "images", place, item)
        file = item.get("file_name")
        if not isinstance(file, str) or not file:
            raise ValueError(f"{name}: image {found!r} has the file_name {reprlib.repr(file)}")
        if found in places:
            raise ValueError(f"{name}: two images have the id {found!r}: {images[places[found]].filename!r}, {file!r}")
        if file in named:
            raise ValueError(f"{name}: two images are called {file!r}: {named[file]!r}, {found!r}")
        places[found], named[file] = place, found
        images.append(LabelledImage(clean(file), None, item))
    return images, places


def _categories(name: str, items: list[dict[str, Any]]) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for place, item in enumerate(items):
        found = _identity(name, "categories", place, item)
        if found in names:
            raise ValueError(f"{name}: two categories have the id {found!r}")
        names[found] = clean(str(item.get("name", found)))
    return names


def _add_boxes(
    found: LabelSet, items: list[dict[str, Any]], places: dict[int | str, int], categories: dict[int | str, str]
) -> None:
    strangers: dict[str, int] = {}
    unknown: Counter[str] = Counter()
    for place, item in enumerate(items):
        which = f"annotation {reprlib.repr(item['id'])}" if "id" in item else f"annotations[{place}]"
        image = item.get("image_id")
        at = places.get(image) if isinstance(image, int | str) else None
        box, error = _box(item)
        if at is None:
            wanted = reprlib.repr(image)
            if wanted not in strangers:
                strangers[wanted] = len(found.images)
                # A row that says what is missing: no file is called so.
                found.images.append(LabelledImage(f"image_id {clean(wanted)}: not among the images", None, {}))
            at = strangers[wanted]
        kind = item.get("category_id")
        label = categories.get(kind) if isinstance(kind, int | str) else None
        if label is None and kind is not None:
            label = clean(str(kind) if isinstance(kind, int | str) else reprlib.repr(kind))
            unknown[label] += 1
        reason = f"{found.name}: {which}: {error}" if error else None
        found.boxes.append(LabelledBox(at, label, box, item, reason))
    if strangers:
        found.notes.append(f"annotations of images that are not listed: image_id {', '.join(list(strangers)[:_SHOWN])}")
    if unknown:
        kinds = ", ".join(list(unknown)[:_SHOWN])
        found.notes.append(f"{unknown.total()} annotations are of categories that are not listed: category_id {kinds}")


def _box(item: dict[str, Any]) -> tuple[Box, str | None]:
    """The box of an annotation, and what is wrong with it. One without a bbox has that of its polygons."""
    given = item.get("bbox")
    try:
        if given is None:
            return extent(list(polygon_numbers(item.get("segmentation")))), None
        if not isinstance(given, list) or len(given) not in (4, 8):
            raise ValueError("expected 4 numbers")
        return tuple(number(value) for value in given), None
    except ValueError as error:
        return NO_BOX, f"bbox={reprlib.repr(given)}: {error}"


def polygon_numbers(segmentation: Any) -> Iterator[float]:
    """x1, y1, x2, y2, … of all polygons of a segmentation.

    Raises:
        ValueError: if it holds anything else, such as run lengths, or nothing.
    """
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("no box, and no polygon to take one from")
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 4 or len(polygon) % 2:
            raise ValueError("no box, and no polygon to take one from")
        yield from map(number, polygon)
