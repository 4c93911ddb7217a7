"""The bytes of one member of an archive, or the pixels of one frame of a video. Nothing is unpacked to disk.

A member of a tar or zip is read where it lies; of a tgz, from the state of the decompressor before it; a frame by
decoding on from the one before it, if a reader stands there. The threads of a pass share what they fetch of a remote
archive, so that it is transferred once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fastdup_dagster.sources import opening
from fastdup_dagster.sources.archive import BrokenArchiveError, Readable
from fastdup_dagster.sources.blocks import SharedFile, are_shared, sharing
from fastdup_dagster.sources.gzip_stream import GzipReader, gzip_reader
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.parts import BrokenPartError, Part
from fastdup_dagster.sources.zip import read_zip_member

# The local header of a zip's member, with its name and what else stands before the bytes.
_HEADER_BYTES = 1024


class _Reader(Protocol):
    @property
    def at(self) -> int: ...

    def close(self) -> None: ...


@dataclass
class _Idle:
    """Readers that stand somewhere in a container and may be wanted again; none are kept outside of `keeping_open`."""

    keep: int = 0
    readers: list[tuple[str, _Reader]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, uri: str, at: int) -> _Reader | None:
        """The reader of this container that stands nearest before a place, no longer idle."""
        with self.lock:
            fitting = [pair for pair in self.readers if pair[0] == uri and pair[1].at <= at]
            best = max(fitting, key=lambda pair: pair[1].at, default=None)
            if best is None:
                return None
            self.readers.remove(best)
            return best[1]

    def give(self, uri: str, reader: _Reader) -> None:
        """Takes a reader back; the one that waits longest is closed if there are too many."""
        with self.lock:
            self.readers.append((uri, reader))
            surplus = self.readers[: max(0, len(self.readers) - self.keep)]
            del self.readers[: len(surplus)]
        for _, old in surplus:
            old.close()


_idle = _Idle()


@contextmanager
def keeping_open(readers: int) -> Iterator[None]:
    """While this lasts, containers that must be read from front to back stay open between one part and the next."""
    with _idle.lock:
        _idle.keep += readers
    try:
        with sharing(readers):
            yield
    finally:
        with _idle.lock:
            _idle.keep -= readers
            surplus = _idle.readers[: max(0, len(_idle.readers) - _idle.keep)]
            del _idle.readers[: len(surplus)]
        for _, old in surplus:
            old.close()


def read_part(part: Part, max_pixels: int) -> bytes:
    """The bytes of a member, or the pixels of a frame as a PPM file.

    Args:
        part: what to read.
        max_pixels: a frame of more is refused.

    Raises:
        OSError: if the container cannot be read, or does not give the part; BrokenPartError is one.
    """
    if part.kind == "video":
        return _read_frame(part, max_pixels)
    if part.kind == "tgz":
        return _read_packed(part)
    with _opened(part) as file:
        if part.kind == "zip":
            return read_zip_member(file, part)
        file.seek(part.offset)
        return _whole(file.read(part.size), part)


@contextmanager
def _opened(part: Part) -> Iterator[Readable]:
    """The archive of a member that is read where it lies."""
    if is_remote(part.container) and are_shared():
        yield SharedFile(part.container)
        return
    # A pass reads neighbours, and a block holds many of them; a member that is wanted alone is fetched alone.
    with opening.open_binary(part.container, (part.packed or part.size) + _HEADER_BYTES) as file:
        yield file


def _read_packed(part: Part) -> bytes:
    reader = _idle.take(part.container, part.offset)
    if not isinstance(reader, GzipReader):
        shared = is_remote(part.container) and are_shared()
        file = SharedFile(part.container) if shared else opening.open_binary(part.container)
        reader = gzip_reader(part.container, file)
    try:
        reader.seek(part.offset)
        data = reader.read(part.size)
    except BrokenArchiveError as error:
        reader.close()
        raise BrokenPartError(f"broken in the archive: {error}") from error
    _idle.give(part.container, reader)
    return _whole(data, part)


def _read_frame(part: Part, max_pixels: int) -> bytes:
    from fastdup_dagster.sources.video import BrokenVideoError, FrameReader

    try:
        reader = _idle.take(part.container, part.offset)
        if not isinstance(reader, FrameReader):
            reader = FrameReader(part.container)
        try:
            data = reader.read(part.offset, part.seconds, max_pixels)
        except BaseException:
            reader.close()
            raise
    except BrokenVideoError as error:
        raise BrokenPartError(str(error)) from error
    _idle.give(part.container, reader)
    return data


def _whole(data: bytes, part: Part) -> bytes:
    if len(data) < part.size:
        raise BrokenPartError(f"the archive gives {len(data)} of {part.size} bytes")
    return data
