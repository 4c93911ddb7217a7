"""The one door to bytes that are not read as a whole: archives, videos, and what lies behind a URI."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from fastdup_dagster.sources.locations import Location, is_remote, location_of
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.paths import local_path
from fastdup_dagster.sources.remote_errors import PastTheEndError

# One request for so much: a latency of 50 ms costs a reader of a whole archive less than the transfer itself.
BLOCK_BYTES = 4 * 1024 * 1024


def open_binary(uri: str, block_bytes: int | None = None) -> BinaryIO:
    """A readable, seekable file of the bytes behind a URI; a remote one is read in ranges, block by block.

    Args:
        uri: of a file of its own.
        block_bytes: bytes that a request for a remote file asks for at least; `BLOCK_BYTES` if None.

    Raises:
        OSError: if it cannot be opened, or later read.
        ValueError: for a scheme that nothing here reads.
    """
    if is_remote(uri):
        return cast(BinaryIO, io.BufferedReader(_RemoteFile(location_of(uri)), block_bytes or BLOCK_BYTES))
    return open(local_path(uri), "rb")  # noqa: PTH123 - the path is bytes; the caller closes it


class _RemoteFile(io.RawIOBase):
    """An object that is read by range requests. Every read is of the object that was read first, or fails.

    Its size is asked for only if something asks for the end: a part of it is found, and costs, one request.
    """

    def __init__(self, place: Location) -> None:
        self._place = place
        self._store = object_store(place.server)
        self._size: int | None = None
        self._etag: str | None = None
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = self._end() if whence == io.SEEK_END else self._position if whence == io.SEEK_CUR else 0
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}: before the beginning")
        self._position = start + offset
        return self._position

    def _end(self) -> int:
        if self._size is None:
            headers = self._store.head(self._place)
            self._size, self._etag = int(headers["Content-Length"]), self._etag or headers.get("ETag")
        return self._size

    def readall(self) -> bytes:
        """The rest, by one request: the one inherited asks block by small block."""
        return self.read(max(0, self._end() - self._position)) or b""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = len(buffer) if self._size is None else min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        last = self._position + length - 1
        try:
            data, etag = self._store.get_tagged(self._place, self._position, last, self._etag)
        except PastTheEndError:
            return 0
        self._etag = self._etag or etag
        if len(data) < length:  # the end is reached
            self._size = self._position + len(data)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
