"""A folder, or a prefix of a bucket, as whoever watches it sees it: sub-folders, markers, and its objects in pages.

Each object has a token that changes whenever it is written: two writes in one tick of a clock, or of equal bytes,
differ in it wherever the storage tells them apart at all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastdup_dagster.sources.locations import is_remote, location

if TYPE_CHECKING:
    from fastdup_dagster.sources.listing import Listed
    from fastdup_dagster.sources.locations import Location

PAGE = 1000

_Entries = Iterator["tuple[str, str] | _Entries"]


@dataclass(frozen=True)
class Marker:
    """A marker object: its token, and seconds since it was written, by the clock of its storage."""

    token: str
    age: float


@dataclass(frozen=True)
class Page:
    """Some objects in order.

    Attributes:
        objects: name relative to the folder, and token.
        after: where the next page begins; None after the last one.
    """

    objects: list[tuple[str, str]]
    after: str | None


class Tree(Protocol):
    """What can be watched."""

    def folders(self) -> list[str]:
        """Names of the direct sub-folders."""

    def marker(self, name: str) -> Marker | None:
        """The object of this name directly in the folder."""

    def page(self, after: str) -> Page:
        """The objects below the folder whose names come after this one, at most `PAGE`."""


def open_tree(place: str | Path) -> Tree:
    """The tree at a folder or at `s3://bucket/prefix`.

    Raises:
        RemoteError: if the object store cannot be used.
    """
    return BucketTree(location(str(place)).folder) if is_remote(str(place)) else FolderTree(Path(place))


class FolderTree:
    """A folder of this machine; links are followed, loops survived."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self) -> list[str]:
        """Names of the direct sub-folders."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.is_dir())

    def marker(self, name: str) -> Marker | None:
        """The file of this name in the folder."""
        try:
            status = (self._root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Marker(_file_token(status), time.time() - status.st_ctime)

    def page(self, after: str) -> Page:
        """The files below the folder, folder by folder, each in the order of its names."""
        objects: list[tuple[str, str]] = []
        for name, token in self._walk(after):
            if len(objects) == PAGE:
                return Page(objects, objects[-1][0])
            objects.append((name, token))
        return Page(objects, None)

    def _walk(self, after: str) -> Iterator[tuple[str, str]]:
        # The stack is our own: folders can be nested deeper than Python recurses.
        stack = [self._entries(str(self._root), "", after.split("/") if after else [], ())]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, tuple):
                yield found
            else:
                stack.append(found)

    def _entries(self, folder: str, prefix: str, after: list[str], above: tuple[tuple[int, int], ...]) -> _Entries:
        """Files of a folder, and for each of its sub-folders an iterator of the same kind."""
        try:
            here = os.stat(folder)  # noqa: PTH116 - names of any bytes, as text with surrogates
            names = sorted(os.listdir(folder))  # noqa: PTH208
        except OSError:  # it went away meanwhile; what it held is no longer listed
            return
        if (here.st_dev, here.st_ino) in above:
            return
        for name in names:
            if after and name < after[0]:
                continue
            rest = after[1:] if after and name == after[0] else []
            path = f"{folder}/{name}"
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:
                continue
            if os.path.isdir(path):  # noqa: PTH112
                yield self._entries(path, f"{prefix}{name}/", rest, (*above, (here.st_dev, here.st_ino)))
            elif not after or name != after[0]:
                yield f"{prefix}{name}", _file_token(status)


def _file_token(status: os.stat_result) -> str:
    # The time of change cannot be set by a user, unlike that of modification, which copying tools keep.
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


class BucketTree:
    """A prefix of a bucket."""

    def __init__(self, folder: Location) -> None:
        from fastdup_dagster.s3.objects import Objects  # here, because boto3 is slow to import and most roots are local

        self._folder = folder
        self._objects = Objects(folder.server)

    def folders(self) -> list[str]:
        """Names of the direct sub-folders."""
        found = []
        for page in self._objects.store.pages(self._folder, delimiter="/"):
            found += [prefix.removeprefix(self._folder.key).rstrip("/") for prefix in page.folders]
        return found

    def marker(self, name: str) -> Marker | None:
        """The object of this name in the folder."""
        from fastdup_dagster.s3.objects import below

        head = self._objects.head(below(self._folder, name))
        if head is None:
            return None
        date = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        token = f"{head['LastModified'].isoformat()}:{head['ETag']}:{head.get('VersionId', '')}"
        return Marker(token, (now - head["LastModified"]).total_seconds())

    def page(self, after: str) -> Page:
        """The objects below the prefix, in the order of their keys."""
        begin = self._folder.key + after if after else ""
        answer = self._objects.store.page(self._folder, most=PAGE, after=begin)
        while answer.following and not answer.objects:  # a page may be empty and have a next
            answer = self._objects.store.page(self._folder, most=PAGE, token=answer.following)
        objects = [(item.key.removeprefix(self._folder.key), _object_token(item)) for item in answer.objects]
        return Page(objects, objects[-1][0] if answer.following else None)


def _object_token(item: Listed) -> str:
    changed = item.changed.isoformat() if item.changed else ""
    return f"{item.size}:{changed}:{item.etag}"


def digest(text: str) -> str:
    """32 hex digits of a text; any file name can be part of it."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def digest_sum(before: str, objects: list[tuple[str, str]]) -> str:
    """The sum of the digests of objects, on top of one: neither their order nor where pages are cut matters."""
    total = int(before or "0", 16) + sum(int(digest(f"{name}\0{token}"), 16) for name, token in objects)
    return f"{total % 2**128:032x}"
