"""COCO, YOLO and Pascal VOC as annotations: the label set that a reader gives, as one table of boxes, or of images.

A row is a box; images without one come after them. Each field of an annotation is a column of its name, each field of
an image one of its name after `image_` (its size: `img_w`, `img_h`). What no column can hold, such as a segmentation,
is there as JSON. `Header` remembers which is which, so that the same can be written back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fastdup_dagster.constants import (
    ANNOT_FILENAME,
    ANNOT_IMG_H,
    ANNOT_IMG_W,
    ANNOT_LABEL,
    ANNOT_SPLIT,
    BBOX,
    BBOX_COLUMNS,
    IMG,
    ROTATED_BBOX_COLUMNS,
)
from fastdup_dagster.sources.coco import read_coco
from fastdup_dagster.sources.label_files import place_of, suffix
from fastdup_dagster.sources.labels import LabelledBox, LabelSet, clean
from fastdup_dagster.sources.voc import read_voc
from fastdup_dagster.sources.yolo import YAML_SUFFIXES
from fastdup_dagster.sources.yolo_labels import read_yolo

# What the results say of every instance: a user's columns of these names come from earlier results.
RESERVED = ("index", "error_code", "is_valid", "is_annotated")
BOXES_COLUMN = "boxes"
"""Of a run on whole images: all boxes of the image, as JSON."""
_TAKEN = {ANNOT_FILENAME, ANNOT_LABEL, ANNOT_SPLIT, *BBOX_COLUMNS, *ROTATED_BBOX_COLUMNS, *RESERVED, BOXES_COLUMN}
# What has columns of its own, or is said by the row.
_NOT_FIELDS = frozenset({"bbox", "image_id"})
_IMAGE_FIELDS = {"width": ANNOT_IMG_W, "height": ANNOT_IMG_H}


@dataclass(frozen=True)
class Header:
    """What belongs to a label set and to none of its rows.

    Attributes:
        fields: column -> field of an annotation.
        image_fields: column -> field of an image.
        json: columns that hold JSON.
        images: the ids of all images, in order.
        rest: `categories`, and what else the format has beside images and annotations.
    """

    fields: dict[str, str] = field(default_factory=dict)
    image_fields: dict[str, str] = field(default_factory=dict)
    json: list[str] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelTable:
    """A label set as a table.

    Attributes:
        filenames: of each row.
        columns: all other columns.
        boxes: of each row, None for an image without a box; None instead of a list for whole images.
        errors: why a row's box is none.
        header: what it takes to write the label set back.
        notes: sentences for people.
    """

    filenames: list[str]
    columns: pl.DataFrame
    boxes: list[tuple[float, ...] | None] | None
    errors: list[str | None]
    header: Header
    notes: list[str]


def read_labels(given: Any) -> LabelSet | None:
    """The label set at a path, or in a dictionary; None for what is neither COCO, YOLO nor VOC by its kind.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is broken.
    """
    if isinstance(given, Mapping):
        return read_coco(given)
    if not isinstance(given, str | Path) or not str(given):
        return None
    path = place_of(given)
    kind = suffix(path)
    if kind in YAML_SUFFIXES:
        return read_yolo(path, _size_of)
    if kind == ".json":
        return read_coco(path)
    if kind == ".xml":
        raise ValueError(f"annotations={str(given)!r}: give the folder of the XML files")
    return read_voc(path) if (not kind if isinstance(path, str) else path.is_dir()) else None


def _size_of(uri: str) -> tuple[int, int] | None:
    from fastdup_dagster.images import ImageError, image_size

    try:
        return image_size(uri)
    except ImageError:  # the decode pass says why
        return None


def label_table(labels: LabelSet, data_type: str = "infer") -> LabelTable:
    """The label set as a table.

    Args:
        labels: what a reader gave.
        data_type: `image`, `bbox`, or `infer`: a row per box if there is any, else a row per image.

    Raises:
        ValueError: for data_type='bbox' if there is no box.
    """
    if data_type == BBOX and not labels.boxes:
        raise ValueError(f"data_type='bbox': {labels.name} holds no box")
    if data_type == IMG or not labels.boxes:
        return _of_images(labels)
    bare = sorted(set(range(len(labels.images))) - {box.image for box in labels.boxes})
    rows: list[LabelledBox | None] = [*labels.boxes, *(None for _ in bare)]
    images = [labels.images[place] for place in [*(box.image for box in labels.boxes), *bare]]
    columns = _Columns()
    columns.add(ANNOT_LABEL, [None if box is None else box.label for box in rows])
    columns.add(ANNOT_SPLIT, [image.split for image in images])
    _add_boxes(columns, [None if box is None else box.box for box in rows])
    columns.add_fields([image.fields for image in images], columns.header.image_fields, _image_column)
    columns.add_fields([{} if box is None else box.fields for box in rows], columns.header.fields, _box_column)
    good = [(box.image, *map(repr, box.box)) for box in labels.boxes if box.error is None]
    repeated = len(good) - len(set(good))
    notes = [f"{repeated} boxes repeat another one of the same image"] if repeated else []
    return LabelTable(
        filenames=[image.filename for image in images],
        columns=columns.frame(),
        boxes=[None if box is None else box.box for box in rows],
        errors=[None if box is None else box.error for box in rows],
        header=columns.finished(labels),
        notes=labels.notes + notes,
    )


def _of_images(labels: LabelSet) -> LabelTable:
    """A row per image: its label is what all its boxes agree on; the boxes themselves are kept as JSON."""
    boxes: list[list[LabelledBox]] = [[] for _ in labels.images]
    for box in labels.boxes:
        boxes[box.image].append(box)
    agreed = [{box.label for box in some} for some in boxes]
    columns = _Columns()
    columns.add(ANNOT_LABEL, [next(iter(names)) if len(names) == 1 else None for names in agreed])
    columns.add(ANNOT_SPLIT, [image.split for image in labels.images])
    columns.add_fields([image.fields for image in labels.images], columns.header.image_fields, _image_column)
    if labels.boxes:
        columns.add(BOXES_COLUMN, [json.dumps([asdict(box) for box in some]) for some in boxes])
    names = [image.filename for image in labels.images]
    return LabelTable(names, columns.frame(), None, [], columns.finished(labels), labels.notes)


def _image_column(name: str) -> str:
    return _IMAGE_FIELDS.get(name, f"image_{name}")


def _box_column(name: str) -> str:
    return "annotation_id" if name == "id" else name


class _Columns:
    """Columns that grow, and the record of what they hold."""

    def __init__(self) -> None:
        self.header = Header()
        self._series: dict[str, pl.Series] = {}

    def add(self, name: str, values: Sequence[Any], always: bool = False) -> None:
        """A column; if all of it is missing, only if it is wanted always."""
        if always or any(value is not None for value in values):
            self._series[name] = self._encoded(name, values)

    def add_fields(self, rows: Sequence[dict[str, Any]], record: dict[str, str], column: Callable[[str], str]) -> None:
        """A column for each field that is not said otherwise, under a name that is free."""
        for field_name in dict.fromkeys(name for row in rows for name in row if name not in _NOT_FIELDS):
            name = column(clean(field_name))
            while name in _TAKEN or name in self._series:
                name = f"annotation_{name}"
            record[name] = field_name
            self.add(name, [row.get(field_name) for row in rows], always=True)

    def _encoded(self, name: str, values: Sequence[Any]) -> pl.Series:
        kinds = {type(value) for value in values if value is not None}
        if kinds == {str}:
            return pl.Series(name, [None if value is None else clean(value) for value in values], dtype=pl.String)
        if kinds == {bool}:
            return pl.Series(name, values, dtype=pl.Boolean)
        if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
            return pl.Series(name, values, dtype=pl.Int64)
        if kinds and kinds <= {int, float} and all(abs(v) <= 2**53 for v in values if isinstance(v, int)):
            return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
        self.header.json.append(name)
        return pl.Series(name, [None if value is None else json.dumps(value) for value in values], dtype=pl.String)

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(self._series)

    def finished(self, labels: LabelSet) -> Header:
        self.header.rest.update(labels.header)
        self.header.images.extend(image.fields["id"] for image in labels.images if "id" in image.fields)
        return self.header


def _add_boxes(columns: _Columns, boxes: Sequence[tuple[float, ...] | None]) -> None:
    """The columns of V1: corners of those that are rotated, x, y, width and height of the others."""
    for names in (BBOX_COLUMNS, ROTATED_BBOX_COLUMNS):
        for place, name in enumerate(names):
            columns.add(name, [None if box is None or len(box) != len(names) else box[place] for box in boxes])
