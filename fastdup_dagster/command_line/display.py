"""Live progress of a run: step, images/s and time left, as a moving bar on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

from fastdup_dagster.resources.progress import Report

_PLAIN_SECONDS = 10.0


class Display(Protocol):
    """Where the steps of a run are shown."""

    def start(self, partition: str, step: str) -> None:
        """A step begins."""

    def end(self, partition: str, step: str, seconds: float | None) -> None:
        """A step ended; `seconds` is None if it failed."""

    def track(self, context: dg.AssetExecutionContext, step: str) -> Report:
        """A callback for images done and images to do."""


class PlainDisplay:
    """One line per step, and one every ten seconds within a long one.

    Args:
        say: prints a line.
        clock: seconds, monotonic.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock

    def start(self, partition: str, step: str) -> None:
        """Says nothing: the line comes when there is something to tell."""

    def end(self, partition: str, step: str, seconds: float | None) -> None:
        """Says how long the step took, or that it failed."""
        self._say(f"{partition}  {step}  {'FAILED' if seconds is None else f'{seconds:.1f} s'}")

    def track(self, context: dg.AssetExecutionContext, step: str) -> Report:
        """Says images done, rate and time left, every ten seconds."""
        partition, begun = context.partition_key, self._clock()
        last = begun

        def report(done: int, total: int) -> None:
            nonlocal last
            now = self._clock()
            if now - last < _PLAIN_SECONDS or not done:
                return
            last = now
            rate = done / (now - begun)
            left = (total - done) / rate
            self._say(f"{partition}  {step}  {done:,} of {total:,} images, {rate:,.0f} images/s, {left:,.0f} s left")

        return report


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} images/s" if speed and task.total else "")


class LiveDisplay:
    """A moving line for the running step; finished steps stay above it.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Rate(),
            Remaining(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, visible=False)

    def start(self, partition: str, step: str) -> None:
        """Shows the step as running."""
        self._progress.reset(self._task, total=None, description=f"{partition}  {step}", visible=True)

    def end(self, partition: str, step: str, seconds: float | None) -> None:
        """Leaves a line for the step."""
        self._progress.update(self._task, visible=False)
        mark, took = ("[red]✗[/red]", "failed") if seconds is None else ("[green]✓[/green]", f"{seconds:.1f} s")
        self._console.print(f"{mark} {partition}  {step}  [dim]{took}[/dim]", highlight=False)

    def track(self, context: dg.AssetExecutionContext, step: str) -> Report:
        """Moves the bar."""

        def report(done: int, total: int) -> None:
            self._progress.update(self._task, completed=done, total=total)

        return report

    @contextmanager
    def running(self) -> Iterator[None]:
        """Draws while the block runs."""
        with self._progress:
            yield


def display_logger(display: Display) -> dg.LoggerDefinition:
    """A Dagster logger that turns a run's events into steps on a display, and drops everything else."""

    class Events(logging.Handler):
        def __init__(self, partition: str) -> None:
            super().__init__()
            self._partition = partition

        def emit(self, record: logging.LogRecord) -> None:
            event = getattr(record, "dagster_meta", {}).get("dagster_event")
            if not isinstance(event, dg.DagsterEvent) or event.step_key is None:
                return
            if event.event_type is dg.DagsterEventType.STEP_START:
                display.start(self._partition, event.step_key)
            elif event.event_type is dg.DagsterEventType.STEP_SUCCESS:
                display.end(self._partition, event.step_key, event.step_success_data.duration_ms / 1000)
            elif event.event_type is dg.DagsterEventType.STEP_FAILURE:
                display.end(self._partition, event.step_key, None)

    @dg.logger(config_schema={"partition": str}, description="the command line's live display")
    def live(context: dg.InitLoggerContext) -> logging.Logger:
        made = logging.Logger("fastdup_dagster.live", logging.DEBUG)
        made.addHandler(Events(context.logger_config["partition"]))
        return made

    return live


@contextmanager
def terminal() -> Iterator[Console]:
    """Standard error as it is now: Dagster redirects the real one into its compute logs while a step runs."""
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as stream:
        yield Console(file=stream)


@contextmanager
def open_display(console: Console) -> Iterator[Display]:
    """A moving display on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        yield PlainDisplay(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
        return
    live = LiveDisplay(console)
    with live.running():
        yield live
