"""What COCO, YOLO and Pascal VOC have in common: images, and boxes on them with a label and further fields.

The readers of the three formats give a `LabelSet`; `fastdup_dagster.annotations` makes a table of it.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Box = tuple[float, ...]


@dataclass(slots=True)
class LabelledImage:
    """An image that a label file knows, with or without boxes.

    Attributes:
        filename: relative to the label set's base, or absolute.
        split: train, val, test, …
        fields: what else is said of it: `id`, `width`, `height`, …
    """

    filename: str
    split: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class LabelledBox:
    """A box.

    Attributes:
        image: position of its image among the images.
        label: name of its class.
        box: x, y, width, height, or four corners x1, y1 … x4, y4, in pixels; NaN where a number is missing.
        fields: what else is said of it: `id`, `segmentation`, `iscrowd`, …
        error: why it is no box; None for one that may be.
    """

    image: int
    label: str | None
    box: Box
    fields: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(slots=True)
class LabelSet:
    """A data set's labels.

    Attributes:
        name: what a person calls them: a path, as a rule.
        base: folder, or prefix in an object store, that relative file names start at, unless the caller says where the
            images are.
        images: in order.
        boxes: in order.
        header: what belongs to no image and to no box: `categories` (each `id` and `name`), and what else there is.
        notes: sentences for people: what is odd.
    """

    name: str
    base: str | Path
    images: list[LabelledImage]
    boxes: list[LabelledBox]
    header: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def number(value: Any) -> float:
    """A finite number as float.

    Raises:
        ValueError: for anything else.
    """
    try:
        read = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        read = math.nan
    if not math.isfinite(read):
        raise ValueError(f"{reprlib.repr(value)} is not a finite number")
    return read


def clean(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs, which JSON can spell, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def extent(points: list[float]) -> Box:
    """The upright box x, y, width, height around points x1, y1, x2, y2, …"""
    xs, ys = points[::2], points[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


NO_BOX: Box = (math.nan,) * 4
