"""Where tables live: one Parquet object per table and partition, published whole or not at all.

`StagedTable` is a table being written beside the store, invisible to readers until `publish` renames it
into place. Rows are appended in blocks, so that memory does not grow with the table, and the digest is
taken on the way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from fastdup_dagster.digests import TableDigest
from fastdup_dagster.schemas import TableSchema
from fastdup_dagster.sources.locations import is_remote

ROW_GROUP_ROWS = 16_384
_STAGING = "_staging"
_PATIENCE = 5.0
_LINEAGE = "fastdup_dagster"


class DamagedFileError(OSError):
    """A file of rows does not hold what was written to it; the message names it, and what to do."""


class BusyError(RuntimeError):
    """Another run is at work on the same partition."""


def table_digest(schema: TableSchema, frame: pl.DataFrame, without: frozenset[str] | None = None) -> str:
    """Digest of schema and rows in the order given, without the columns that say where a row came from.

    Two tables with equal digests hold the same rows; it is the data version of an asset.

    Args:
        schema: the table's schema.
        frame: its rows; further columns count too.
        without: columns to leave out; by default `schema.volatile`.
    """
    table = frame.to_arrow()
    arrow = full_schema(schema, table.schema)
    digest = TableDigest(arrow, schema.volatile if without is None else without)
    digest.update(table.select(arrow.names).cast(arrow))
    return digest.hexdigest()


def full_schema(schema: TableSchema, given: pa.Schema) -> pa.Schema:
    """The table's Arrow schema, followed by the further columns of what is given (a user's annotations)."""
    known = set(schema.names)
    extra = [pa.field(field.name, _plain(field.type)) for field in given if field.name not in known]
    return pa.schema([*schema.arrow, *extra])


def _plain(dtype: pa.DataType) -> pa.DataType:
    """One spelling of text and lists, so that digests do not depend on which ones polars hands out."""
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype) or pa.types.is_dictionary(dtype):
        return pa.string()
    if pa.types.is_large_list(dtype) or pa.types.is_list(dtype):
        return pa.list_(_plain(dtype.value_type))
    return dtype


def _parquet_options(schema: pa.Schema, own: Collection[str]) -> dict[str, Any]:
    """How a table is written that has these columns of its own, besides those of its user."""
    columns = [column for field in schema for column in _columns(field.name, field.type)]
    # Statistics of what lists hold serve nobody.
    plain = [path for path, dtype in columns if path in schema.names]
    # Of vectors compression saves a twelfth, and doubles the time of reading.
    floats = {path for path, dtype in columns if path not in plain and pa.types.is_floating(dtype)}
    codecs = {path: "none" if path in floats else "zstd" for path, _ in columns}
    levels = {path: 1 for path, codec in codecs.items() if codec == "zstd"}
    # Bytes are four each without a dictionary. Of keys, paths and statistics, hardly any of which repeat, it costs more
    # than it saves; what users add are often words of a few kinds.
    few = [path for path, dtype in columns if dtype == pa.uint8() or path.split(".")[0] not in own]
    options = {"compression": codecs, "compression_level": levels, "write_statistics": plain}
    return options | {"use_dictionary": few or False, "write_page_checksum": True}


def _columns(path: str, dtype: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """What Parquet makes of an Arrow type: its columns' paths and types."""
    if pa.types.is_struct(dtype):
        for part in dtype:
            yield from _columns(f"{path}.{part.name}", part.type)
    elif pa.types.is_nested(dtype):
        yield from _columns(f"{path}.list.element", dtype.value_type)
    else:
        yield path, dtype


