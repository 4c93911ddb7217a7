"""Whether another machine sees the files that a pass is about; asked before it begins."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict


class Seen(TypedDict):
    """What a machine sees: whether the token is as written, and which of some files are not there."""

    host: str
    token: bool
    missing: list[str]


def look(token: str, text: str, files: list[str]) -> Seen:
    """Looks from this machine.

    Args:
        token: a file that whoever asks has just written.
        text: what is in it.
        files: others that are there where the pass was started.
    """
    try:
        same = Path(token).read_text(encoding="utf-8") == text
    except OSError:
        same = False
    return {"host": socket.gethostname(), "token": same, "missing": [file for file in files if not Path(file).exists()]}


def require_sight(seen: Iterable[Seen], folder: Path) -> None:
    """Refuses to begin where a machine does not see what it has to.

    Args:
        seen: what each machine answered.
        folder: of the unfinished work.

    Raises:
        RuntimeError: naming machines, folder or file, and what to do.
    """
    seen = list(seen)
    if blind := sorted({one["host"] for one in seen if not one["token"]}):
        raise RuntimeError(
            f"{', '.join(blind)} cannot see the folder of unfinished work, {folder}: put the store on a file system "
            "that all machines mount at the same path, or, for a store in S3, name such a folder in FASTDUP_SCRATCH"
        )
    for one in seen:
        if one["missing"]:
            raise RuntimeError(
                f"{one['host']} cannot see {one['missing'][0]}: mount the images at the same path on all machines, "
                "or put them into a bucket"
            )
