"""Tables and pages in a bucket: `<prefix>/<table>/<key>.parquet`, `<prefix>/pages/<key>/<page>.html`.

A table is written into a local scratch folder, where its gate reads it (a multipart upload cannot be read before it is
complete), and uploaded when it is published: one object, which appears whole. Part files of an unfinished decode pass
stay in that scratch folder, under their fingerprint, so a killed run goes on where it stopped on the same machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import polars as pl

from fastdup_dagster.home import dagster_home
from fastdup_dagster.s3.lock import ObjectLock, TakenError
from fastdup_dagster.s3.objects import Objects, below
from fastdup_dagster.s3.pages import with_pictures, with_plain_links, with_signed_links
from fastdup_dagster.schemas import TableSchema
from fastdup_dagster.sources.locations import Location, location
from fastdup_dagster.sources.remote_errors import RemoteError
from fastdup_dagster.stages.pages import IMAGE_FOLDER
from fastdup_dagster.storage import ROW_GROUP_ROWS, BusyError, StagedTable, TableStore, remove_tree

_Read = TypeVar("_Read")

_PATIENCE = 5.0
_READS = 4
_HTML = "text/html; charset=utf-8"


class UploadedTable(StagedTable):
    """A table that is written to the scratch folder and uploaded when it is published."""

    def __init__(
        self,
        schema: TableSchema,
        key: str,
        staging: Path,
        objects: Objects,
        place: Location,
        made_of: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(schema, key, staging / "unused", staging, made_of)
        self._objects, self._place = objects, place

    def publish(self) -> str:
        """Uploads the file: readers see the old table or the new one, never a part."""
        self.close()
        self._objects.upload(self.path, self._place)
        self.path.unlink()
        return self._place.text


class S3TableStore(TableStore):
    """The tables of a bucket, or of a prefix in it.

    Args:
        root: `s3://bucket/prefix`, or `minio://server/bucket/prefix`.
        scratch: local folder for unfinished work; by default one below FASTDUP_SCRATCH, or `scratch` in
            the Dagster home, named after the root.
    """

    def __init__(self, root: str, scratch: Path | None = None) -> None:
        self._place = location(root.rstrip("/"))
        name = hashlib.blake2b(self._place.text.encode(), digest_size=8).hexdigest()
        folder = os.environ.get("FASTDUP_SCRATCH") or dagster_home() / "scratch"
        super().__init__(scratch or Path(folder) / name)
        self.name = self._place.text
        self._objects = Objects(self._place.server)

    def path(self, table: str, key: str) -> Path:
        """There is none.

        Raises:
            TypeError: always; `uri` says where the table is, `fetch` gives a local copy.
        """
        raise TypeError(f"{self.uri(table, key)} is no local file: take uri() or fetch()")

    def uri(self, table: str, key: str) -> str:
        """Where the published table of a partition is, or will be."""
        return self._table(table, key).text

    def _table(self, table: str, key: str) -> Location:
        return below(self._place, table, f"{key}.parquet")

    def check_writable(self) -> None:
        """Writes a small object and deletes it, so that a run that could not publish does not begin.

        Raises:
            RemoteError: saying what is wrong, and what to do.
        """
        super().check_writable()
        probe = below(self._place, "_staging", f"_probe-{uuid.uuid4().hex}")
        self._objects.put(probe, b"")
        self._objects.delete([probe])

    def fetch(self, table: str, key: str, folder: Path) -> Path:
        """Downloads the published table into a folder."""
        path = folder / f"{table}.parquet"
        self._objects.download(self._table(table, key), path)
        return path

    def exists(self, table: str, key: str) -> bool:
        """Whether the table of that partition was published."""
        return self._objects.head(self._table(table, key)) is not None

    def _scan(self, table: str, key: str) -> pl.LazyFrame:
        options, credentials = self._objects.polars_options(self._place)
        return pl.scan_parquet(
            self._plain_uri(table, key), glob=False, storage_options=options, credential_provider=credentials
        )

    def _metadata(self, table: str, key: str) -> dict[str, str]:
        if not self.exists(table, key):
            raise FileNotFoundError(f"table {table!r} of {key!r} is not there: {self.uri(table, key)}. Run it first")
        options, credentials = self._objects.polars_options(self._place)
        uri = self._plain_uri(table, key)
        return _patiently(
            lambda: pl.read_parquet_metadata(uri, storage_options=options, credential_provider=credentials), uri
        )

    def _plain_uri(self, table: str, key: str) -> str:
        return f"s3://{self._place.bucket}/{self._table(table, key).key}"

    def read(self, table: str, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The published table in memory, or some of its columns.

        Raises:
            FileNotFoundError: if it was not published.
            RemoteError: if it cannot be read, after some attempts.
        """
        frame = self.scan(table, key)
        return _patiently((frame if columns is None else frame.select(columns)).collect, self.uri(table, key))

    def blocks(self, table: str, key: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Some columns of the published table, a block of rows at a time."""
        frame, what = self.scan(table, key).select(columns), self.uri(table, key)
        rows = _patiently(frame.select(pl.len()).collect, what).item()
        for start in range(0, rows, ROW_GROUP_ROWS):
            yield _patiently(frame.slice(start, ROW_GROUP_ROWS).collect, what)

    def stage(self, schema: TableSchema, key: str, made_of: Mapping[str, str] | None = None) -> StagedTable:
        """Opens a table for writing; it is invisible until published. `made_of`: see `Lineage`."""
        place = self._table(schema.name, key)
        return UploadedTable(schema, key, self.staging(schema.name, key), self._objects, place, made_of)

    def remove(self, table: str, key: str) -> None:
        """Removes a published table, if it is there."""
        self._objects.delete([self._table(table, key)])

    @contextlib.contextmanager
    def lock(self, table: str, key: str, patience: float | None = None) -> Iterator[None]:
        """As in a folder; and other machines are kept apart too, by an object that expires a minute after a crash."""
        wait = _PATIENCE if patience is None else patience
        lock = ObjectLock(self._objects, below(self._place, "_staging", "_locks", table, f"{key}.lock"))
        with super().lock(table, key, patience), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock.held(wait))
            except TakenError as error:
                raise BusyError(
                    f"another machine is working on {table} of {key!r} in {self.name} ({error}): wait until it has "
                    "ended; if it was killed, its lock expires within a minute"
                ) from error
            yield

    def page_place(self, key: str, name: str = "") -> str:
        """Where a page, or their folder, is once it is published, as a person writes it."""
        return self._page(key, name).text

    def page_uri(self, key: str, name: str) -> str:
        """The same as a URI."""
        return self._page(key, name).uri

    def page_url(self, key: str, name: str, seconds: int) -> str | None:
        """A signed URL of a page; None if it is to live no second."""
        return self._objects.sign(self._page(key, name), seconds) if seconds else None

    def _page(self, key: str, name: str) -> Location:
        return below(self._place, "pages", *filter(None, (key, name)))

    def page_bytes(self, path: str) -> bytes:
        """A published page by its path below `pages`, as a server gives it out: its links lead to the same server.

        Raises:
            OSError: if it is not there, or cannot be read.
        """
        html = self._objects.store.get(self._page("", path)).decode()
        before = urlsplit(self._objects.sign(self._page("", "x"), 1)).path.removesuffix("/x")
        return with_plain_links(html, before).encode()

    def publish_pages(self, key: str, seconds: int = 0) -> None:
        """Uploads the pages of a partition, the report last, and deletes pages that are no longer made.

        Those of another key that is below this one, as a split's is below its data set's, stay.
        """
        folder = self.pages(key)
        pages = sorted(folder.glob("*.html"), key=lambda page: (page.stem == "report", page.name))
        own = self._page(key, "").folder
        before = {p.key: p for p in self._objects.below(own) if "/" not in p.key.removeprefix(own.key)}
        for page in pages:
            self._upload(key, page, seconds)
            before.pop(self._page(key, page.name).key, None)
        self._objects.delete(before.values())
        for page in pages:
            page.unlink()
        remove_tree(folder / IMAGE_FOLDER)
        with contextlib.suppress(OSError):  # it holds the folder of another key
            folder.rmdir()

    def publish_page(self, key: str, name: str, seconds: int = 0) -> None:
        """Uploads one page."""
        page = self.pages(key) / name
        self._upload(key, page, seconds)
        page.unlink()

    def _upload(self, key: str, page: Path, seconds: int) -> None:
        place = self._page(key, page.name)
        html = with_pictures(page.read_text(encoding="utf-8"), page.parent)
        if seconds:
            bucket = Location(place.server, place.bucket, "")
            html = with_signed_links(html, place.key, lambda target: self._objects.sign(below(bucket, target), seconds))
        self._objects.put(place, html.encode(), _HTML)

    def remove_page(self, key: str, name: str) -> None:
        """Removes one page, if it is there."""
        self._objects.delete([self._page(key, name)])


def _patiently(read: Callable[[], _Read], what: str) -> _Read:
    """Reads by polars, which retries requests, but not a body that ends early."""
    for attempt in itertools.count(1):
        try:
            return read()
        except (OSError, pl.exceptions.ComputeError) as error:
            if attempt == _READS:
                raise RemoteError(f"{what} cannot be read, {_READS} times in a row: {error}") from error
            time.sleep(0.2 * 2**attempt)
    raise AssertionError("count has no end")
