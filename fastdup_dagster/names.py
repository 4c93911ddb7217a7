r"""Names of local files as results show them, and the files that a shown name means.

A path that is UTF-8 is shown as it is. Any other is shown as `display_name` writes it: its odd bytes as `\xNN`, and its
backslashes doubled.
"""

from __future__ import annotations

import os
import re

from fastdup_dagster.sources import display_name

_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])|\\\\")


def shown_name(path: bytes) -> str:
    """A path as results show it."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return display_name(path)


def raw_name(displayed: str) -> str:
    """The name that `display_name` wrote so, as Python's functions of files take it."""
    return _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)) if found[1] else "\\", displayed)


def spellings(name: str) -> tuple[str, ...]:
    """What a name may mean: itself, then what it is shown for."""
    return (name, raw_name(name)) if "\\" in name else (name,)


def existing(name: str) -> str:
    """The spelling of a name that there is a file of; the name itself if there is none."""
    return next((spelling for spelling in spellings(name) if os.path.exists(spelling)), name)  # noqa: PTH110 any bytes


def printable(name: str) -> str:
    """A name as text that UTF-8 can hold."""
    return shown_name(os.fsencode(name)) if any("\ud800" <= c <= "\udfff" for c in name) else name
