"""Which files runs wrote: they are no input of a later run, and a run may replace or remove its own.

A work_dir keeps a record of the pictures, crops and V1 files that were made from its results, wherever they were put.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastdup_dagster.storage import write_atomically

RECORD = ".fastdup_dagster_outputs.json"


class Outputs:
    """The record of a work_dir: files by what they belong to (a page, an export).

    Args:
        root: the work_dir.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / RECORD

    def files(self, owner: str | None = None) -> set[Path]:
        """The recorded files, absolute; of one owner, or of all."""
        record = self._read()
        names = [name for key in record for name in record[key] if owner in (None, key)]
        return {self._root / name for name in names}

    def replace(self, owner: str, files: Iterable[Path]) -> None:
        """Records the files of an owner, and removes those that it had before and that are nobody's now."""
        record = self._read()
        before = set(record.pop(owner, []))
        now = sorted({self._name(path) for path in files})
        if now:
            record[owner] = now
        kept = {name for names in record.values() for name in names}
        for name in before - kept:
            _remove(self._root / name)
        if record:
            write_atomically(self._path, json.dumps(record).encode("ascii"))
        else:
            self._path.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        absolute = path.absolute()
        return str(absolute.relative_to(self._root) if absolute.is_relative_to(self._root) else absolute)

    def _read(self) -> dict[str, list[str]]:
        try:
            record = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def _remove(path: Path) -> None:
    """Removes a file, and its folder if nothing else is in it."""
    try:
        path.unlink(missing_ok=True)
        path.parent.rmdir()
    except OSError:  # the folder holds other files
        return


class OwnFiles:
    """Tells what runs wrote from a user's files: what any record in a folder above a file names.

    Args:
        work_dir: its record counts wherever the file is.
    """

    def __init__(self, work_dir: Path) -> None:
        self._recorded: dict[bytes, frozenset[bytes]] = {}
        self._above: dict[bytes, tuple[bytes, list[frozenset[bytes]]]] = {}
        self._always = self._record(os.path.realpath(os.fsencode(work_dir)))

    def __contains__(self, path: bytes) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._above:
            real = os.path.realpath(folder)
            records = [self._always, *(self._record(above) for above in _folders(real))]
            self._above[folder] = real, [record for record in records if record]
        real, records = self._above[folder]
        return any(real + b"/" + name in record for record in records)

    def _record(self, folder: bytes) -> frozenset[bytes]:
        if folder not in self._recorded:
            root = Path(os.fsdecode(folder))
            files = (os.path.split(os.fsencode(path)) for path in Outputs(root).files())
            self._recorded[folder] = frozenset(os.path.realpath(above) + b"/" + name for above, name in files)
        return self._recorded[folder]


def _folders(folder: bytes) -> Iterator[bytes]:
    """A folder and those above it."""
    while True:
        yield folder
        above = os.path.dirname(folder)  # noqa: PTH120 bytes, not a Path
        if above == folder:
            return
        folder = above