@contextlib.contextmanager
def checked(path: Path) -> Iterator[None]:
    """Tells a damaged file from a lack of memory, threads or rights, for which it is not to blame.

    Raises:
        DamagedFileError: in place of what reading the file within the context raises.
    """
    try:
        yield
    except (OSError, pa.ArrowInvalid, pl.exceptions.ComputeError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise DamagedFileError(
            f"{path} is damaged ({error}): have it made anew, with recompute=True (--recompute on the command line) or "
            "by removing the published table"
        ) from None  # what a run that failed is told to fail of is the innermost cause


def blocks_of(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Some columns of a Parquet file, one row group after another; raises `DamagedFileError` where one is not whole."""
    with checked(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for number in range(file.num_row_groups):
            yield pl.DataFrame(file.read_row_group(number, columns=list(columns)))


@dataclass(frozen=True)
class Lineage:
    """What a published table says of itself, beside its rows, so that it is no part of its digest.

    Attributes:
        digest: its `table_digest`; None where it was written without.
        made_of: digest of each table that it was made from, by name.
    """

    digest: str | None = None
    made_of: Mapping[str, str] = field(default_factory=dict)


class StagedTable:
    """A table being written; a context manager that discards what was not published.

    Args:
        schema: the table's schema, for an embedding with its width set.
        key: partition key, `<dataset>/<split>` or `<dataset>`.
        target: the path that `publish` puts it at.
        staging: folder for the unpublished file, on the same file system.
        made_of: digest of each table that it is made from, by name; kept in the file as `Lineage`.
    """

    def __init__(
        self, schema: TableSchema, key: str, target: Path, staging: Path, made_of: Mapping[str, str] | None = None
    ) -> None:
        self.schema, self.key, self.target = schema, key, target
        self._made_of = dict(made_of or {})
        self.rows = 0
        self.path = staging / f"{schema.name}-{uuid.uuid4().hex}.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._digest: TableDigest | None = None
        self._arrow: pa.Schema | None = None

    def write(self, rows: pl.DataFrame | pa.Table) -> None:
        """Appends rows; call it in id order. Further columns of the first ones are kept too."""
        table = rows.to_arrow() if isinstance(rows, pl.DataFrame) else rows
        writer = self._open(table.schema)
        if self._arrow is None or self._digest is None or not writer.is_open:
            raise RuntimeError(f"table {self.schema.name} [{self.key}] is closed")
        table = table.select(self._arrow.names).cast(self._arrow)
        for start in range(0, max(table.num_rows, 1), ROW_GROUP_ROWS):
            # In one piece: the digest and the file take each piece of each column for itself.
            group = table.slice(start, ROW_GROUP_ROWS).combine_chunks()
            self._digest.update(group)
            writer.write_table(group)
        self.rows += table.num_rows

    def _open(self, given: pa.Schema) -> pq.ParquetWriter:
        if self._writer is None:
            self._arrow = full_schema(self.schema, given)
            self._digest = TableDigest(self._arrow, self.schema.volatile)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, self._arrow, **_parquet_options(self._arrow, self.schema.names))
        return self._writer

    def close(self) -> None:
        """Completes the file (an empty table too). Nothing is visible to readers yet."""
        if self._digest is None:
            self.write(self.schema.frame())
        if self._writer is not None and self._writer.is_open:
            said = {"digest": self.digest, "made_of": self._made_of}
            self._writer.add_key_value_metadata({_LINEAGE: json.dumps(said)})
            self._writer.close()

    @property
    def digest(self) -> str:
        """`table_digest` of the rows written so far."""
        if self._digest is None:
            raise RuntimeError(f"table {self.schema.name} [{self.key}] has no rows yet: call close() first")
        return self._digest.hexdigest()

    def scan(self) -> pl.LazyFrame:
        """Reads the completed, still unpublished file."""
        return pl.scan_parquet(self.path, glob=False)

    def publish(self) -> str:
        """Moves the file to its place, and returns it: readers see the old table or the new one, never a part."""
        self.close()
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())  # else a crash of the machine may leave the name and not the rows
        self.path.replace(self.target)
        return str(self.target)

    def discard(self) -> None:
        """Removes what was not published."""
        if self._writer is not None:
            self._writer.close()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def __enter__(self) -> StagedTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def open_store(root: str | Path) -> TableStore:
    """The store at a folder, or at `s3://bucket/prefix`.

    Raises:
        RemoteError: if an object store cannot be used, saying what to do.
        ValueError: for a place that is none.
    """
    if not is_remote(str(root)):
        return TableStore(root)
    from fastdup_dagster.s3.store import S3TableStore  # here, because boto3 is slow to import and most runs are local

    return S3TableStore(str(root))


class TableStore:
    """The tables of a folder: `<root>/<table>/<key>.parquet`, pages in `<root>/pages/<key>/`.

    Attributes:
        root: the folder; of a store that is elsewhere, the one for unfinished work.
        name: what a person calls the store.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.name = str(root)

    def path(self, table: str, key: str) -> Path:
        """Where the published table of a partition is, or will be."""
        return self.root / table / f"{key}.parquet"

    def uri(self, table: str, key: str) -> str:
        """The same for any store, as a person writes it."""
        return str(self.path(table, key))

    def check_writable(self) -> None:
        """Makes the folder.

        Raises:
            OSError: if nothing can be written there.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root):
            pass

    def pages(self, key: str) -> Path:
        """Folder that the HTML pages of a partition or a data set are written to."""
        return self.root / "pages" / key

    def page_place(self, key: str, name: str = "") -> str:
        """Where a page, or their folder, is once it is published, as a person writes it."""
        return str(self.pages(key) / name)

    def page_uri(self, key: str, name: str) -> str:
        """The same as a URI."""
        return (self.pages(key).absolute() / name).as_uri()

    def page_url(self, key: str, name: str, seconds: int) -> str | None:
        """A link for whoever has it, that lives for some seconds; None where there is no such thing."""
        return None

    def page_bytes(self, path: str) -> bytes:
        """A published page by its path below `pages`, as a server gives it out.

        Raises:
            OSError: if it is not there, or cannot be read.
        """
        return (self.root / "pages" / path).read_bytes()

    def publish_pages(self, key: str, seconds: int = 0) -> None:
        """Makes the pages in `pages(key)` the only ones of that partition; in a folder they are in place already.

        Args:
            key: of the partition.
            seconds: how long links among them live, where they have to be signed.
        """

    def publish_page(self, key: str, name: str, seconds: int = 0) -> None:
        """The same for one page, which may stand beside others."""

    def remove_page(self, key: str, name: str) -> None:
        """Removes a published page, if it is there."""
        (self.pages(key) / name).unlink(missing_ok=True)

    def staging(self, table: str, key: str, *more: str) -> Path:
        """Folder for unfinished work on a table, beside the store and so on its file system."""
        return self.root.joinpath(_STAGING, table, key, *more)

    @contextlib.contextmanager
    def lock(self, table: str, key: str, patience: float | None = None) -> Iterator[None]:
        """Holds what works on a table of a partition apart from another process, or thread, that does the same.

        The system lets go of it when the process ends, however it ends.

        Args:
            table: a table, or the name of a step.
            key: of the partition.
            patience: seconds to wait for another one to finish; 5 by default.

        Raises:
            BusyError: if another one is still at work then.
        """
        path = self.root.joinpath(_STAGING, "_locks", table, f"{key}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=_PATIENCE if patience is None else patience)
        except Timeout as error:
            raise BusyError(
                f"another run is working on {table} of {key!r} in {self.name}: wait until it has ended"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def exists(self, table: str, key: str) -> bool:
        """Whether the table of that partition was published."""
        return self.path(table, key).is_file()

    def scan(self, table: str, key: str) -> pl.LazyFrame:
        """The published table, lazily.

        Raises:
            FileNotFoundError: naming table, partition and path.
        """
        if not self.exists(table, key):
            raise FileNotFoundError(f"table {table!r} of {key!r} is not there: {self.uri(table, key)}. Run it first")
        return self._scan(table, key)

    def _scan(self, table: str, key: str) -> pl.LazyFrame:
        return pl.scan_parquet(self.path(table, key), glob=False)

    def fetch(self, table: str, key: str, folder: Path) -> Path:
        """A local file of the published table: itself, or a copy in `folder` of one that is elsewhere."""
        return self.path(table, key)

    def read(self, table: str, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The published table in memory, or some of its columns."""
        frame = self.scan(table, key)
        return (frame if columns is None else frame.select(columns)).collect()

    def blocks(self, table: str, key: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Some columns of the published table, a block of rows at a time."""
        return blocks_of(self.path(table, key), columns)

    def lineage(self, table: str, key: str) -> Lineage:
        """The published table's own digest, and those of the tables that it was made from.

        Raises:
            FileNotFoundError: if it is not there.
        """
        return Lineage(**json.loads(self._metadata(table, key).get(_LINEAGE, "{}")))

    def _metadata(self, table: str, key: str) -> dict[str, str]:
        return pl.read_parquet_metadata(self.path(table, key))

    def stage(self, schema: TableSchema, key: str, made_of: Mapping[str, str] | None = None) -> StagedTable:
        """Opens a table for writing; it is invisible until published. `made_of`: see `Lineage`."""
        return StagedTable(schema, key, self.path(schema.name, key), self.staging(schema.name, key), made_of)

    def write(
        self, schema: TableSchema, key: str, frame: pl.DataFrame, made_of: Mapping[str, str] | None = None
    ) -> str:
        """Publishes a whole frame and returns its digest. `made_of`: see `Lineage`."""
        with self.stage(schema, key, made_of) as staged:
            staged.write(frame)
            staged.publish()
            return staged.digest

    def remove(self, table: str, key: str) -> None:
        """Removes a published table, if it is there."""
        self.path(table, key).unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Removes a folder and all in it; a folder that is gone is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that readers see the old bytes or all of the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace is the same call; the pair reads as what it is
    finally:
        temporary.unlink(missing_ok=True)
