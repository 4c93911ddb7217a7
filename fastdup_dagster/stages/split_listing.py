"""The listing of a split of a registered data set: by folder, by list file, or by a column of its annotations."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from fastdup_dagster.annotations import Annotations, read_annotations
from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import NothingFoundError, open_source
from fastdup_dagster.sources.locations import is_remote_file, joined, location, place_in
from fastdup_dagster.sources.parts import path_of
from fastdup_dagster.sources.path_list import ListSource
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.sources.s3 import S3Source
from fastdup_dagster.stages.image_manifest import FindBoxes, Listing, list_images
from fastdup_dagster.stages.instances import instances
from fastdup_dagster.stages.named_source import NamedSource


def list_split(entry: DatasetEntry, split: str, settings: Settings, find_boxes: FindBoxes | None = None) -> Listing:
    """Lists a split; with annotations, `label` is filled from them and their further columns come after its own.

    Files that the annotations name and that are not there are rows with an error, boxes are instances, and a column of
    the annotations that is called like one of the listing's is left out, which a note says.

    Raises:
        DatasetsError: if there is no such split.
        NothingFoundError: if there is nothing to list, saying where it looked.
        NotImplementedError: for an input, or annotations, that are not supported yet.
        OSError: if the annotations, or the input, are not there.
        ValueError: if the annotations cannot be understood.
    """
    file = entry.annotations_file()
    if file is None:
        return list_images(open_source(entry.source(split), settings), settings, split, find_boxes)
    annotations = read_annotations(file)
    found = _by_column if entry.split_column else _by_place
    source, rows = found(entry, split, annotations, settings)
    made = instances(source, settings, rows, None, find_boxes)
    own = [*IMAGE_MANIFEST.names, "is_annotated"]
    user = [name for name in made.annotations.columns if name not in own]
    hidden = [name for name in rows.columns.columns if name in own and name not in ("label", "split")]
    notes = [f"annotation columns called like the listing's own are left out: {', '.join(hidden)}"] if hidden else []
    frame = made.manifest.with_columns(pl.lit(split).alias("split"))
    joined = frame.join(made.annotations.select("index", *user), on="index", how="left", maintain_order="left")
    return Listing(IMAGE_MANIFEST.frame(joined, user), made.notes + made.warnings + notes)


def split_values(annotations: Annotations, column: str) -> pl.Series:
    """The values of the column that says which split a row is in, as text.

    Raises:
        ValueError: if there is no such column, naming those there are.
    """
    if column not in annotations.columns.columns:
        known = ", ".join(annotations.columns.columns) or "none but the file names"
        raise ValueError(f"split_column {column!r} is no column of the annotations; there are: {known}")
    return annotations.text(column)


def _by_column(
    entry: DatasetEntry, split: str, annotations: Annotations, settings: Settings
) -> tuple[NamedSource, Annotations]:
    """The files that have the split's value in the column, in the order of the annotations."""
    column, value = str(entry.split_column), entry.place(split)
    rows = annotations.take(_true(split_values(annotations, column) == value))
    name = f"{entry.annotations_file()}, {column}={value}"
    if not len(rows):
        raise NothingFoundError(f"no images found in {name}: no row has that value")
    base = joined(entry.root, ".")
    return NamedSource(
        ListSource(list(dict.fromkeys(rows.filenames)), base, name, settings), base, also=_also(rows)
    ), rows


def _by_place(
    entry: DatasetEntry, split: str, annotations: Annotations, settings: Settings
) -> tuple[NamedSource, Annotations]:
    """A folder with the rows that name a file in it, there or not; a list file with the rows of what it lists."""
    base, place = joined(entry.root, "."), joined(entry.root, entry.place(split))
    source = open_source(str(place), settings)
    if is_remote_file(place) if isinstance(place, str) else not place.is_dir():
        return NamedSource(source, base, also=_also(annotations)), annotations
    rows = annotations.take(_inside(place, base, annotations))
    return NamedSource(source, base, rows.filenames, [place], also=_also(rows)), rows


def _inside(place: str | Path, base: str | Path, annotations: Annotations) -> list[int]:
    """The rows that name a file in a folder: by a path below the root, or by one that is in the folder."""
    if isinstance(place, str):
        folder = os.fsencode(location(place).folder.text)
        inside = [place_in(base, name).startswith(folder) for name in annotations.filenames]
        there = {path_of(entry.uri) for entry in S3Source(place).entries()} if not all(inside) else set()
        named = [place_in(place, name) in there for name in annotations.filenames]
        return [row for row, known in enumerate(zip(inside, named, strict=True)) if any(known)]
    folder = as_bytes(place).rstrip(b"/") + b"/"
    inside = [
        place_in(base, name).startswith(folder) or os.path.exists(place / name)  # noqa: PTH110 any bytes
        for name in annotations.filenames
    ]
    return [row for row, is_inside in enumerate(inside) if is_inside]


def _also(annotations: Annotations) -> list[str | Path]:
    """The folder or prefix that the annotations' own names start at, if their format says one."""
    return [] if annotations.base is None else [annotations.base]


def _true(mask: pl.Series) -> list[int]:
    return mask.fill_null(False).arg_true().to_list()
