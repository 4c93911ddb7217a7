"""What a provider makes of a model, kept for the next process: `<FASTDUP_MODELS>/.compiled/<key>/`.

It is a cache. Whatever cannot be read, written or believed is made anew, without a word; any folder of it may be
removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdup_dagster.models.store import default_root
from fastdup_dagster.storage import write_atomically

_FOLDER = ".compiled"
_MOST_MODELS = 8
_DIGEST_BYTES = 32


class CompiledModel:
    """The files of one model, by name.

    Args:
        made_of: all that decides them, as plain values: the model's hash, the provider's version, the CPU.
        root: folder of the cache; by default in the model store.
    """

    def __init__(self, made_of: Mapping[str, Any], root: Path | None = None) -> None:
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:32]
        self._root = root or default_root() / _FOLDER
        self._folder = self._root / key

    def read(self, name: str) -> bytes | None:
        """What was kept under a name, None if nothing was, or not whole."""
        try:
            data = (self._folder / name).read_bytes()
        except OSError:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def keep(self, name: str, content: bytes) -> None:
        """Keeps bytes under a name; the models kept the longest ago give way."""
        with contextlib.suppress(OSError):
            write_atomically(self._folder / name, hashlib.sha256(content).digest() + content)
            kept = sorted(self._root.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
            for folder in kept[_MOST_MODELS:]:
                shutil.rmtree(folder, ignore_errors=True)
