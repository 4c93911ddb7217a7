"""Bytes of label files, on this machine or in an object store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from fastdup_dagster.sources.locations import Location, is_remote, location, location_of
from fastdup_dagster.sources.object_store import in_parallel, object_store
from fastdup_dagster.sources.remote_errors import EndpointError, NoCredentialsError, RemoteError

_LINE_END = re.compile(r"\r\n|\n|\r")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def place_of(given: str | Path) -> str | Path:
    """A place in an object store as it is given; any other one as a path."""
    return given if is_remote(given) else Path(given).expanduser()


def suffix(place: str | Path) -> str:
    """The extension in lower case, with its dot; empty for a folder or prefix without one."""
    name = location(place).key if is_remote(place) else str(place)
    return "" if name.endswith("/") else PurePosixPath(name).suffix.lower()


def read_file(place: str | Path) -> bytes:
    """The bytes of one file.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it cannot be read.
    """
    if not is_remote(place):
        return Path(place).read_bytes()
    where = location(place)
    return object_store(where.server).get(where)


def parent_of(place: str) -> str | None:
    """The prefix that a prefix is in; None for a bucket as a whole."""
    where = location(place)
    key = where.key.rstrip("/")
    return Location(where.server, where.bucket, key.rpartition("/")[0]).text if key else None


def folder_of(place: str | Path) -> str | Path:
    """The folder, or prefix, that a file is in."""
    if isinstance(place, Path):
        return place.absolute().parent
    where = location(place)
    return Location(where.server, where.bucket, where.key.rpartition("/")[0]).text


def lines_of(data: bytes, errors: str = "backslashreplace") -> list[str]:
    """The lines of a text file: UTF-8, or UTF-16 if it says so, whatever the system that it was written on.

    Args:
        data: its bytes.
        errors: as of `bytes.decode`, for what is not UTF-8.
    """
    if data.startswith(_UTF_16):
        return _LINE_END.split(data.decode("utf-16", "replace"))
    return _LINE_END.split(data.decode("utf-8", errors).removeprefix("\ufeff"))


def read_objects(uris: Iterable[str]) -> Iterator[bytes | OSError]:
    """The bytes of objects, or why there are none; in order, many requests at a time.

    Raises:
        EndpointError, NoCredentialsError: which concern all of them.
    """
    return in_parallel(_read_object, uris)


def _read_object(uri: str) -> bytes | OSError:
    where = location_of(uri)
    try:
        return object_store(where.server).get(where)
    except (EndpointError, NoCredentialsError):
        raise
    except RemoteError as error:
        return error
