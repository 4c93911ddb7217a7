"""What a gzip file unpacks to, from any place: states of the decompressor, kept on the way, are where reading goes on.

A state costs about 40 KB. They lie 2 MB apart, further in archives over a gigabyte, so that they never take more
than 20 MB; to read a member costs unpacking what lies between the state before it and its end.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

from fastdup_dagster.sources.archive import MAX_RATIO, BrokenArchiveError

_GZIP = 31  # as zlib's `wbits`: gzip, checksum included
_INPUT = 2**16
_OUTPUT = 2**18
_MAX_STATES = 512
# Far out: to skip what is unpacked costs time, not memory, and `checked` judges member by member.
_ENDLESS_BYTES = 2**36
_REMEMBERED = 4


class Seekable(Protocol):
    """A file, as far as it is needed here; one of this machine has `fileno` too."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Goes to a place, from the start, or (`whence` 2) from the end."""

    def close(self) -> None:
        """Closes it."""


class _State(NamedTuple):
    at: int
    """Bytes unpacked so far."""
    source: int
    """Bytes of the file that were used for it."""
    unpacker: Any


class GzipIndex:
    """The states along one file; several threads may read by it and add to it."""

    def __init__(self) -> None:
        self._states: list[_State] = []
        self._places: list[int] = []
        self._step = 2**21
        self._lock = threading.Lock()

    def wants(self, at: int) -> bool:
        """Whether a state at this place would be new."""
        return at >= (self._places[-1] if self._places else 0) + self._step

    def add(self, state: _State) -> None:
        """Keeps a state, if no thread was there before."""
        with self._lock:
            if not self.wants(state.at):
                return
            self._states.append(state)
            if len(self._states) > _MAX_STATES:
                self._states = self._states[1::2]
                self._step *= 2
            self._places = [known.at for known in self._states]

    def before(self, at: int) -> _State | None:
        """The last state that is not past this place."""
        with self._lock:
            number = bisect_right(self._places, at)
            return self._states[number - 1] if number else None


class GzipReader:
    """One reader; `at` is where it stands.

    Args:
        file: the gzip file; closed together with the reader.
        index: shared by the readers of this file.
    """

    def __init__(self, file: Seekable, index: GzipIndex) -> None:
        self._file = file
        self._index = index
        self._go_to(_State(0, 0, None))

    @property
    def source(self) -> int:
        """Bytes of the file that were unpacked to get here, to a buffer."""
        return self._source

    def _go_to(self, state: _State) -> None:
        self.at = state.at
        self._source = state.source
        self._unpacker = zlib.decompressobj(_GZIP) if state.unpacker is None else state.unpacker.copy()
        self._input = self._output = b""
        self._file.seek(self._source)

    def seek(self, offset: int, /) -> int:
        """Goes to a place, or to the end if that comes first.

        Raises:
            BrokenArchiveError: if the bytes before it cannot be unpacked.
        """
        known = self._index.before(offset)
        if offset < self.at or (known is not None and known.at > self.at + len(self._output)):
            self._go_to(known or _State(0, 0, None))
        while self.at < offset and (piece := self._piece(offset - self.at)):
            self.at += len(piece)
        return self.at

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; fewer at the end alone.

        Raises:
            BrokenArchiveError: if they cannot be unpacked.
        """
        pieces = []
        while size > 0 and (piece := self._piece(size)):
            pieces.append(piece)
            size -= len(piece)
            self.at += len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _piece(self, most: int) -> bytes:
        while not self._output and self._unpack():
            pass
        piece, self._output = self._output[:most], self._output[most:]
        return piece

    def _unpack(self) -> bool:
        """Unpacks some more; False at the end."""
        if self._unpacker.eof and not self._begin_next():
            return False
        self._input = self._input or self._file.read(_INPUT)
        if not self._input:
            raise BrokenArchiveError(f"the file ends early, after {self.at} bytes unpacked")
        try:
            self._output = self._unpacker.decompress(self._input, _OUTPUT)
        except zlib.error as error:
            raise BrokenArchiveError(f"broken after {self.at} bytes unpacked ({error})") from error
        rest = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
        self._source += len(self._input) - len(rest)
        self._input = rest
        at = self.at + len(self._output)
        if at > max(_ENDLESS_BYTES, MAX_RATIO * self._source):
            raise BrokenArchiveError(f"{self._source} bytes unpack to more than {at}: refused")
        if not self._unpacker.eof and self._index.wants(at):
            self._index.add(_State(at, self._source, self._unpacker.copy()))
        return True

    def _begin_next(self) -> bool:
        """Begins the next of several gzip streams in a row, as some compressors write them; False if there is none."""
        self._input = (self._input or self._file.read(_INPUT)).lstrip(b"\0")
        if not self._input.startswith(b"\x1f"):
            return False
        self._unpacker = zlib.decompressobj(_GZIP)
        return True


_indexes: OrderedDict[tuple[str, object], GzipIndex] = OrderedDict()
_indexes_lock = threading.Lock()


def gzip_reader(uri: str, file: Seekable) -> GzipReader:
    """A reader of a gzip file that goes by the states of those before it; the last few files' states are remembered.

    Args:
        uri: of the file.
        file: opened; closed together with the reader.
    """
    key = (uri, _token(file))
    with _indexes_lock:
        index = _indexes.setdefault(key, GzipIndex())
        _indexes.move_to_end(key)
        while len(_indexes) > _REMEMBERED:
            _indexes.popitem(last=False)
    return GzipReader(file, index)


def _token(file: Seekable) -> object:
    """Tells an archive from another one that took its place."""
    try:
        status = os.fstat(file.fileno())  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        size = file.seek(0, 2)
        file.seek(0)
        return size
    return status.st_ino, status.st_size, status.st_mtime_ns
