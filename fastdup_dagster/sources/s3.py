"""Images below a prefix of a bucket, listed page by page, and single objects by name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any

from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.folder import left_out_notes, refuse_without_images
from fastdup_dagster.sources.locations import Location, joined, location
from fastdup_dagster.sources.object_store import CONNECTIONS, object_store
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, display_name, extension
from fastdup_dagster.sources.remote_errors import (
    EndpointError,
    NoCredentialsError,
    RemoteError,
    RemoteFileNotFoundError,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# So many names are asked for at a time: enough for all connections, and a list of millions is not held in futures.
_ASKED_AT_ONCE = 16 * CONNECTIONS


class S3Source:
    """All images below a prefix, in bytewise order of their keys, which is the order that S3 lists them in.

    Args:
        root: `s3://bucket/prefix` or `minio://server/bucket/prefix`; the prefix is a folder.
        extensions: extensions to take, without the dot.

    Raises:
        ValueError: if it is no such place.
    """

    def __init__(self, root: str, extensions: frozenset[str] = IMAGE_EXTENSIONS) -> None:
        self._root = location(root).folder
        self._extensions = extensions
        self._left_out: Counter[str] = Counter()
        self.name = self._root.text

    @property
    def notes(self) -> list[str]:
        """What was left out, by extension."""
        return left_out_notes(self._left_out)

    def entries(self) -> Iterator[Entry]:
        """The images; one page of the listing is held at a time.

        Raises:
            NotImplementedError: if there is no image, but videos or archives, which may hold some.
            RemoteError: if the prefix cannot be listed, saying where and what to do.
        """
        self._left_out.clear()
        found = False
        for page in object_store(self._root.server).pages(self._root):
            for item in page.get("Contents", ()):
                relative = item["Key"].removeprefix(self._root.key)
                if relative.endswith("/") or not relative:  # what some tools put where a folder is
                    continue
                name = _bytes(relative)
                if (kind := extension(name)) not in self._extensions:
                    self._left_out[kind] += 1
                    continue
                found = True
                yield _listed(display_name(name), Location(self._root.server, self._root.bucket, item["Key"]), item)
        if not found:
            refuse_without_images(self.name, self._left_out)


def remote_entries(named: Iterable[tuple[str, str]]) -> Iterator[Entry]:
    """The entries of single objects, in the order given; many are asked for at a time.

    Args:
        named: name to show, and `s3://bucket/key` or `minio://server/bucket/key`. One that is not there, or may not
            be read, becomes an entry with the reason.

    Raises:
        NoCredentialsError, EndpointError: where no object could be asked for at all.
        ValueError: for what is no such place.
    """
    waiting = iter(named)
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="head") as pool:
        while block := list(itertools.islice(waiting, _ASKED_AT_ONCE)):
            yield from pool.map(lambda pair: _asked(*pair), block)


def sub_folders(root: str) -> list[str]:
    """The names of the folders right below a prefix, sorted bytewise.

    Raises:
        RemoteError: if the prefix cannot be listed.
    """
    folder = location(root).folder
    pages = object_store(folder.server).pages(folder, delimiter="/")
    found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
    return [prefix.removeprefix(folder.key).rstrip("/") for prefix in found]


def holds_anything(root: str) -> bool:
    """Whether there is an object below a prefix: a listing of one; raises what listing raises."""
    folder = location(root).folder
    return bool(next(object_store(folder.server).pages(folder, most=1)).get("KeyCount", 0))


def images_outside(root: str, places: Collection[str]) -> int:
    """How many images lie below a prefix, but in none of the folders `places`, which are relative to it.

    Folders that hold none of the places are listed whole, the places not at all.
    """
    folder = location(root).folder
    inside = [PurePosixPath(place) for place in places]
    count = 0
    for page in object_store(folder.server).pages(folder, delimiter="/"):
        count += sum(extension(_bytes(item["Key"])) in IMAGE_EXTENSIONS for item in page.get("Contents", ()))
        for item in page.get("CommonPrefixes", ()):
            name = item["Prefix"].removeprefix(folder.key).rstrip("/")
            below = str(joined(root, name))
            deeper = [place.relative_to(name) for place in inside if place.is_relative_to(name)]
            if not deeper:
                count += sum(1 for _ in S3Source(below).entries())
            elif PurePosixPath() not in deeper:
                count += images_outside(below, [str(place) for place in deeper])
    return count


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _listed(filename: str, place: Location, item: Mapping[str, Any]) -> Entry:
    return _entry(filename, place, int(item["Size"]), item.get("LastModified"), item.get("ETag", ""))


def _asked(filename: str, text: str) -> Entry:
    """The entry of one object, with what a HEAD says."""
    place = location(text)
    try:
        headers = object_store(place.server).head(place)
    except RemoteFileNotFoundError as error:
        return Entry(filename, place.uri, error_code="MISSING_FILE", error=str(error))
    except (NoCredentialsError, EndpointError):  # of all objects, not of this one
        raise
    except RemoteError as error:
        return Entry(filename, place.uri, error_code="READ_ERROR", error=str(error))
    changed = headers.get("Last-Modified")
    when = parsedate_to_datetime(changed) if changed else None
    return _entry(filename, place, int(headers.get("Content-Length", 0)), when, headers.get("ETag", ""))


def _entry(filename: str, place: Location, size: int, changed: datetime | None, etag: str) -> Entry:
    mtime_ns = None if changed is None else (changed - _EPOCH) // timedelta(microseconds=1) * 1000
    token = etag.strip('"') or None
    if size == 0:
        return Entry(filename, place.uri, 0, mtime_ns, "ZERO_SIZE_FILE", "the file is empty", token)
    return Entry(filename, place.uri, size, mtime_ns, etag=token)
