"""Lists of paths: a text or csv file with one a row, or a Python list of files and folders."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.containers import Contents
from fastdup_dagster.sources.folder import FolderSource, named_entry
from fastdup_dagster.sources.paths import (
    IMAGE_EXTENSIONS,
    as_bytes,
    container_kind,
    display_name,
    extension,
    local_path,
)

_HEADERS = frozenset({"filename", "img_filename", "file", "path", "filepath", "image", "image_path", "img_path", "uri"})
_REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")


class ListSource:
    """Named files in the order given, whatever their extension; a folder, archive or video stands for what is in it.

    Args:
        paths: files and folders; a relative one is taken from `base`.
        base: folder that relative paths start at.
        name: what a person calls this input.
        settings: which frames of videos are taken; the defaults if None.
    """

    def __init__(self, paths: Sequence[str], base: Path, name: str, settings: Settings | None = None) -> None:
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
            NotImplementedError: for a remote location, naming the row.
        """
        self._repeated = 0
        self._contents = Contents(self._settings)
        self._notes.clear()
        seen: set[str] = set()
        for given in self._paths:
            for entry in self._expand(given):
                if entry.uri in seen:
                    self._repeated += 1
                    continue
                seen.add(entry.uri)
                yield entry

    def _expand(self, given: str) -> Iterator[Entry]:
        path = self._located(given)
        if not os.path.isdir(path):  # noqa: PTH112 - bytes, not a Path
            entry = named_entry(display_name(os.fsencode(given)), path)
            if container_kind(path):
                yield from self._contents.entries(entry)
            else:
                yield entry
            return
        folder = FolderSource(Path(os.fsdecode(path)), self._settings)
        prefix = display_name(os.fsencode(given).rstrip(b"/"))
        for entry in folder.entries():
            yield replace(entry, filename=f"{prefix}/{entry.filename}")
        self._notes += folder.notes

    def _located(self, given: str) -> bytes:
        """The path of a row. What a row looks like counts only if there is no file of just that name."""
        if given.startswith("file:///"):
            return local_path(given)
        path = as_bytes(self._base / given)
        if os.path.lexists(path):
            return path
        if _REMOTE.match(given):
            scheme = given.partition(":")[0]
            raise NotImplementedError(f"{self.name}: {given!r}: reading from {scheme}:// is not supported yet")
        if given.startswith("~"):
            return as_bytes(os.path.expanduser(given))  # noqa: PTH111 - Path.expanduser raises for an unknown user
        return path


def read_list_file(path: Path) -> list[str]:
    """The paths that a text or csv file names, one a row, with or without a header.

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
    data = path.read_bytes()
    if b"\0" in data:
        raise ValueError(f"list file {path}: not a text file; expected one path a row")
    # str.splitlines would also cut at characters that names may hold.
    text = data.decode("utf-8", "surrogateescape").lstrip("\ufeff").replace("\r\n", "\n")
    rows = [line for line in text.split("\n") if line.strip()]
    if path.suffix.lower() == ".csv":
        try:
            rows = _csv_column(text, rows, path.resolve().parent)
        except csv.Error as error:
            raise ValueError(f"list file {path}: {error}") from error
    elif rows and rows[0].strip().lower() in _HEADERS:
        rows = rows[1:]
    if not rows:
        raise ValueError(f"list file {path}: it names no path; write one a row")
    return rows


def _csv_column(text: str, lines: list[str], base: Path) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""))
    records = [record for record in reader if len(record) > 1 or (record and record[0].strip())]
    header = [cell.strip().lower() for cell in records[0]] if records else []
    column = next((i for i, cell in enumerate(header) if cell in _HEADERS), None)
    if column is not None:
        return [record[column] for record in records[1:] if len(record) > column and record[column]]
    one_a_line = len(records) == len(lines)
    return [
        # Path.exists raises on a row that is too long to be a name.
        line if one_a_line and len(record) > 1 and os.path.exists(base / line) else record[0]  # noqa: PTH110
        for record, line in zip(records, lines if one_a_line else [""] * len(records), strict=True)
        if record[0]
    ]
