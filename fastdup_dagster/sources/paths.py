"""Names of files that may hold any byte: a lossless URI for the machine, a readable name for people."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fastdup_dagster.formats import IMAGE_EXTENSIONS as IMAGE_EXTENSIONS
from fastdup_dagster.formats import VIDEO_EXTENSIONS as VIDEO_EXTENSIONS

_ARCHIVE_KINDS = {b".tar": "tar", b".tar.gz": "tgz", b".tgz": "tgz", b".zip": "zip"}


def display_name(path: bytes) -> str:
    r"""A relative path as text: UTF-8 as it is, otherwise with `\xNN` for bytes that are not.

    Different paths get different names: in a path that is not UTF-8, or that holds a backslash, every
    backslash is doubled.
    """
    try:
        text = path.decode("utf-8")
        return text.replace("\\", "\\\\")
    except UnicodeDecodeError:
        return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def to_uri(path: bytes) -> str:
    """`file://` URI of an absolute path, whatever bytes it holds."""
    return "file://" + quote_from_bytes(path)


def local_path(uri: str) -> bytes:
    """The path of a `file://` URI, as bytes for `open` and `os.stat`.

    Raises:
        ValueError: if the URI is not a local file's.
    """
    if not uri.startswith("file:///"):
        raise ValueError(f"not the URI of a local file: {uri!r}")
    return unquote_to_bytes(uri.removeprefix("file://"))


def extension(name: bytes) -> str:
    """Lower-case extension without the dot; empty if there is none."""
    return os.path.splitext(name)[1][1:].decode("ascii", "replace").lower()  # noqa: PTH122 - bytes, not a Path


def as_bytes(path: str | Path) -> bytes:
    """Absolute path as the bytes that the file system knows.

    A `..` goes up from where the folder before it really is: behind a link that is not what its text says.
    """
    whole = os.fsencode(Path(path).absolute())
    head, up, tail = whole.rpartition(b"/..")
    if not up or tail[:1] not in (b"", b"/") or b"\0" in whole:
        return whole
    return (os.path.realpath(head + up).rstrip(b"/") + tail) or b"/"


def container_kind(name: bytes) -> str | None:
    """What a file of this name holds images as: tar, tgz, zip or video; None if it is no such file."""
    lower = name.lower()
    for suffix, kind in _ARCHIVE_KINDS.items():
        if lower.endswith(suffix):
            return kind
    return "video" if extension(name) in VIDEO_EXTENSIONS else None
