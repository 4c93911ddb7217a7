"""What every source gives: ordered entries, and notes on what it left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


class NothingFoundError(ValueError):
    """An input holds no image at all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance of a listing, as far as a listing can see.

    Attributes:
        filename: path relative to the input, for people and for ids.
        uri: where the bytes are, percent-encoded.
        file_size: bytes, None if the file is not there.
        mtime_ns: modification time in nanoseconds since the epoch.
        etag: an object store's own token of the content, without its quotes.
    """

    filename: str
    uri: str
    file_size: int | None = None
    mtime_ns: int | None = None
    error_code: str | None = None
    error: str | None = None
    etag: str | None = None


class Source(Protocol):
    """An input that can be listed."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def notes(self) -> list[str]:
        """What was left out and why, complete once `entries` is exhausted."""

    def entries(self) -> Iterator[Entry]:
        """The instances in their final order."""
