"""How a command behaves as a process."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

# Allocations between two looks for cyclic garbage. Python's 700 would walk the millions of objects of Dagster and Great
# Expectations several times in a run, which takes a second and finds nothing.
_ALLOCATIONS = 50_000


def quiet() -> None:
    """No warnings of other people's code between our lines; SIGTERM ends a run in order, like Ctrl-C."""
    gc.set_threshold(_ALLOCATIONS)
    # Nor is there a use in taking those objects apart when the process ends. Whoever must tidy up does it before.
    atexit.register(gc.freeze)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


@contextmanager
def usage_errors() -> Iterator[None]:
    """What is wrong with the input ends the command with exit code 2."""
    try:
        yield
    except (NotImplementedError, OSError, TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
