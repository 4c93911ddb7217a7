"""Cleaned annotations written back as COCO or YOLO: a finished run, without what is to be dropped.

What was read from COCO, YOLO or Pascal VOC comes back with its ids, categories, segmentations and further fields;
annotations from elsewhere get ids, and categories from their labels. A file name is that of the annotations, or where
they have none, that of the manifest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import polars as pl

from fastdup_dagster.images import ImageError, corners, image_size
from fastdup_dagster.label_tables import BOXES_COLUMN, Header
from fastdup_dagster.results import MISSING_ANNOTATION, Results
from fastdup_dagster.sources.labels import extent
from fastdup_dagster.storage import write_atomically

UNLABELLED = "unlabelled"
"""The class of boxes without a label: COCO and YOLO want one of each."""
_SIZE = ("width", "height")
# What can be wrong with a box while its image is good.
_NOT_THE_IMAGE = (None, "BAD_BOUNDING_BOX", "INVALID_EMBEDDING")


@dataclass
class WrittenBox:
    """A box that is written.

    Attributes:
        box: x, y, width, height or four corners, in pixels.
        label: name of its class.
        fields: further fields.
        order: number of its row in the manifest.
    """

    box: list[float]
    label: str | None
    fields: dict[str, Any]
    order: int


@dataclass
class WrittenImage:
    """An image that is written: its name and place, its split, further fields of its own, and its boxes."""

    filename: str
    uri: str
    split: str | None
    fields: dict[str, Any]
    boxes: list[WrittenBox] = field(default_factory=list)

    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, upright: of the file itself, else as the annotations say."""
        try:
            return image_size(self.uri)
        except ImageError:
            width, height = (self.fields.get(name) for name in _SIZE)
            return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def kept_rows(
    results: Results, drop_invalid: bool = True, drop_duplicates: bool = False, drop: Iterable[int] = ()
) -> pl.DataFrame:
    """The manifest's rows that are to be written.

    Args:
        results: a finished run.
        drop_invalid: leave out what the run could not use. An image without a box is none of these.
        drop_duplicates: of each connected component, keep the instance with the lowest id.
        drop: ids to leave out.

    Raises:
        ValueError: for an id that is not there.
    """
    manifest = results.manifest
    left_out = {int(index) for index in drop}
    if unknown := sorted(left_out - set(manifest["index"].to_list())):
        raise ValueError(f"drop: no instance has the id {', '.join(map(str, unknown[:5]))}")
    if drop_invalid:
        left_out |= set(results.invalid.filter(pl.col("error_code") != MISSING_ANNOTATION)["index"].to_list())
    if drop_duplicates:
        members = results.components().sort("index")
        left_out |= set(members.filter(~pl.col("component_id").is_first_distinct())["index"].to_list())
    return manifest.filter(~pl.col("index").is_in(list(left_out)))


class Finished(Protocol):
    """What is written back: a finished run, or a published split."""

    @property
    def manifest(self) -> pl.DataFrame:
        """The table `image_manifest`."""

    @property
    def stored_annotations(self) -> pl.DataFrame:
        """`index`, `is_annotated` and the user's columns, a row per row of the manifest."""

    @property
    def invalid(self) -> pl.DataFrame:
        """`index, error_code` of what cannot be used."""


def written_images(results: Finished, header: Header, rows: pl.DataFrame) -> list[WrittenImage]:
    """The images that some rows of the manifest are, or lie on, in order, each with its boxes.

    An image all of whose boxes are dropped stays without one. One that the annotations do not name is left out.
    """
    stored = results.stored_annotations
    columns = {*header.fields, *header.image_fields, BOXES_COLUMN} & set(stored.columns)
    identity = next((column for column, name in header.image_fields.items() if name == "id"), None)
    codes = dict(results.invalid.select("index", "error_code").iter_rows())
    kept = set(rows["index"])
    images: dict[str, WrittenImage] = {}
    both = zip(results.manifest.iter_rows(named=True), stored.iter_rows(named=True), strict=True)
    for row, said in both:
        is_kept, is_box = row["index"] in kept, row["box"] is not None
        is_named = said["is_annotated"] or (identity is not None and said[identity] is not None)
        is_good = codes.get(row["index"]) in _NOT_THE_IMAGE
        if not is_named or not (is_kept or (is_box and is_good)):
            continue
        values = {name: _decoded(said[name], name, header) for name in columns}
        image = images.setdefault(row["uri"], _image(row, values, header))
        if is_kept and is_box and all(map(math.isfinite, row["box"])):
            image.boxes.append(WrittenBox(list(row["box"]), row["label"], _fields(values, header.fields), row["index"]))
        elif is_kept:
            given = [
                WrittenBox(b["box"], b["label"], b["fields"], row["index"]) for b in values.get(BOXES_COLUMN) or ()
            ]
            image.boxes += [box for box in given if all(map(math.isfinite, box.box))]
    # Rows are in the order of the boxes, images without one last.
    order = {identity: place for place, identity in enumerate(header.images)}
    return sorted(images.values(), key=lambda image: order.get(image.fields.get("id"), len(order)))


