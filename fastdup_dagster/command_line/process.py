"""How a command behaves as a process."""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Any


def quiet() -> None:
    """No warnings of other people's code between our lines; SIGTERM ends a run in order, like Ctrl-C."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
