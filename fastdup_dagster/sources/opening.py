"""The one door to bytes that are not read as a whole: archives, videos, and what lies behind a URI."""

from __future__ import annotations

from typing import BinaryIO

from fastdup_dagster.sources.paths import local_path


def open_binary(uri: str) -> BinaryIO:
    """A readable, seekable file of the bytes behind a URI.

    Raises:
        OSError: if it cannot be opened.
        ValueError: for a scheme that nothing here reads.
    """
    return open(local_path(uri), "rb")  # noqa: PTH123 - the path is bytes; the caller closes it
