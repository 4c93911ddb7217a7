"""Frames of a video are read one after another, by whichever thread, so that one reader decodes the video once.

What is done with a frame may take longer than reading it, and goes on beside the reading of the next ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fastdup_dagster.sources.parts import part_of
from fastdup_dagster.stages.decode_worker import Reader


@dataclass(frozen=True)
class Turn:
    """The place of a frame among those of its video.

    Attributes:
        before: set once the frame before it was read; None for the first.
        done: set once it was read itself, or could not be.
    """

    before: threading.Event | None
    done: threading.Event = field(default_factory=threading.Event)

    def read(self, read: Reader, uri: str) -> bytes:
        """Reads the frame when it is its turn; raises what reading raises."""
        if self.before is not None:
            self.before.wait()
        try:
            return read(uri)
        finally:
            self.done.set()


def turns(uris: Iterable[str]) -> Iterator[Turn | None]:
    """The turn of each frame of a video, None for all else.

    Whoever takes them must begin to read in their order: a frame waits for the one before it.
    """
    video, last = "", None
    for uri in uris:
        part = part_of(uri)
        if part is None or part.kind != "video":
            yield None
            continue
        last = Turn(last.done if last is not None and part.container == video else None)
        video = part.container
        yield last
