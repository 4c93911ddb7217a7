"""Images below a prefix of a bucket, listed page by page, and single objects by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.base import Entry
from fastdup_dagster.sources.containers import Contents
from fastdup_dagster.sources.folder import left_out_notes
from fastdup_dagster.sources.listing import Listed
from fastdup_dagster.sources.locations import Location, joined, location, location_of
from fastdup_dagster.sources.object_store import in_parallel, object_store
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, container_kind, display_name, extension
from fastdup_dagster.sources.remote_errors import (
    EndpointError,
    NoCredentialsError,
    RemoteError,
    RemoteFileNotFoundError,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class S3Source:
    """All images below a prefix, in bytewise order of their keys, which is the order that S3 lists them in.

    Without any, the images in its archives and videos, which are read by ranges.

    Args:
        root: `s3://bucket/prefix` or `minio://server/bucket/prefix`; the prefix is a folder.
        settings: `tar_only` takes archives and videos alone; which frames of videos are taken. The defaults if None.
        extensions: extensions to take, without the dot.

    Raises:
        ValueError: if it is no such place.
    """

    def __init__(
        self, root: str, settings: Settings | None = None, extensions: frozenset[str] = IMAGE_EXTENSIONS
    ) -> None:
        self._root = location(root).folder
        self._settings = settings or Settings()
        self._extensions = extensions
        self._contents = Contents(self._settings)
        self._left_out: Counter[str] = Counter()
        self._not_mixed: Counter[str] = Counter()
        self._slashes = 0
        self.name = self._root.text

    @property
    def notes(self) -> list[str]:
        """What was left out, by extension."""
        slashes = [f"left out, because their keys end with a slash: {self._slashes}"] if self._slashes else []
        return slashes + left_out_notes(self._left_out, self._not_mixed) + self._contents.notes

    def entries(self) -> Iterator[Entry]:
        """The images, or what is in the archives and videos; of images, one page of the listing is held at a time.

        Raises:
            RemoteError: if the prefix cannot be listed, saying where and what to do.
        """
        self._contents = Contents(self._settings)
        for entry, is_container in self._files():
            if is_container:
                yield from self._contents.entries(entry)
            else:
                yield entry

    def _files(self) -> Iterator[tuple[Entry, bool]]:
        """The objects that hold the entries: images, else archives and videos, and whether they are the latter."""
        self._left_out.clear()
        self._not_mixed.clear()
        self._slashes = 0
        containers: list[Entry] = []
        found = False
        for item in self._items():
            name = _bytes(item.key.removeprefix(self._root.key))
            if (kind := extension(name)) in self._extensions:
                found = True
                if not self._settings.tar_only:
                    yield self._entry(name, item), False
                else:
                    self._not_mixed[kind] += 1
            elif not container_kind(name):
                self._left_out[kind] += 1
            elif found and not self._settings.tar_only:
                self._not_mixed[kind] += 1
            else:
                containers.append(self._entry(name, item))
        if found and not self._settings.tar_only:
            self._not_mixed.update(extension(entry.uri.encode()) for entry in containers)
            return
        # What is inside of a.tar comes after what is inside of a.tar.gz: `/` is past `.`
        for entry in sorted(containers, key=lambda entry: _bytes(location_of(entry.uri).key) + b"/"):
            yield entry, True

    def _items(self) -> Iterator[Listed]:
        for page in object_store(self._root.server).pages(self._root):
            for item in page.objects:
                if not item.key.endswith("/"):
                    yield item
                elif item.size:  # an empty one is what some tools put for a folder
                    self._slashes += 1

    def _entry(self, name: bytes, item: Listed) -> Entry:
        place = Location(self._root.server, self._root.bucket, item.key)
        return _entry(display_name(name), place, item.size, item.changed, item.etag)


def remote_entries(named: Iterable[tuple[str, str]]) -> Iterator[Entry]:
    """The entries of single objects, in the order given; many are asked for at a time.

    Args:
        named: name to show, and `s3://bucket/key` or `minio://server/bucket/key`. One that is not there, or may not
            be read, becomes an entry with the reason.

    Raises:
        NoCredentialsError, EndpointError: where no object could be asked for at all.
        ValueError: for what is no such place.
    """
    return in_parallel(lambda pair: _asked(*pair), named)


def names_in(root: str) -> tuple[list[str], list[str]]:
    """The names of the folders right below a prefix, and of the objects; sorted bytewise.

    Raises:
        RemoteError: if the prefix cannot be listed.
    """
    folder = location(root).folder
    folders: list[str] = []
    objects: list[str] = []
    for page in object_store(folder.server).pages(folder, delimiter="/"):
        folders += [prefix.removeprefix(folder.key).rstrip("/") for prefix in page.folders]
        objects += [item.key.removeprefix(folder.key) for item in page.objects]
    return folders, objects


def holds_anything(root: str) -> bool:
    """Whether there is an object below a prefix: a listing of one; raises what listing raises."""
    folder = location(root).folder
    return any(object_store(folder.server).pages(folder, most=1))  # a first page may be empty and have a next


def images_outside(root: str, places: Collection[str]) -> int:
    """How many images lie below a prefix, but in none of the places, which are relative to it.

    Where the places are archives and videos, and there is no such image, the archives and videos beside them count.
    Folders that hold none of the places are listed whole, the places not at all.
    """
    found = Counter(_kinds_outside(root, [PurePosixPath(place) for place in places]))
    only_containers = all(container_kind(_bytes(place)) for place in places)
    return found["image"] or (found["container"] if only_containers else 0)


def _kinds_outside(root: str, places: Collection[PurePosixPath]) -> Iterator[str]:
    folder = location(root).folder
    for page in object_store(folder.server).pages(folder, delimiter="/"):
        for item in page.objects:
            if PurePosixPath(name := item.key.removeprefix(folder.key)) not in places:
                yield _kind(name)
        for prefix in page.folders:
            name = prefix.removeprefix(folder.key).rstrip("/")
            below = str(joined(root, name))
            deeper = [place.relative_to(name) for place in places if place.is_relative_to(name)]
            if not deeper:
                inside = object_store(folder.server).pages(location(below).folder)
                yield from (_kind(item.key) for page in inside for item in page.objects)
            elif PurePosixPath() not in deeper:
                yield from _kinds_outside(below, deeper)


def _kind(name: str) -> str:
    if extension(_bytes(name)) in IMAGE_EXTENSIONS:
        return "image"
    return "container" if container_kind(_bytes(name)) else "other"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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
