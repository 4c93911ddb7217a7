"""Progress as plain lines: a line per step, and one every ten seconds within a long one."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from fastdup_dagster.command_line.display import LiveDisplay, PlainDisplay, open_display
from fastdup_dagster.resources.progress import LogProgress

CONTEXT: Any = SimpleNamespace(partition_key="pets/train")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_long_step_says_done_rate_and_time_left_every_ten_seconds():
    lines: list[str] = []
    clock = Clock()
    report = PlainDisplay(lines.append, clock).track(CONTEXT, "features")
    for second in range(1, 26):
        clock.now = 100.0 + second
        report(second * 20, 1000)
    assert lines == [
        "pets/train  features  200 of 1,000 images, 20 images/s, 40 s left",
        "pets/train  features  400 of 1,000 images, 20 images/s, 30 s left",
    ]


def test_a_step_has_one_line_and_a_failed_one_says_so():
    lines: list[str] = []
    display = PlainDisplay(lines.append)
    display.start("pets/train", "features")
    display.end("pets/train", "features", 1.23)
    display.end("pets/train", "outliers", None)
    assert lines == ["pets/train  features  1.2 s", "pets/train  outliers  FAILED"]


def test_the_display_moves_on_a_terminal_alone():
    with open_display(Console(file=io.StringIO())) as display:
        assert isinstance(display, PlainDisplay)
    stream = io.StringIO()
    with open_display(Console(file=stream, force_terminal=True, width=100)) as live:
        assert isinstance(live, LiveDisplay)
        live.start("pets/train", "features")
        live.track(CONTEXT, "features")(5, 10)
        live.end("pets/train", "features", 2.0)
    assert "✓ pets/train  features" in stream.getvalue().replace("\x1b[32m", "").replace("\x1b[0m", "")


def test_the_runs_log_gets_a_line_every_ten_seconds():
    lines: list[str] = []
    clock = Clock()
    context: Any = SimpleNamespace(log=SimpleNamespace(info=lines.append))
    report = LogProgress(clock=clock).track(context, "features")
    report(0, 100)
    clock.now += 10
    report(50, 100)
    report(51, 100)
    assert lines == ["features: 50 of 100 images, 5 images/s, about 10 s left"]
