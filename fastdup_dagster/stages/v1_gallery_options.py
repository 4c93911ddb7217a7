"""The arguments of the V1 galleries: checked before any work starts, each error naming what was given."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fastdup_dagster.checks import finite, flag, whole
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.parts import path_of
from fastdup_dagster.stages.pictures import Picture

Lookup = Callable[[Picture], Any]
"""A caller's function of a file's name, as a function of its picture."""

LEGACY = ("descending", "get_label_func", "get_bounding_box_func", "get_reformat_filename_func")
"""What every gallery takes as further keyword arguments, as the functions before V1 did."""
RELATIONS = ("diff", "same")


@dataclass(frozen=True)
class GalleryOptions:
    """What all galleries have in common; see `fastdup_galleries` for what each means."""

    page: Path
    label_col: str | None = "label"
    draw_bbox: bool = True
    num_images: int = 20
    max_width: int | None = None
    lazy_load: bool = False
    slice: object = None
    ascending: bool = False
    threshold: float | None = None
    save_artifacts: bool = False
    show: bool = True
    get_extra_col_func: Lookup | None = None
    get_label_func: Lookup | None = None
    get_bounding_box_func: Lookup | None = None
    get_reformat_filename_func: Lookup | None = None


@dataclass(frozen=True)
class Slice:
    """Which rows a gallery takes: those with one of `labels`, or pairs whose two labels are related so."""

    labels: frozenset[str] | None = None
    relation: str | None = None


def gallery_options(page: Path, known: Iterable[str], more: Mapping[str, Any], **given: Any) -> GalleryOptions:
    """Checks the arguments of a gallery.

    Args:
        page: where the page goes (`page_path`).
        known: names of the gallery's own arguments, to suggest one for a name that is not known.
        more: its further keyword arguments.
        **given: its arguments, by the names of `GalleryOptions`.

    Raises:
        TypeError: for an unknown name, with the nearest known one, or a value of the wrong type.
        ValueError: for a value out of range.
    """
    names = [*known, *LEGACY]
    for name in more:
        if name not in LEGACY:
            near = difflib.get_close_matches(name, names, n=1)
            raise TypeError(f"unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    values = {**given, **more}
    descending = flag("descending", values.pop("descending", None), optional=True)
    if descending is not None:
        values["ascending"] = not descending
    for name in ("draw_bbox", "lazy_load", "ascending", "save_artifacts", "show"):
        if name in values:
            values[name] = flag(name, values[name])
    for name, least, optional in (("num_images", 1, False), ("max_width", 1, True)):
        if name in values:
            values[name] = whole(name, values[name], least, optional)
    if values.get("threshold") is not None:
        values["threshold"] = finite("threshold", values["threshold"])
    for name in ("get_extra_col_func", *LEGACY[1:]):
        if values.get(name) is not None:
            values[name] = lookup(name, values[name])
    if not isinstance(values.get("label_col"), str | None):
        raise TypeError(f"label_col={values['label_col']!r}: expected the name of a column, or None")
    return GalleryOptions(page, **values)


def similarity_score(name: str, value: float | None) -> float | None:
    """`value`, if it is a similarity.

    Raises:
        ValueError: outside -1 to 1: no pair could ever be on that side of it.
    """
    if value is not None and not -1 <= value <= 1:
        raise ValueError(f"{name}={value!r}: a similarity is between -1 and 1")
    return value


def lookup(name: str, value: object) -> Lookup:
    """A caller's function of a file as the accessors spell it, or a dictionary by that or by the relative name.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, Mapping):
        return lambda picture: value.get(file_of(picture), value.get(picture.name))
    if not callable(value):
        raise TypeError(f"{name}={value!r}: expected a function of an image's path, or a dictionary")
    return lambda picture: value(file_of(picture))


def file_of(picture: Picture) -> str:
    """An image's file as the accessors spell it, else its path as Python's functions take it, else its URI."""
    if picture.given is not None:
        return picture.given
    known = picture.uri.startswith("file:") or is_remote(picture.uri)
    return os.fsdecode(path_of(picture.uri)) if known else picture.uri


def page_path(save_path: object, default_folder: Path, name: str) -> Path:
    """The absolute path of a page: `save_path` if it ends in .html, else `<name>.html` in that folder.

    Raises:
        TypeError: if it is no path.
        ValueError: if it is a file that is no page.
    """
    if save_path is None:
        return (default_folder / f"{name}.html").absolute()
    if not isinstance(save_path, str | Path) or save_path == "":
        raise TypeError(f"save_path={save_path!r}: expected the path of an .html file or of a folder")
    path = Path(save_path).expanduser().absolute()
    if path.suffix.lower() in (".html", ".htm") and not path.is_dir():
        return path
    if path.exists() and not path.is_dir():
        raise ValueError(f"save_path={str(save_path)!r}: neither a folder nor the name of an .html file")
    return path / f"{name}.html"


def label_text(value: object) -> str | None:
    """A label as text; None for a missing one.

    A whole number is written without decimals: an integer column with a gap comes as floats.
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def parse_slice(value: object, labels: Iterable[str], label_col: str | None, related: bool) -> Slice:
    """What `slice` selects.

    Args:
        value: a label, a list of labels, None, or `diff` or `same`.
        labels: those that there are.
        label_col: their column.
        related: whether the gallery shows images together, so that `diff` and `same` have a meaning.

    Raises:
        TypeError: for a value that is no label.
        ValueError: for a label that does not occur, or without labels.
    """
    if value is None:
        return Slice()
    known = sorted(set(labels))
    if not known:
        raise ValueError(f"slice={value!r} needs labels: there are none in label_col={label_col!r}")
    if related and isinstance(value, str) and value in RELATIONS:
        return Slice(relation=value)
    if isinstance(value, Mapping) or callable(value):
        raise TypeError(f"slice={value!r}: expected a label, or a list of labels")
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    wanted = [label_text(item) for item in (value if several else [value])]  # type: ignore[attr-defined]
    for label in wanted:
        if label not in known:
            near = difflib.get_close_matches(str(label), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, known[:5]))}"
            raise ValueError(f"slice={value!r}: no image has the label {label!r} in column {label_col!r}; {hint}")
    if not wanted:
        raise ValueError(f"slice={value!r}: expected at least one label")
    return Slice(frozenset(str(label) for label in wanted))


def check_config(config: Mapping[str, Any] | None) -> bool:
    """Whether the `cv2_imread_flag` of a visualizer's default configuration asks for grey pictures.

    Raises:
        TypeError: for an unknown key, or what is no mapping.
        ValueError: for a value that is no such flag.
    """
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"default_config={config!r}: expected a dictionary")
    for name in config or {}:
        if name != "cv2_imread_flag":
            raise TypeError(f"default_config: unknown key {name!r}; did you mean 'cv2_imread_flag'?")
    value = (config or {}).get("cv2_imread_flag", 1)
    # cv2: grey is 0, REDUCED_GRAYSCALE_2, _4, _8 are 16, 32, 64; the others keep the colours
    if value not in (-1, 0, 1, 2, 4, 16, 17, 32, 33, 64, 65):
        raise ValueError(f"default_config: cv2_imread_flag={value!r} is none of cv2's IMREAD_ flags")
    return value in (0, 16, 32, 64)
