"""The one door to bytes that are not read as a whole: archives, videos, and what lies behind a URI."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from fastdup_dagster.sources.locations import Location, is_remote, location_of
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.paths import local_path

# One request for so much: a latency of 50 ms costs a reader of a whole archive less than the transfer itself.
BLOCK_BYTES = 4 * 1024 * 1024


def open_binary(uri: str) -> BinaryIO:
    """A readable, seekable file of the bytes behind a URI; a remote one is read in ranges, block by block.

    Raises:
        OSError: if it cannot be opened, or later read.
        ValueError: for a scheme that nothing here reads.
    """
    if is_remote(uri):
        return cast(BinaryIO, io.BufferedReader(_RemoteFile(location_of(uri)), BLOCK_BYTES))
    return open(local_path(uri), "rb")  # noqa: PTH123 - the path is bytes; the caller closes it


class _RemoteFile(io.RawIOBase):
    """An object that is read by range requests. Every read is of the object that was opened, or fails."""

    def __init__(self, place: Location) -> None:
        self._place = place
        self._store = object_store(place.server)
        headers = self._store.head(place)
        self._size, self._etag = int(headers["Content-Length"]), headers.get("ETag")
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}: before the beginning")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        data = self._store.get(self._place, self._position, self._position + length - 1, self._etag)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
