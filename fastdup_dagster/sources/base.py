"""What every source gives: ordered entries, and notes on what it left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol


class NothingFoundError(ValueError):
    """An input holds no image at all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance of a listing, as far as a listing can see.

    Attributes:
        filename: path relative to the input, for people and for ids.
        uri: where the bytes are, percent-encoded.
        file_size: bytes, None if the file is not there, or for a frame of a video.
        mtime_ns: modification time in nanoseconds since the epoch; of a member or frame, that of its container.
        etag: what else tells that the bytes changed: an object store's own token, without its quotes; of a member or
            frame, the container's, or its size.
        media: image, member or frame.
        timestamp: seconds from the first frame of the video.
    """

    filename: str
    uri: str
    file_size: int | None = None
    mtime_ns: int | None = None
    error_code: str | None = None
    error: str | None = None
    etag: str | None = None
    media: str = "image"
    timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames of a video are taken.

    Attributes:
        mode: `rate`, the first frame of every period; `scenes`, the first one of each scene; `all`.
        rate: frames per second, for `rate`.
        threshold: how much a frame must differ from the one before to begin a scene: mean difference of the pixels,
            reduced to 64 x 36, in hue (as OpenCV's 0 to 179), saturation and value.
    """

    mode: Literal["rate", "scenes", "all"] = "rate"
    rate: float = 1.0
    threshold: float = 27.0


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
