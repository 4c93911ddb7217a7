"""Frames of one video are read in their order, by any thread; one that fails lets the next one go on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from fastdup_dagster.images import ImageError
from fastdup_dagster.sources.parts import Part
from fastdup_dagster.stages.frame_turns import Turn, turns


def frame(video: str, number: int) -> str:
    return Part(f"file:///{video}.mp4", "video", b"frame", number).uri


def test_frames_are_read_in_their_order_and_a_failure_holds_nobody_up() -> None:
    uris = [frame("a", number) for number in range(8)]
    order: list[str] = []

    def read(uri: str) -> bytes:
        time.sleep(0.02 if uri == uris[0] else 0)
        order.append(uri)
        if uri == uris[3]:
            raise ImageError("READ_ERROR", "broken")
        return b"x"

    def one(turn: Turn | None, uri: str) -> bool:
        try:
            return turn is not None and turn.read(read, uri) == b"x"
        except ImageError:
            return False

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(one, turns(uris), uris))
    assert order == uris
    assert done == [number != 3 for number in range(8)]


def test_only_frames_wait_and_only_for_those_of_their_video() -> None:
    given = ["file:///a.jpg", frame("a", 0), frame("a", 1), frame("b", 0), Part("file:///c.tar", "tar", b"n", 512).uri]
    picture, first, second, other, member = turns(given)
    assert picture is None and member is None
    assert first is not None and second is not None and other is not None
    assert first.before is None and other.before is None and second.before is first.done
