"""Copies of remote files in a local folder: made once, kept apart from a user's own files, removed on request.

The folder holds a log with a line for each copy, written before the copy takes its name: what the log does not name was
put there by somebody else and is neither replaced nor removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastdup_dagster.sources.locations import location_of
from fastdup_dagster.sources.object_store import CONNECTIONS, object_store
from fastdup_dagster.sources.opening import BLOCK_BYTES, open_binary
from fastdup_dagster.sources.paths import container_kind

_LOG = ".fastdup_dagster_copies.jsonl"
_UNSAFE = re.compile(r"[^\w .()+,=@~-]|^\.+$|^$")
_LONGEST = 120  # characters of a part of a path: bytes are up to four times as many, and 255 is the limit


class Copies:
    """The copies in a folder.

    Args:
        root: the folder; made when the first copy is.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._known = self._read()

    def make(self, files: Iterable[tuple[str, str | None, int | None]]) -> Iterator[Path | OSError]:
        """Copies of files, or why there is none; in order, many at a time.

        Args:
            files: URI, etag and size (None if unknown) of each. One that is there from the same content is not copied
                again.
        """
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="copy") as pool:
            yield from pool.map(lambda file: self._make(*file), files)

    def remove(self, paths: Iterable[Path]) -> None:
        """Removes copies, and folders that are empty then; whatever is no copy stays."""
        for path in paths:
            if self._known.pop(self._name(path), None) is not None:
                path.unlink(missing_ok=True)
                self._remove_empty(path.parent)
        if not self._known:
            (self._root / _LOG).unlink(missing_ok=True)
            self._remove_empty(self._root)

    def place(self, uri: str) -> Path:
        """Where the copy of a file goes: always below the folder, whatever the key is."""
        place = location_of(uri)
        parts = [*filter(None, [place.server]), place.bucket, *place.key.split("/")]
        return self._root.joinpath(*map(_safe, parts))

    def _make(self, uri: str, etag: str | None, size: int | None) -> Path | OSError:
        path = self.place(uri)
        try:
            known = self._known.get(self._name(path))
            if path.is_file() and known == etag and etag is not None and size in (None, path.stat().st_size):
                return path
            if known is None and os.path.lexists(path):
                return FileExistsError(f"{path} is no copy that a run made: move it away")
            self._write(path, uri, etag)
        except OSError as error:
            return error
        return path

    def _write(self, path: Path, uri: str, etag: str | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            if container_kind(uri.encode()):  # may be larger than memory
                with open_binary(uri) as whole, part.open("wb") as file:
                    shutil.copyfileobj(whole, file, BLOCK_BYTES)
            else:
                place = location_of(uri)
                part.write_bytes(object_store(place.server).get(place))
            with self._lock:
                self._known[self._name(path)] = etag or ""
                with (self._root / _LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps([self._name(path), etag or ""]) + "\n")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root.parent:
            try:
                folder.rmdir()
            except OSError:  # something is in it
                return
            folder = folder.parent

    def _read(self) -> dict[str, str]:
        known = {}
        try:
            lines = (self._root / _LOG).read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        for line in lines:
            try:
                name, etag = json.loads(line)
            except ValueError:  # the last one of a run that was killed
                continue
            known[name] = etag
        return known


def _safe(part: str) -> str:
    """A part of a key as a file's name; two parts that differ get names that differ."""
    if len(part) <= _LONGEST and not _UNSAFE.search(part):
        return part
    end = part[-10:].rpartition(".")
    suffix = f".{end[2]}" if end[1] and end[2].isalnum() else ""
    digest = hashlib.blake2b(part.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return f"{_UNSAFE.sub('_', part)[:40].strip('. ') or 'part'}_{digest}{suffix}"
