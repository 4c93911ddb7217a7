"""A small web server for galleries and reports on this machine: browsers refuse file:// links from the Dagster UI.

It gives out those of stores in a bucket too, with this process's credentials: their links need no signatures then.
"""

from __future__ import annotations

import functools
import io
import posixpath
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from fastdup_dagster.datasets import DatasetsError, check_name, load_dataset
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.storage import open_store

_HOSTS = ("127.0.0.1", "localhost")
_TYPES = {".html": "text/html; charset=utf-8", ".jpg": "image/jpeg"}


def pages_path(url: str, datasets: Path | None = None) -> Path | bytes | None:
    """The file that a URL path `/<dataset>/…` stands for, or the bytes of one in a bucket; None if there is none.

    Only pages and their pictures below the pages folder of a registered data set are given out, links resolved.
    """
    parts = [part for part in posixpath.normpath(unquote(urlsplit(url).path)).split("/") if part]
    if not parts or ".." in parts or PurePosixPath(parts[-1]).suffix not in _TYPES:
        return None
    try:
        store = open_store(load_dataset(check_name("data set", parts[0]), datasets).store_root())
        if is_remote(store.name):
            return store.page_bytes("/".join(parts))
        root = store.pages(parts[0])
        path = root.joinpath(*parts[1:]).resolve()
        allowed = path.is_relative_to(root.resolve()) and path.suffix in _TYPES and path.is_file()
    except (DatasetsError, OSError, ValueError):
        return None
    return path if allowed else None


class _Handler(SimpleHTTPRequestHandler):
    server_version = "fastdup-dagster"
    sys_version = ""
    extensions_map = _TYPES

    def __init__(self, *args: Any, datasets: Path | None, **kwargs: Any) -> None:
        self._datasets = datasets
        super().__init__(*args, **kwargs)

    def send_head(self) -> Any:
        """Answers for a page or a picture; everything else is not there."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host not in _HOSTS:  # a foreign name that was made to point here
            self.send_error(403, "this server answers to 127.0.0.1 and localhost only")
            return None
        found = pages_path(self.path, self._datasets)
        if found is None:
            self.send_error(404, "no such page")
            return None
        if isinstance(found, bytes):
            self.send_response(200)
            self.send_header("Content-Type", _TYPES[".html"])
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            return io.BytesIO(found)
        return super().send_head()

    def translate_path(self, path: str) -> str:
        """The file of a URL."""
        found = pages_path(path, self._datasets)
        return str(found) if isinstance(found, Path) else ""

    def end_headers(self) -> None:
        """Pages change under the same name, so a browser asks again."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is Dagster's."""


def pages_server(port: int, datasets: Path | None = None) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that has yet to be started with `serve_forever`.

    Raises:
        OSError: if the port is taken.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, datasets=datasets))
