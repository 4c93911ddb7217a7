"""`fastdup-dagster datasets`: what is registered, one more entry, and whether the entries hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastdup_dagster.annotations import read_annotations
from fastdup_dagster.datasets import (
    DatasetEntry,
    DatasetsError,
    check_name,
    dataset_names,
    datasets_path,
    load_dataset,
    register,
)
from fastdup_dagster.settings import readable
from fastdup_dagster.sources.locations import joined
from fastdup_dagster.sources.splits import find_splits
from fastdup_dagster.stages.pages import visible
from fastdup_dagster.stages.split_listing import list_split, split_values


@dataclass(frozen=True)
class Checked:
    """One split of an entry, or an entry as a whole that is wrong.

    Attributes:
        name: of the data set.
        split: None if the entry as a whole is wrong.
        images: that are listed; None if they cannot be.
        invalid: of them, by the listing alone.
        problem: what is wrong, None if nothing is.
        notes: what the listing leaves out.
    """

    name: str
    split: str | None
    images: int | None = None
    invalid: int | None = None
    problem: str | None = None
    notes: Sequence[str] = ()


def add(
    name: str,
    root: str,
    splits: Mapping[str, str],
    annotations: str | None,
    split_column: str | None,
    settings: Mapping[str, Any],
    store: str | None,
    replace: bool,
) -> DatasetEntry:
    """Registers a data set; splits that are not given are found in its folder or in the column.

    Raises:
        DatasetsError: if the name is taken or cannot be one, or nothing is there, saying what to do.
        OSError: if the annotations are not there.
        ValueError: if they cannot be understood, or have no such column.
    """
    check_name("data set", name)
    if name in dataset_names() and not replace:
        raise DatasetsError(f"data set {name!r} is in {datasets_path()} already; --replace to let it be {root}")
    place = root if "://" in root else str(Path(root).expanduser().absolute())  # the entry refuses what is not read
    if "://" not in root and not Path(place).is_dir():
        raise DatasetsError(f"{place} is no folder")
    made = {"root": place, "splits": splits or {"all": "."}, "annotations": annotations, "split_column": split_column}
    try:
        entry = DatasetEntry(**made, settings=dict(settings), store=store)
    except ValidationError as error:
        raise DatasetsError(readable(error)) from error
    entry = entry if splits else entry.model_copy(update={"splits": _found_splits(entry)})
    register(name, entry)
    return entry


def _found_splits(entry: DatasetEntry) -> dict[str, str]:
    """The splits of a data set for which none were given."""
    file = entry.annotations_file()
    if entry.split_column and file:
        values = split_values(read_annotations(file), entry.split_column).drop_nulls().unique(maintain_order=True)
        return {check_name("split", value): value for value in values}
    return find_splits(joined(entry.root, "."))


def check(names: Sequence[str]) -> list[Checked]:
    """Lists every split of these data sets, or of all, and says what is wrong.

    Raises:
        DatasetsError: if the file as a whole cannot be read.
    """
    found: list[Checked] = []
    for name in names or dataset_names():
        try:
            entry = load_dataset(name)
        except DatasetsError as error:
            found.append(Checked(name, None, problem=str(error)))
            continue
        found += [_checked(name, entry, split) for split in entry.splits]
        problem = _unnamed_values(entry)
        found += [Checked(name, None, problem=problem)] if problem else []
    return found


def _checked(name: str, entry: DatasetEntry, split: str) -> Checked:
    try:
        listing = list_split(entry, split, entry.typed_settings())
    except (NotImplementedError, OSError, ValueError) as error:
        return Checked(name, split, problem=str(error))
    images = listing.frame.filter(listing.frame["media"] != "crop").height or listing.frame["parent"].n_unique()
    return Checked(name, split, images, listing.frame["error_code"].count(), notes=listing.notes)


def _unnamed_values(entry: DatasetEntry) -> str | None:
    """The rows of the annotations that are in no split."""
    file = entry.annotations_file()
    if not entry.split_column or not file:
        return None
    try:
        values = split_values(read_annotations(file), entry.split_column)
    except (NotImplementedError, OSError, ValueError):  # told for each split
        return None
    counts = values.filter(~values.is_in(list(entry.splits.values())).fill_null(False)).value_counts(sort=True)
    if counts.is_empty():
        return None
    told = ", ".join(
        f"{'no value' if value is None else value} ({count:,} rows)" for value, count in counts.iter_rows()
    )
    return f"{entry.split_column}: in none of the splits: {told}"


def say_datasets(console: Console, entries: Mapping[str, DatasetEntry | str]) -> None:
    """Prints the entries; one that is wrong is its error."""
    table = Table(title=str(datasets_path()), title_justify="left")
    for column in ("data set", "root", "splits", "annotations", "settings", "store"):
        table.add_column(column, overflow="fold")
    for name, entry in entries.items():
        if isinstance(entry, str):
            table.add_row(name, f"[red]{escape(visible(entry))}[/red]")
            continue
        column = f" by {entry.split_column}" if entry.split_column else ""
        cells = (
            entry.root,
            ", ".join(entry.splits) + column,
            entry.annotations or "",
            ", ".join(f"{key}={value}" for key, value in entry.settings.items()),
            str(entry.store_root()),
        )
        table.add_row(name, *(escape(visible(cell)) for cell in cells))
    console.print(table)


def entries_or_errors() -> dict[str, DatasetEntry | str]:
    """Every entry of the file, or what is wrong with it.

    Raises:
        DatasetsError: if the file as a whole cannot be read.
    """
    found: dict[str, DatasetEntry | str] = {}
    for name in dataset_names():
        try:
            found[name] = load_dataset(name)
        except DatasetsError as error:
            found[name] = str(error)
    return found


def say_checked(console: Console, checked: Sequence[Checked]) -> None:
    """Prints what each split lists, and what is wrong."""
    table = Table(title=str(datasets_path()), title_justify="left")
    for column, justify in (("data set", "left"), ("split", "left"), ("images", "right"), ("invalid", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("", overflow="fold")
    for row in checked:
        counts = ("–" if count is None else f"{count:,}" for count in (row.images, row.invalid))
        said = escape(visible(row.problem or "; ".join(row.notes)))
        table.add_row(row.name, row.split or "", *counts, f"[red]{said}[/red]" if row.problem else f"[dim]{said}[/dim]")
    console.print(table)


def checked_as_json(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [asdict(row) for row in checked]
