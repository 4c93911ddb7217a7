"""Keeps what a process holds near what it uses: allocators would otherwise keep what blocks of data once took."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator

import pyarrow as pa


@contextlib.contextmanager
def frugal_memory() -> Iterator[None]:
    """Has Arrow take memory from the system, which can get it back; its own pool keeps what it once took."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


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
