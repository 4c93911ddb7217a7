"""Reads remote images ahead of the workers that decode them: many requests in flight, bounded by bytes.

A worker that waited for each image itself would spend its time on latency: at 50 ms a request, 20 images/s. Local files
are read by the workers as ever, there the kernel reads ahead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import MappingProxyType, TracebackType

from fastdup_dagster.images import read_bytes
from fastdup_dagster.sources import opening
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.object_store import CONNECTIONS
from fastdup_dagster.sources.parts import moved, part_of
from fastdup_dagster.stages.decode_worker import Reader, Task

# Read or being read, and not yet taken by a worker: what the memory of a remote pass grows by.
AHEAD_BYTES = 64 * 1024 * 1024
# Small images count too, by their rows in Python.
_AHEAD_FILES = 512
_UNKNOWN_SIZE = 1024 * 1024


class ReadAhead:
    """Files read in the order that they will be asked for, each handed out once; a context manager.

    Args:
        files: URI and bytes (None if unknown), in that order, each once.
        most_bytes: read ahead at most; a single larger file goes alone.
        connections: requests in flight at most.
    """

    def __init__(
        self,
        files: Iterable[tuple[str, int | None]],
        most_bytes: int = AHEAD_BYTES,
        connections: int = CONNECTIONS,
    ) -> None:
        self._waiting = iter(files)
        self._next = next(self._waiting, None)
        self._most_bytes = most_bytes
        self._ahead: dict[str, Future[bytes]] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._early: set[str] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="read")
        with self._lock:
            self._fill()

    def take(self, uri: str) -> bytes:
        """The bytes of a file, waiting for them if they are still on their way.

        A file that is not read ahead yet is read at once, by this thread: rather a little more memory than a worker
        that waits for others to take theirs.

        Raises:
            ImageError: as `read_bytes`; for a file that is asked for again, the same one, without another attempt.
        """
        with self._lock:
            future = self._ahead.get(uri)
            if future is None:
                self._early.add(uri)
        if future is None:
            return read_bytes(uri)
        try:
            data = future.result()
        finally:
            with self._lock:
                self._bytes -= self._sizes.pop(uri, 0)
                self._fill()
        with self._lock:
            del self._ahead[uri]
        return data

    def _fill(self) -> None:
        """Begins to read what there is room for."""
        while self._next is not None and len(self._sizes) < _AHEAD_FILES:
            uri, size = self._next
            size = _UNKNOWN_SIZE if size is None else size
            if self._sizes and self._bytes + size > self._most_bytes:
                return
            self._next = next(self._waiting, None)
            if uri in self._early:
                self._early.discard(uri)
                continue
            self._sizes[uri] = size
            self._bytes += size
            self._ahead[uri] = self._pool.submit(read_bytes, uri)

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def reader_of(files: Iterable[tuple[str, int | None]]) -> Iterator[Reader]:
    """What reads whole files that are asked for in this order: remote ones ahead, all others by `read_bytes`.

    Args:
        files: URI and bytes (None if unknown) of each; one that is there twice is read once.
    """
    remote = dict.fromkeys((uri, size) for uri, size in files if is_remote(uri) and part_of(uri) is None)
    if not remote:
        yield read_bytes
        return
    with ReadAhead(remote) as ahead:
        yield ahead.take


@contextmanager
def remote_reader(
    tasks: Sequence[Task], threads: int, copies: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[Reader, int | None]]:
    """What a pass reads these tasks with, and the bytes that a chunk of them may come to (None for any).

    Where nothing is remote, or there are copies, it is `read_bytes`, and nothing is started.

    Args:
        tasks: of the pass, in order.
        threads: that decode.
        copies: URIs of files to read in place of others, and of the containers of parts.
    """
    if copies:
        yield (lambda uri: read_bytes(moved(uri, copies))), None
        return
    # Parts of archives and videos have readers of their own, which go through them block by block; a chunk of about a
    # block keeps the threads so near to each other that no block is let go before all have read it.
    remote = [task for task in tasks if is_remote(task.uri)]
    if not any(part_of(task.uri) is None for task in remote):
        yield read_bytes, opening.BLOCK_BYTES if remote else None
        return
    files: Iterable[tuple[str, int | None]] = (
        (task.uri, task.file_size) for task in remote if part_of(task.uri) is None
    )
    if any(task.box for task in tasks):  # crops: a file has several tasks
        files = dict.fromkeys(files)
    with ReadAhead(files) as ahead:
        # Half of what is read ahead is in the workers' chunks at most, the other half on its way.
        most_bytes = AHEAD_BYTES // (2 * threads)
        if any(part_of(task.uri) for task in remote):
            most_bytes = min(most_bytes, opening.BLOCK_BYTES)
        yield ahead.take, most_bytes
