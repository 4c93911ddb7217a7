"""Which files runs wrote: they are no input of a later run, and a run may replace or remove its own.

A work_dir keeps a record of the pictures, crops and V1 files in it; what is put elsewhere has a record beside it.
Another record names the pages that were made of its results, so that its report can list them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

from fastdup_dagster.storage import write_atomically

RECORD = ".fastdup_dagster_outputs.json"
PAGES = ".fastdup_dagster_pages.json"
_LOCK_SECONDS = 30


class Outputs:
    """The record of a folder: files by what they belong to (a page, an export).

    Args:
        root: a work_dir, or the folder of a page; absolute.
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
        """Records the files of an owner, and removes those that it had before and that are nobody's now.

        Raises:
            ValueError: for a file outside the folder.
        """
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
        return str(path.relative_to(self._root))

    def _read(self) -> dict[str, list[str]]:
        try:
            record = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(record, dict):
            return {}
        # a record says nothing about what is outside its folder, whoever wrote it
        return {
            owner: [name for name in names if _is_below(name)]
            for owner, names in record.items()
            if isinstance(names, list)
        }


def _is_below(name: object) -> bool:
    return isinstance(name, str) and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts


def record_page(page: Path, work_dir: Path, files: Iterable[Path]) -> None:
    """Records what was written beside a page, in its work_dir if the page is in there, else in the page's own folder.

    What the page had there before, and no page has now, is removed.
    """
    root = work_dir.absolute() if page.is_relative_to(work_dir.absolute()) else page.parent
    Outputs(root).replace(str(page.relative_to(root)), files)


@dataclass(frozen=True)
class MadePage:
    """A page of a run's results: where it is, and what is on it.

    Attributes:
        path: absolute, or relative to the work_dir where it lies in there.
        heading: of the page.
        shown: items on it.
        total: items that there are.
        is_report: whether it lists the other pages.
    """

    path: str
    heading: str
    shown: int
    total: int
    is_report: bool = False


class MadePages:
    """The record of the pages that were made of the results in a work_dir.

    Args:
        work_dir: where the results are.
    """

    def __init__(self, work_dir: Path) -> None:
        self._root = work_dir.absolute()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds apart what reads the record and what is listed by it, and writes them anew.

        Raises:
            TimeoutError: if another process has held it for half a minute.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / f"{PAGES}.lock"
        try:
            with FileLock(path, timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise TimeoutError(f"{path} is held by another process: wait until its gallery is made") from error

    def add(self, page: Path, heading: str, shown: int, total: int, is_report: bool = False) -> None:
        """Notes a page, instead of what was at its place before; under `lock` if others may do the same."""
        page = Path(os.path.abspath(page))  # noqa: PTH100 - without following links
        path = str(page.relative_to(self._root) if page.is_relative_to(self._root) else page)
        made = MadePage(path, heading, shown, total, is_report)
        others = [other for other in self._read() if other.path != path]
        self._write([*others, made])

    def found(self) -> list[tuple[Path, MadePage]]:
        """The pages that are still there, by heading and place; their paths are absolute."""
        placed = [(self._root / made.path, made) for made in self._read()]
        there = [(path, made) for path, made in placed if path.is_file()]
        return sorted(there, key=lambda pair: (pair[1].heading, pair[1].path))

    def forget(self) -> None:
        """Forgets all pages: the results that they show are about to be replaced."""
        (self._root / PAGES).unlink(missing_ok=True)

    def _read(self) -> list[MadePage]:
        try:
            return [MadePage(**made) for made in json.loads((self._root / PAGES).read_bytes())]
        except (OSError, ValueError, TypeError):
            return []

    def _write(self, pages: list[MadePage]) -> None:
        write_atomically(self._root / PAGES, json.dumps([asdict(made) for made in pages]).encode("ascii"))


def _remove(path: Path) -> None:
    """Removes a file, and its folder if nothing else is in it."""
    try:
        path.unlink(missing_ok=True)
        path.parent.rmdir()
    except OSError:  # the folder holds other files
        return


class OwnFiles:
    """Tells what runs wrote from a user's files: what any record in a folder above a file names."""

    def __init__(self) -> None:
        self._recorded: dict[bytes, frozenset[bytes]] = {}
        self._above: dict[bytes, tuple[bytes, list[frozenset[bytes]]]] = {}

    def __contains__(self, path: bytes) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._above:
            real = os.path.realpath(folder)
            self._above[folder] = real, list(filter(None, map(self._record, _folders(real))))
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
