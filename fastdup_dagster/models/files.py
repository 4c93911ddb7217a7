"""The files of an ONNX model: a graph, and data that it may keep beside itself; one hash covers them all.

The protobuf of a graph is walked just far enough to find the names of such data (onnx.proto of the ONNX project,
messages and field numbers below): `onnx` is no dependency at run time, and weights are never read into memory.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# message -> field number -> message in it that may lead to a tensor
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


def external_data(path: Path) -> list[str]:
    """Names of the files beside a graph that hold its data, relative to its folder; none for an .ort file.

    Raises:
        ValueError: for a name that leads out of the folder.
    """
    if path.suffix == ".ort" or not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            names = set(_locations(data))
        except (IndexError, UnicodeDecodeError):  # no ONNX file: whoever opens it says so
            return []
    for name in names:
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"model {path}: its data {name!r} is outside of its folder")
    return sorted(names)


def model_files(path: Path) -> list[Path]:
    """The graph and the files that hold its data."""
    return [path, *(path.parent / name for name in external_data(path))]


def model_sha256(path: Path) -> str:
    """Hash of a model: of its file, or if it keeps data beside, of the hashes and names of all its files.

    Raises:
        OSError: if one of them cannot be read.
        ValueError: for data outside of the model's folder.
    """
    names = external_data(path)
    graph = file_sha256(path)
    if not names:
        return graph
    lines = [graph, *(f"{file_sha256(path.parent / name)} {name}" for name in names)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _locations(data: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        nested = _NESTED[message]
        for number, begin, stop in _fields(data, start, end):
            inner = nested.get(number)
            if inner == "entry":
                entry = {key: data[first:last] for key, first, last in _fields(data, begin, stop)}
                if entry.get(1) == b"location":
                    yield entry.get(2, b"").decode()
            elif inner is not None:
                waiting.append((inner, begin, stop))


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of the length-delimited fields of a message."""
    position = start
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, position = _varint(data, position)
            if position + length > end:
                raise IndexError("a field runs over its message")
            yield tag >> 3, position, position + length
            position += length
        elif kind == 0:
            _, position = _varint(data, position)
        elif kind in _FIXED:
            position += _FIXED[kind]
        else:
            raise IndexError(f"unknown wire type {kind}")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
