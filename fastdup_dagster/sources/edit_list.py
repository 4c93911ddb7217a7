"""Whether an MP4 or QuickTime file hides frames that it holds: its boxes as ISO/IEC 14496-12 describes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_MOST_INDEX_BYTES = 2**28


def is_cut(file: BinaryIO) -> bool:
    """Whether an MP4's edit list leaves out frames that have packets; the packets do not tell then."""
    try:
        movie = _movie_box(file)
        clock = next((_clock(box)[0] for box in _boxes(movie, b"mvhd")), 0)
        return any(_track_is_cut(track, clock) for track in _boxes(movie, b"trak"))
    except (struct.error, ZeroDivisionError, IndexError):
        return True
    finally:
        file.seek(0)


def _movie_box(file: BinaryIO) -> bytes:
    end, at = file.seek(0, 2), 0
    while at + 8 <= end:
        file.seek(at)
        length, kind = struct.unpack(">L4s", file.read(8))
        header = 8
        if length == 1:
            length, header = struct.unpack(">Q", file.read(8))[0], 16
        if kind == b"moov":
            return file.read(min(length - header, _MOST_INDEX_BYTES)) if length > header else b""
        if length < header:
            break
        at += length
    return b""


def _boxes(data: bytes, *path: bytes) -> Iterator[bytes]:
    """The contents of the boxes at a path of names."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if length < 8:
            return
        if kind == path[0]:
            inside = data[at + 8 : at + length]
            if len(path) == 1:
                yield inside
            else:
                yield from _boxes(inside, *path[1:])
        at += length


def _track_is_cut(track: bytes, movie_clock: int) -> bool:
    edits = next(_boxes(track, b"edts", b"elst"), None)
    if edits is None or not any(box[8:12] == b"vide" for box in _boxes(track, b"mdia", b"hdlr")):
        return False
    entry = struct.Struct(">Qq4x" if edits[0] == 1 else ">Li4x")
    count = struct.unpack_from(">4xL", edits)[0]
    listed = [entry.unpack_from(edits, 8 + number * entry.size) for number in range(count)]
    real = [(length, start) for length, start in listed if start != -1]  # -1: time without a picture
    offsets = next(_boxes(track, b"mdia", b"minf", b"stbl", b"ctts"), None)
    delay = struct.unpack_from(">8xLl", offsets)[1] if offsets else 0
    if len(real) != 1 or real[0][1] > max(0, delay):
        return True
    clock, length = next(map(_clock, _boxes(track, b"mdia", b"mdhd")), (0, 0))
    # One tick of the coarser clock may be lost in rounding; a length of 0 is that of a fragmented file.
    return 0 < real[0][0] / movie_clock < (length - real[0][1]) / clock - max(1 / clock, 1 / movie_clock)


def _clock(header: bytes) -> tuple[int, int]:
    """Ticks per second, and the length in ticks, of an `mvhd` or `mdhd` box."""
    ticks, length = struct.unpack_from(">20xLQ" if header[0] == 1 else ">12xLL", header)
    return ticks, length
