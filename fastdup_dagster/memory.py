"""Keeps what a process holds near what it uses: allocators would otherwise keep what blocks of data once took."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

import pyarrow as pa


def settle_allocator() -> None:
    """Has Arrow use the allocator that the package asks for, where it was loaded before the package could ask.

    It stays so for the process; parts of Arrow in C++ keep the one that they began with. An allocator that the
    environment names stays, and any that is not of the kind that Arrow chooses by itself.
    """
    asked = os.environ.get("ARROW_DEFAULT_MEMORY_POOL")
    there = asked == "jemalloc" and asked in pa.supported_memory_backends()
    if there and pa.default_memory_pool().backend_name == "mimalloc":
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def trim_memory() -> None:
    """Gives freed memory back to the system; nothing happens where the C library has no call for it. Milliseconds.

    What Arrow has freed is among it only where it uses the C library's allocator; others give it back by themselves.
    """
    _trimmer()()


@functools.cache
def _trimmer() -> Callable[[], object]:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # not glibc
        return lambda: None
    return functools.partial(trim, 0)
