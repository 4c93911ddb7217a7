"""Blocks of remote archives, fetched once for all threads of a pass, however they take turns in reading them."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from fastdup_dagster.sources import opening
from fastdup_dagster.sources.locations import location_of
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.remote_errors import PastTheEndError, RemoteError

# A member may lie across two blocks, and a chunk begins where the one before it ends.
_SPARE = 2

_Key = tuple[str, int]  # URI and number of the block


class _Blocks:
    """Those that were wanted last, as many as are allowed for; none outside of `sharing`."""

    def __init__(self) -> None:
        self._most = 0
        self._held: OrderedDict[_Key, Future[bytes]] = OrderedDict()
        self._etags: dict[str, str | None] = {}
        self._lock = threading.Lock()

    @property
    def are_kept(self) -> bool:
        return self._most > 0

    def allow(self, blocks: int) -> None:
        with self._lock:
            self._most += blocks
            self._let_go()
            if not self._most:
                self._etags.clear()

    def get(self, uri: str, number: int) -> bytes:
        """A block; who asks first fetches it, others wait."""
        key = uri, number
        with self._lock:
            known = self._held.get(key)
            future: Future[bytes] = known or Future()
            self._held[key] = future
            self._held.move_to_end(key)
            self._let_go()
        if known is None:
            self._fetch(key, future)
        return future.result()

    def _fetch(self, key: _Key, future: Future[bytes]) -> None:
        try:
            future.set_result(self._fetched(*key))
        except BaseException as error:  # noqa: BLE001 - those who wait raise it, and so does `get`
            with self._lock:
                if self._held.get(key) is future:  # who comes later tries again
                    del self._held[key]
            future.set_exception(error)

    def _fetched(self, uri: str, number: int) -> bytes:
        place, first = location_of(uri), number * opening.BLOCK_BYTES
        try:
            data, etag = object_store(place.server).get_tagged(
                place, first, first + opening.BLOCK_BYTES - 1, self._etags.get(uri)
            )
        except PastTheEndError:
            return b""
        with self._lock:
            if self._etags.setdefault(uri, etag) != etag:
                raise RemoteError(f"{place.text} was replaced while it was read: read it again")
        return data

    def _let_go(self) -> None:
        while len(self._held) > self._most:
            self._held.popitem(last=False)


_blocks = _Blocks()


@contextmanager
def sharing(readers: int) -> Iterator[None]:
    """While this lasts, `SharedFile` is of use: a block is held for each reader, and some more.

    Args:
        readers: places of archives that are read at the same time.
    """
    allowed = readers + _SPARE
    _blocks.allow(allowed)
    try:
        yield
    finally:
        _blocks.allow(-allowed)


def are_shared() -> bool:
    """Whether blocks are held at the moment."""
    return _blocks.are_kept


class SharedFile:
    """A remote file by its blocks; what `open_binary` gives, as far as readers of archives need it.

    Every read is of the version that was read first while blocks are held, or fails with `RemoteError`.

    Args:
        uri: of the file.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place, from the start or from the end."""
        start = 0
        if whence == io.SEEK_END:
            place = location_of(self._uri)
            start = int(object_store(place.server).head(place)["Content-Length"])
        self._position = start + offset
        return self._position

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; fewer at the end alone."""
        pieces = []
        while size > 0:
            number, at = divmod(self._position, opening.BLOCK_BYTES)
            piece = _blocks.get(self._uri, number)[at : at + size]
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            self._position += len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Nothing is open."""
