"""What a provider makes of a model, kept for the user's next process: `fastdup_dagster/compiled/<key>/` in their cache.

Whatever cannot be read, written or trusted is made anew, without a word; any folder may be removed at any time. A model
is checked by its hash, what was compiled of it cannot be: so nobody but the user may be able to write it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdup_dagster.models.store import cache_folder
from fastdup_dagster.storage import write_atomically

_MOST_MODELS = 8
_DIGEST_BYTES = 32


class CompiledModel:
    """The files of one model, by name.

    Args:
        made_of: all that decides them, as plain values: the model's hash, the provider's version, the CPU.
        root: folder of the cache.
    """

    def __init__(self, made_of: Mapping[str, Any], root: Path | None = None) -> None:
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:32]
        self._folder: Path | None = None
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
            self._folder = (root or cache_folder() / "compiled") / key
            for folder in (self._folder.parent, self._folder):  # the mode is that of the last one alone
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not all(map(_is_private, (self._folder, self._folder.parent))):
                self._folder = None

    def read(self, name: str) -> bytes | None:
        """What was kept under a name, None if nothing was, or not whole."""
        if self._folder is None:
            return None
        try:
            data = (self._folder / name).read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(self._folder)
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def keep(self, name: str, content: bytes) -> None:
        """Keeps bytes under a name; of other models those that were not used for the longest time give way."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            write_atomically(self._folder / name, hashlib.sha256(content).digest() + content)
            others = [path for path in self._folder.parent.iterdir() if path.is_dir() and path != self._folder]
            others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for folder in others[_MOST_MODELS - 1 :]:
                shutil.rmtree(folder, ignore_errors=True)


def _is_private(folder: Path) -> bool:
    """Whether only this user can write into a folder; where the system does not say, it is theirs."""
    if not hasattr(os, "geteuid"):
        return True
    status = folder.lstat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
