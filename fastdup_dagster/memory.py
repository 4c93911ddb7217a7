"""Keeps what a process holds near what it uses: the C library would otherwise keep what blocks of data once took."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def trim_memory() -> None:
    """Gives freed memory back to the system; nothing happens where the C library has no call for it. Milliseconds."""
    _trimmer()()


@functools.cache
def _trimmer() -> Callable[[], object]:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # not glibc
        return lambda: None
    return functools.partial(trim, 0)
