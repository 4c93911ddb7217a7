"""How a long step tells a person where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import dagster as dg

Report = Callable[[int, int], None]


class Progress(Protocol):
    """What an asset reports to: the event log by default, a live display on the command line."""

    def track(self, context: dg.AssetExecutionContext, step: str) -> Report:
        """A callback for a step: `report(done, total)`, callable from any thread, as often as you like."""


class LogProgress:
    """Writes a line to the run's log, at most every `every_seconds`.

    Args:
        every_seconds: least time between two lines.
        clock: seconds, monotonic.
    """

    def __init__(self, every_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every, self._clock = every_seconds, clock

    def track(self, context: dg.AssetExecutionContext, step: str) -> Report:
        """A callback that logs images done, rate and time left."""
        start = last = self._clock()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = self._clock()
            if now - last < self._every or not done:
                return
            last = now
            rate = done / max(now - start, 1e-9)
            left = (total - done) / rate
            context.log.info(f"{step}: {done:,} of {total:,} images, {rate:,.0f} images/s, about {left:,.0f} s left")

        return report
