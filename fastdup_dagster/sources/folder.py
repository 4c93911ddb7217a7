"""A folder, listed recursively: hidden files included, links followed, loops survived."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.paths import (
    ARCHIVE_SUFFIXES,
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    as_bytes,
    display_name,
    extension,
    to_uri,
)

_Found = tuple[bytes, bytes, int | None, int | None]  # relative path, absolute path, size, mtime in ns


def stat_entry(filename: str, path: bytes) -> Entry:
    """The entry of one named file, with the errors that a listing can see."""
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes, not a Path
    except OSError as error:
        return Entry(filename, to_uri(path), error_code="MISSING_FILE", error=f"no such file ({error.strerror})")
    return _entry(filename, path, status.st_size, status.st_mtime_ns)


def _entry(filename: str, path: bytes, size: int | None, mtime_ns: int | None) -> Entry:
    if size is None:
        return Entry(filename, to_uri(path), error_code="MISSING_FILE", error="a link that leads nowhere")
    if size == 0:
        return Entry(filename, to_uri(path), 0, mtime_ns, "ZERO_SIZE_FILE", "the file is empty")
    return Entry(filename, to_uri(path), size, mtime_ns)


class FolderSource:
    """All images below a folder, sorted bytewise by relative path.

    Args:
        root: the folder.
        extensions: extensions to take, without the dot.
    """

    def __init__(self, root: Path, extensions: frozenset[str] = IMAGE_EXTENSIONS) -> None:
        self._root = as_bytes(root)
        self._extensions = extensions
        self._left_out: Counter[str] = Counter()
        self._unreadable: list[str] = []
        self.name = str(root)

    @property
    def notes(self) -> list[str]:
        """What was left out, by extension, and folders that could not be listed."""
        notes = [f"folder not listed: {text}" for text in self._unreadable]
        compressed = [e for e in self._left_out if e in VIDEO_EXTENSIONS or f".{e}" in ARCHIVE_SUFFIXES or e == "gz"]
        if compressed:
            counts = ", ".join(f"{self._left_out[e]} .{e}" for e in sorted(compressed))
            notes.append(f"left out, because images and archives or videos are not mixed: {counts}")
        others = {e: n for e, n in self._left_out.items() if e not in compressed}
        if others:
            counts = ", ".join(f"{n} {'.' + e if e else 'without extension'}" for e, n in sorted(others.items()))
            notes.append(f"not images by their names, left out: {counts}")
        return notes

    def entries(self) -> Iterator[Entry]:
        """The files in bytewise order of their relative paths."""
        self._left_out.clear()
        self._unreadable.clear()
        for relative, path, size, mtime_ns in sorted(self._walk(self._root, b"", ())):
            yield _entry(display_name(relative), path, size, mtime_ns)

    def _walk(self, folder: bytes, prefix: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[_Found]:
        try:
            status = os.stat(folder)  # noqa: PTH116
            here = (status.st_dev, status.st_ino)
            if here in above:  # a link back to a folder that we are in: a loop
                return
            with os.scandir(folder) as listing:
                found = list(listing)
        except OSError as error:
            self._unreadable.append(f"{display_name(prefix.rstrip(b'/') or folder)} ({error.strerror})")
            return
        for item in found:
            if _is_folder(item):
                yield from self._walk(item.path, prefix + item.name + b"/", (*above, here))
                continue
            kind = extension(item.name)
            if kind not in self._extensions:
                self._left_out[kind] += 1
                continue
            try:
                status = item.stat()
                yield prefix + item.name, item.path, status.st_size, status.st_mtime_ns
            except OSError:
                yield prefix + item.name, item.path, None, None


def _is_folder(item: os.DirEntry[bytes]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that points at itself
        return False
