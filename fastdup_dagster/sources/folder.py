"""A folder, listed recursively: hidden files included, links followed, loops survived."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.paths import (
    IMAGE_EXTENSIONS,
    as_bytes,
    display_name,
    extension,
    is_video_or_archive,
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


def _entry(filename: str, path: bytes, size: int | None, mtime_ns: int | None) -> Entry:
    if size is None:
        return Entry(filename, to_uri(path), error_code="MISSING_FILE", error="a link that leads nowhere")
    if mtime_ns is not None:  # a file system can hold dates past the year 2262, a timestamp column cannot
        mtime_ns = min(mtime_ns, _LATEST)
    if size == 0:
        return Entry(filename, to_uri(path), 0, mtime_ns, "ZERO_SIZE_FILE", "the file is empty")
    return Entry(filename, to_uri(path), size, mtime_ns)


def left_out_notes(left_out: Mapping[str, int]) -> list[str]:
    """What a listing left out because of its names; numbers of files by extension."""
    notes = []
    compressed = [kind for kind in left_out if is_video_or_archive(kind)]
    if compressed:
        counts = ", ".join(f"{left_out[e]} .{e}" for e in sorted(compressed))
        notes.append(f"left out, because images and archives or videos are not mixed: {counts}")
    others = {e: n for e, n in left_out.items() if e not in compressed}
    if others:
        counts = ", ".join(f"{n} {'.' + e if e else 'without extension'}" for e, n in sorted(others.items()))
        notes.append(f"not images by their names, left out: {counts}")
    return notes


def refuse_without_images(name: str, left_out: Mapping[str, int]) -> None:
    """Refuses an input without an image of its own, if archives or videos in it may hold some.

    Raises:
        NotImplementedError: counting them.
    """
    compressed = sorted(kind for kind in left_out if is_video_or_archive(kind))
    if compressed:
        counts = ", ".join(f"{left_out[kind]} .{kind}" for kind in compressed)
        raise NotImplementedError(
            f"{name} holds no image, but {counts}: videos and archives are not supported yet; unpack them"
        )


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
        self._same_links = 0
        self.name = str(root)

    @property
    def notes(self) -> list[str]:
        """What was left out, by extension, and folders that could not be listed."""
        notes = [f"folder not listed: {text}" for text in sorted(self._unreadable)]
        if self._same_links:
            notes.append(f"left out, because they lead to folders that another link led to: {self._same_links} links")
        return notes + left_out_notes(self._left_out)

    def entries(self) -> Iterator[Entry]:
        """The files in bytewise order of their relative paths.

        Raises:
            NotImplementedError: if there is no image, but videos or archives, which may hold some.
        """
        self._left_out.clear()
        self._unreadable.clear()
        self._same_links = 0
        found = sorted(self._walk())
        for relative, path, size, mtime_ns in found:
            yield _entry(display_name(relative), path, size, mtime_ns)
        if not found:
            refuse_without_images(self.name, self._left_out)

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
                elif (kind := extension(item.name)) in self._extensions:
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
