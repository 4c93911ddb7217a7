"""Lists of paths: a text or csv file with one a row, or a Python list of files and folders, local and remote mixed."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.containers import Contents
from fastdup_dagster.sources.folder import FolderSource, named_entry
from fastdup_dagster.sources.locations import is_remote, joined, location, location_of
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.paths import (
    IMAGE_EXTENSIONS,
    as_bytes,
    container_kind,
    display_name,
    extension,
    local_path,
)
from fastdup_dagster.sources.s3 import S3Source, holds_anything, remote_entries

_HEADERS = frozenset({"filename", "img_filename", "file", "path", "filepath", "image", "image_path", "img_path", "uri"})
_SCHEME = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")


class ListSource:
    """Named files in the order given, whatever their extension; a folder, archive or video stands for what is in it.

    Args:
        paths: files and folders; a relative one is taken from `base`. One in an object store is a folder if it ends
            with a slash, or if there is no such object, but some below it.
        base: folder, or prefix in an object store, that relative paths start at.
        name: what a person calls this input.
        settings: which frames of videos are taken; the defaults if None.
    """

    def __init__(self, paths: Sequence[str], base: str | Path, name: str, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._contents = Contents(self._settings)
        self._paths = paths
        self._base = base
        self.name = name
        self._repeated = 0
        self._notes: list[str] = []

    @property
    def notes(self) -> list[str]:
        """How many rows were repeated, and what the folders left out."""
        repeated = [f"{self._repeated} rows repeat a path above them and were left out"] if self._repeated else []
        return repeated + self._contents.notes + self._notes

    def entries(self) -> Iterator[Entry]:
        """The files in the order of the list, each once.

        Raises:
            NotImplementedError: for another scheme, naming the row.
            RemoteError: if an object store cannot be asked.
        """
        self._repeated = 0
        self._contents = Contents(self._settings)
        self._notes.clear()
        seen: set[str] = set()
        for entry in self._expanded():
            if entry.uri in seen:
                self._repeated += 1
                continue
            seen.add(entry.uri)
            yield entry

    def _expanded(self) -> Iterator[Entry]:
        """Rows that name objects are asked for together, as far as they stand one after another."""
        for remote, rows in itertools.groupby(self._paths, key=self._is_remote):
            if remote:
                yield from self._objects(rows)
            else:
                for given in rows:
                    yield from self._expand(given)

    def _is_remote(self, given: str) -> bool:
        """Whether a row is in an object store. What it looks like counts only if there is no file of just that name."""
        if is_remote(self._base):
            return not given.startswith("file:///")
        return is_remote(given) and not os.path.lexists(as_bytes(self._base / Path(given)))

    def _objects(self, rows: Iterable[str]) -> Iterator[Entry]:
        places = ((given, location(str(joined(self._base, given)))) for given in rows)
        for folder, group in itertools.groupby(places, key=lambda row: row[1].key == row[1].folder.key):
            if folder:
                for given, place in group:
                    yield from self._below(display_name(os.fsencode(given)), S3Source(place.text, self._settings))
                continue
            named = ((display_name(os.fsencode(given)), place.text) for given, place in group)
            for entry in remote_entries(named):
                place = location_of(entry.uri)
                name = os.fsencode(place.key)
                lost = entry.error_code == "MISSING_FILE" and not extension(name)
                if lost and holds_anything(place.text):
                    yield from self._below(entry.filename, S3Source(place.text, self._settings))
                elif container_kind(name):
                    yield from self._contents.entries(entry)
                else:
                    yield entry

    def _expand(self, given: str) -> Iterator[Entry]:
        path = self._located(given)
        if os.path.isdir(path):  # noqa: PTH112 - bytes, not a Path
            folder = FolderSource(Path(os.fsdecode(path)), self._settings)
            yield from self._below(display_name(os.fsencode(given)), folder)
            return
            return
        entry = named_entry(display_name(os.fsencode(given)), path)
        if container_kind(path):
            yield from self._contents.entries(entry)
        else:
            yield entry

    def _below(self, name: str, folder: FolderSource | S3Source) -> Iterator[Entry]:
        prefix = name.rstrip("/")
        for entry in folder.entries():
            yield replace(entry, filename=f"{prefix}/{entry.filename}")
        self._notes += folder.notes

    def _located(self, given: str) -> bytes:
        """The path of a row that is in no object store."""
        if given.startswith("file:///"):
            return local_path(given)
        path = as_bytes(self._base / Path(given))
        if os.path.lexists(path):
            return path
        if _SCHEME.match(given):
            scheme = given.partition(":")[0]
            raise NotImplementedError(f"{self.name}: {given!r}: reading from {scheme}:// is not supported yet")
        if given.startswith("~"):
            return as_bytes(os.path.expanduser(given))  # noqa: PTH111 - Path.expanduser raises for an unknown user
        return path


def read_list_file(path: str | Path) -> list[str]:
    """The paths that a text or csv file names, one a row, with or without a header; the file may be remote.

    A `.csv` is read as csv: its path column is the one with a known header, else the first. A row that names
    a file as a whole, commas included, is taken as a whole. Empty rows are skipped.

    Raises:
        ValueError: if the file names no path, or is not text.
    """
    kind = extension(os.fsencode(path))
    if kind in IMAGE_EXTENSIONS:
        raise ValueError(f"{path} is an image, not a text file that lists some; give the folder that it is in")
    if kind == "json":
        raise ValueError(f"{path} is no list of files: give COCO as annotations, and the folder of its images here")
    if isinstance(path, str):
        place = location(path)
        data = object_store(place.server).get(place)
    else:
        data = path.read_bytes()
    if b"\0" in data:
        raise ValueError(f"list file {path}: not a text file; expected one path a row")
    # str.splitlines would also cut at characters that names may hold.
    text = data.decode("utf-8", "surrogateescape").lstrip("\ufeff").replace("\r\n", "\n")
    rows = [line for line in text.split("\n") if line.strip()]
    if kind == "csv":
        try:
            rows = _csv_column(text, rows, None if isinstance(path, str) else path.resolve().parent)
        except csv.Error as error:
            raise ValueError(f"list file {path}: {error}") from error
    elif rows and rows[0].strip().lower() in _HEADERS:
        rows = rows[1:]
    if not rows:
        raise ValueError(f"list file {path}: it names no path; write one a row")
    return rows


def _csv_column(text: str, lines: list[str], base: Path | None) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""))
    records = [record for record in reader if len(record) > 1 or (record and record[0].strip())]
    header = [cell.strip().lower() for cell in records[0]] if records else []
    column = next((i for i, cell in enumerate(header) if cell in _HEADERS), None)
    if column is not None:
        return [record[column] for record in records[1:] if len(record) > column and record[column]]
    one_a_line = len(records) == len(lines)
    return [
        # Path.exists raises on a row that is too long to be a name.
        line if base and one_a_line and len(record) > 1 and os.path.exists(base / line) else record[0]  # noqa: PTH110
        for record, line in zip(records, lines if one_a_line else [""] * len(records), strict=True)
        if record[0]
    ]
