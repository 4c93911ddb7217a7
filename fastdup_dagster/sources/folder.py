"""A folder, listed recursively: hidden files included, links followed, loops survived.

It gives its images; where there are none, or on demand, what its archives and videos hold.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.containers import Contents, entry_at
from fastdup_dagster.sources.paths import (
    IMAGE_EXTENSIONS,
    as_bytes,
    container_kind,
    display_name,
    extension,
    to_uri,
)

_Folder = tuple[int, int]  # device, inode
_Found = tuple[bytes, bytes, int | None, int | None]  # relative path, absolute path, size, mtime in ns
_LATEST = 2**63 - 1


def stat_entry(filename: str, path: bytes) -> Entry:
    """The entry of one named file, with the errors that a listing can see."""
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes, not a Path
    except OSError as error:
        return Entry(filename, to_uri(path), error_code="MISSING_FILE", error=f"no such file ({error.strerror})")
    except ValueError as error:  # a name that no file can have, such as one with a NUL
        return Entry(filename, to_uri(path), error_code="MISSING_FILE", error=f"no such file ({error})")
    return _entry(filename, path, status.st_size, status.st_mtime_ns)


def named_entry(filename: str, path: bytes) -> Entry:
    """Like `stat_entry`, for a path that may also be that of a member of an archive, or of a frame of a video."""
    entry = stat_entry(filename, path)
    if entry.error_code == "MISSING_FILE" and (part := entry_at(path)) is not None:
        return replace(part, filename=filename)
    return entry


def _entry(filename: str, path: bytes, size: int | None, mtime_ns: int | None) -> Entry:
    if size is None:
        return Entry(filename, to_uri(path), error_code="MISSING_FILE", error="a link that leads nowhere")
    if mtime_ns is not None:  # a file system can hold dates past the year 2262, a timestamp column cannot
        mtime_ns = min(mtime_ns, _LATEST)
    if size == 0:
        return Entry(filename, to_uri(path), 0, mtime_ns, "ZERO_SIZE_FILE", "the file is empty")
    return Entry(filename, to_uri(path), size, mtime_ns)


def left_out_notes(left_out: Mapping[str, int], not_mixed: Mapping[str, int]) -> list[str]:
    """What a listing left out because of its names, and because it takes files of one kind; numbers by extension."""
    notes = []
    if not_mixed:
        counts = ", ".join(f"{n} .{e}" for e, n in sorted(not_mixed.items()))
        notes.append(f"left out, because images and archives or videos are not mixed: {counts}")
    if left_out:
        counts = ", ".join(f"{n} {'.' + e if e else 'without extension'}" for e, n in sorted(left_out.items()))
        notes.append(f"not images by their names, left out: {counts}")
    return notes


class FolderSource:
    """All images below a folder, sorted bytewise by relative path; without any, those in its archives and videos.

    Args:
        root: the folder.
        settings: `tar_only` takes archives and videos alone; which frames of videos are taken. The defaults if None.
        extensions: what is looked for, lower case without the dot.
    """

    def __init__(
        self, root: Path, settings: Settings | None = None, extensions: frozenset[str] = IMAGE_EXTENSIONS
    ) -> None:
        self._root = as_bytes(root)
        self._extensions = extensions
        self._settings = settings or Settings()
        self._contents = Contents(self._settings)
        self._left_out: Counter[str] = Counter()
        self._not_mixed: Counter[str] = Counter()
        self._unreadable: list[str] = []
        self._same_links = 0
        self.name = str(root)

    @property
    def notes(self) -> list[str]:
        """What was left out, by extension, and folders that could not be listed."""
        notes = [f"folder not listed: {text}" for text in sorted(self._unreadable)]
        if self._same_links:
            notes.append(f"left out, because they lead to folders that another link led to: {self._same_links} links")
        return notes + left_out_notes(self._left_out, self._not_mixed) + self._contents.notes

    def entries(self) -> Iterator[Entry]:
        """The files, or what is in the archives and videos, in bytewise order of their relative paths."""
        self._contents = Contents(self._settings)
        images, containers = self._found()
        if images and not self._settings.tar_only:
            for relative, path, size, mtime_ns in images:
                yield _entry(display_name(relative), path, size, mtime_ns)
            return
        for relative, path, size, mtime_ns in containers:
            yield from self._contents.entries(_entry(display_name(relative), path, size, mtime_ns))

    def files(self) -> Iterator[str]:
        """The paths of the files that `entries` would read from, relative, no archive or video opened."""
        images, containers = self._found()
        for found in containers if self._settings.tar_only or not images else images:
            yield display_name(found[0])

    def _found(self) -> tuple[list[_Found], list[_Found]]:
        """Images, and archives and videos; each in the order in which what they hold has its place."""
        self._left_out.clear()
        self._not_mixed.clear()
        self._unreadable.clear()
        self._same_links = 0
        images: list[_Found] = []
        containers: list[_Found] = []
        for found in self._walk():
            (images if extension(found[0]) in self._extensions else containers).append(found)
        other = images if self._settings.tar_only else containers if images else []
        self._not_mixed.update(extension(found[0]) for found in other)
        # What is inside of a.tar comes after what is inside of a.tar.gz: `/` is past `.`
        return sorted(images), sorted(containers, key=lambda found: found[0] + b"/")

    def _walk(self) -> Iterator[_Found]:
        """The files in no order. The stack is our own: folders can be nested deeper than Python recurses.

        Folders are entered in bytewise order, and each once through a link, whatever the number of links to it:
        folders that link to one another would else be listed along every path between them.
        """
        waiting: list[tuple[bytes, bytes, tuple[_Folder, ...], bool]] = [(self._root, b"", (), False)]
        linked: set[_Folder] = set()
        while waiting:
            folder, prefix, above, is_link = waiting.pop()
            try:
                status = os.stat(folder)  # noqa: PTH116
                here = (status.st_dev, status.st_ino)
                if here in above:  # a link back to a folder that we are in: a loop
                    continue
                if is_link and here in linked:
                    self._same_links += 1
                    continue
                linked |= {here} if is_link else set()
                with os.scandir(folder) as listing:
                    found = sorted(listing, key=lambda item: item.name, reverse=True)
            except OSError as error:
                self._unreadable.append(f"{display_name(prefix.rstrip(b'/') or folder)} ({error.strerror})")
                continue
            for item in found:
                if _is_folder(item):
                    waiting.append((item.path, prefix + item.name + b"/", (*above, here), item.is_symlink()))
                elif (kind := extension(item.name)) in self._extensions or container_kind(item.name):
                    yield _found(item, prefix)
                else:
                    self._left_out[kind] += 1


def _found(item: os.DirEntry[bytes], prefix: bytes) -> _Found:
    try:
        status = item.stat()
    except OSError:
        return prefix + item.name, item.path, None, None
    return prefix + item.name, item.path, status.st_size, status.st_mtime_ns


def _is_folder(item: os.DirEntry[bytes]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that points at itself
        return False
