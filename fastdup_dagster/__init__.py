"""Finds what is wrong with an image data set: copies, leaks, outliers, broken, blurred, dark and bright images.

`import fastdup_dagster as fastdup` gives the V1 API. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import gc
import importlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdup_dagster import constants as FD
    from fastdup_dagster.engine import Fastdup, create, init_search, run, search, vector_search
    from fastdup_dagster.fastdup_controller import FastdupController
    from fastdup_dagster.fastdup_galleries import FastdupVisualizer, create_duplicates_gallery
    from fastdup_dagster.v1_files import load

__all__ = [
    "FD",
    "Fastdup",
    "FastdupController",
    "FastdupVisualizer",
    "create",
    "create_duplicates_gallery",
    "init_search",
    "load",
    "run",
    "search",
    "vector_search",
]

_PLACES = {
    "Fastdup": "engine",
    "FastdupController": "fastdup_controller",
    "FastdupVisualizer": "fastdup_galleries",
    "create": "engine",
    "create_duplicates_gallery": "fastdup_galleries",
    "init_search": "engine",
    "load": "v1_files",
    "run": "engine",
    "search": "engine",
    "vector_search": "engine",
}

# Arrow looks when it is loaded. Its own choice, mimalloc, keeps what threads took that are gone, some 50 MB of a pass,
# and the system's has it ask for new pages with each block. Elsewhere, on ARM too, Arrow is made without jemalloc.
if sys.platform == "linux" and platform.machine() == "x86_64":
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")

try:
    __version__ = version("fastdup-dagster")
except PackageNotFoundError:  # the sources alone, not installed
    __version__ = "0"


def __getattr__(name: str) -> Any:
    if name == "FD":
        return importlib.import_module("fastdup_dagster.constants")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(_imported(f"fastdup_dagster.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


# Some versions of Python begin with a few hundred objects frozen; who freezes what is imported has tens of thousands.
_FROZEN_BY_USERS = 2_000


def _imported(name: str) -> ModuleType:
    """A module. Of what an import makes nothing is garbage: the collector would look through it a hundred times."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if gc.get_freeze_count() < _FROZEN_BY_USERS:  # else it would let go of what the user has frozen
            # Back and forth, objects count as old: they are not the first that the next collections look through.
            gc.freeze()
            gc.unfreeze()
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
