"""`fastdup-dagster export`: the annotations of a data set that was run, cleaned, as COCO or YOLO."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from fastdup_dagster.annotations import read_annotations
from fastdup_dagster.cleaning import REASONS, dropped
from fastdup_dagster.datasets import DatasetEntry, load_dataset, partition_key
from fastdup_dagster.label_files import Finished, WrittenImage, write_coco, written_images
from fastdup_dagster.label_tables import Header
from fastdup_dagster.results import MISSING_ANNOTATION, Results
from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.sources.locations import is_remote, joined
from fastdup_dagster.sources.parts import part_of
from fastdup_dagster.sources.paths import local_path
from fastdup_dagster.stages.dataset_report import find_leaks, read_split
from fastdup_dagster.stages.summary import SplitTables, invalid_instances
from fastdup_dagster.storage import open_store, write_atomically
from fastdup_dagster.work_dir import WorkDir
from fastdup_dagster.yolo_files import write_yolo


@dataclass(frozen=True)
class Published:
    """One split as it is written back; see `label_files.Finished`."""

    manifest: pl.DataFrame
    stored_annotations: pl.DataFrame
    invalid: pl.DataFrame


@dataclass(frozen=True)
class Material:
    """What there is to export.

    Attributes:
        tables: of each split, in order.
        finished: the same splits with their annotations.
        leakage: the table `split_leakage`, None where the splits were not compared.
        header: what belongs to the label set and to no row.
        root: folder that file names start at, where the annotations do not name the files.
    """

    tables: Mapping[str, SplitTables]
    finished: Mapping[str, Finished]
    leakage: pl.DataFrame | None
    header: Header
    root: Path | None = None


@dataclass(frozen=True)
class Exported:
    """What is left out of an export, and how much is in it.

    Attributes:
        dropped: see `cleaning.dropped`.
        counts: per split: instances, those kept, and those with each reason.
        images: what is written.
    """

    dropped: pl.DataFrame
    counts: dict[str, dict[str, int]]
    images: list[WrittenImage]


def of_dataset(name: str, splits: Sequence[str]) -> Material:
    """The published tables of a data set.

    Raises:
        DatasetsError: for an unknown data set or split.
        FileNotFoundError: if a split was never run, naming its table.
        MixedTablesError: if a split is being run meanwhile.
    """
    entry = load_dataset(name)
    for split in splits:
        entry.place(split)
    store = open_store(entry.store_root())
    chosen = [split for split in entry.splits if not splits or split in splits]
    tables = {split: read_split(store, partition_key(name, split)) for split in chosen}
    leaks = find_leaks(store, name, chosen)
    file = entry.annotations_file()
    header = read_annotations(file).header if file else None
    root = joined(entry.root, ".")
    return Material(
        tables,
        {split: _finished(found, entry) for split, found in tables.items()},
        leaks.table if not leaks.why else None,
        Header(**header) if header else Header(),
        root if isinstance(root, Path) else None,
    )


def of_work_dir(folder: Path) -> Material:
    """The tables of a run of the Python API.

    Raises:
        FileNotFoundError: if there is no finished run.
    """
    work_dir = WorkDir(folder)
    results = Results(work_dir)
    return Material({"": results.tables}, {"": results}, None, Header(**work_dir.read_header()))


def _finished(tables: SplitTables, entry: DatasetEntry) -> Published:
    manifest = tables.manifest
    named = pl.lit(True) if entry.annotations is None else pl.col("error_code").ne_missing(MISSING_ANNOTATION)
    own = [name for name in IMAGE_MANIFEST.names if name != "index"]
    said = manifest.with_columns(named.alias("is_annotated")).drop(own)
    return Published(manifest, said, invalid_instances(tables))


def plan(material: Material, reasons: Collection[str]) -> Exported:
    """Decides what is left out; nothing is written.

    Raises:
        ValueError: for an unknown reason, or one whose table is missing.
    """
    gone = dropped(material.tables, reasons, material.leakage)
    counts, images, rows = {}, [], 0
    for split, finished in material.finished.items():
        lost = gone.filter(pl.col("split") == split)
        kept = finished.manifest.filter(~pl.col("index").is_in(lost["index"].unique().implode()))
        tallies = dict(lost.group_by("reason").len().iter_rows())
        counts[split] = {
            "instances": finished.manifest.height,
            "kept": kept.height,
            **{reason: tallies.get(reason, 0) for reason in REASONS if reason in reasons},
        }
        for image in written_images(finished, material.header, kept):
            _name(image, material.root)
            for box in image.boxes:
                box.order += rows
            images.append(image)
        rows += finished.manifest.height
    return Exported(gone, counts, images)


def _name(image: WrittenImage, root: Path | None) -> None:
    """Lets a name that the annotations do not give start at the data set's root: splits have names in common."""
    if root is None or "file_name" in image.fields or is_remote(image.uri) or part_of(image.uri) is not None:
        return
    path = os.fsdecode(local_path(image.uri))
    if Path(path).is_relative_to(root):
        image.filename = Path(path).relative_to(root).as_posix()


def write(
    found: Exported,
    material: Material,
    kind: str,
    out: Path,
    listed: Path,
    overwrite: bool = False,
    copy_images: bool = False,
) -> Path:
    """Writes the annotations, and what was left out as csv.

    Returns:
        The JSON or YAML file.

    Raises:
        FileExistsError: if a file is there and not to be replaced, or a folder is not empty.
        ValueError: for images that no link or copy can be made of.
    """
    if not overwrite and (there := [path for path in (out, listed) if path.is_file()]):
        raise FileExistsError(f"{there[0]} is there already: give another path, or --overwrite")
    if kind == "coco":
        out.parent.mkdir(parents=True, exist_ok=True)
        several = len(material.finished) > 1
        for image in found.images:
            if several and image.split is not None:
                image.fields.setdefault("split", image.split)
        write_coco(out, found.images, material.header)
        made = out
    else:
        made = write_yolo(out, found.images, material.header, copy_images=copy_images)
    listed.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(listed, found.dropped.write_csv().encode("utf-8"))
    return made


def say(console: Console, found: Exported) -> None:
    """Prints the counts of each split; an instance that has several reasons counts for each."""
    table = Table(title="Instances", title_justify="left")
    table.add_column("")
    for split in found.counts:
        table.add_column(split, justify="right")
    for name in next(iter(found.counts.values()), {}):
        label = name if name in ("instances", "kept") else f"dropped: {name}"
        table.add_row(label, *(f"{counts[name]:,}" for counts in found.counts.values()))
    console.print(table)


def as_json(found: Exported, made: Path | None, listed: Path | None) -> dict[str, Any]:
    """The same for programs, with the paths of what was written."""
    return {
        "splits": found.counts,
        "images": len(found.images),
        "boxes": sum(len(image.boxes) for image in found.images),
        "written": None if made is None else str(made),
        "dropped": None if listed is None else str(listed),
    }