def _decoded(value: Any, name: str, header: Header) -> Any:
    return json.loads(value) if value is not None and name in (*header.json, BOXES_COLUMN) else value


def _image(row: Mapping[str, Any], values: Mapping[str, Any], header: Header) -> WrittenImage:
    fields = _fields(values, header.image_fields)
    return WrittenImage(fields.get("file_name") or row["filename"], row["uri"], row["split"], fields)


def _fields(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {name: values[column] for column, name in names.items() if values.get(column) is not None}


def write_coco(path: Path, images: list[WrittenImage], header: Header) -> None:
    """Writes one COCO file.

    Args:
        path: of the JSON file.
        images: what is written.
        header: categories and whatever else the file has; a class that is not among them is added.
    """
    categories = _Categories(header.rest.get("categories", ()))
    image_ids = _Ids(image.fields.get("id") for image in images)
    box_ids = _Ids(box.fields.get("id") for image in images for box in image.boxes)
    shown: list[dict[str, Any]] = []
    annotations: list[tuple[int, dict[str, Any]]] = []
    for image in images:
        identity = image_ids.of(image.fields.get("id"))
        shown.append({**_sized(image), "id": identity, "file_name": image.filename})
        for box in image.boxes:
            fields = {**_geometry(box), **box.fields, "category_id": categories.of(box), "image_id": identity}
            annotations.append((box.order, {**fields, "id": box_ids.of(box.fields.get("id"))}))
    annotations.sort(key=lambda item: item[0])
    rest = {name: value for name, value in header.rest.items() if name not in ("categories", "yolo")}
    whole = {**rest, "categories": categories.listed, "images": shown, "annotations": [item for _, item in annotations]}
    write_atomically(path, json.dumps(whole).encode("ascii"))


def _sized(image: WrittenImage) -> dict[str, Any]:
    if all(name in image.fields for name in _SIZE):
        return image.fields
    size = image.size()
    return {**image.fields, **({} if size is None else dict(zip(_SIZE, size, strict=True)))}


def _geometry(box: WrittenBox) -> dict[str, Any]:
    """The upright box, its area, and of a rotated one its corners as a polygon."""
    if len(box.box) == 4:
        return {"bbox": box.box, "area": box.box[2] * box.box[3], "iscrowd": 0}
    points = corners(box.box).astype(np.float32)
    area = float(cv2.contourArea(points))
    return {"bbox": list(extent(box.box)), "segmentation": [box.box], "area": area, "iscrowd": 0}


class _Ids:
    """The ids that there are, each given out once; and new ones where there is none, or it was given out."""

    def __init__(self, given: Iterable[Any]) -> None:
        self._next = max((value for value in given if isinstance(value, int)), default=0) + 1
        self._used: set[Any] = set()

    def of(self, wanted: Any) -> Any:
        """The id itself if it is free."""
        if wanted is None or wanted in self._used:
            wanted, self._next = self._next, self._next + 1
        self._used.add(wanted)
        return wanted


class _Categories:
    """Categories as they were, and those that boxes need besides."""

    def __init__(self, given: Iterable[Mapping[str, Any]]) -> None:
        self.listed = [dict(item) for item in given]
        self._ids = {item["id"] for item in self.listed}
        self._names = {str(item.get("name", item["id"])): item["id"] for item in reversed(self.listed)}

    def of(self, box: WrittenBox) -> Any:
        """The id of a box's category."""
        identity, name = box.fields.get("category_id"), box.label or UNLABELLED
        if identity not in self._ids:
            if identity is None and name in self._names:
                return self._names[name]
            if not isinstance(identity, int | str):
                identity = max((value for value in self._ids if isinstance(value, int)), default=-1) + 1
            self.listed.append({"id": identity, "name": name})
            self._ids.add(identity)
            self._names.setdefault(name, identity)
        return identity
