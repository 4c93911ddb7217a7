"""How a command behaves as a process."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


def quiet() -> None:
    """No warnings of other people's code between our lines; SIGTERM ends a run in order, like Ctrl-C."""
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
