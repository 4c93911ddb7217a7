"""The listing of a partition: one row per instance, ids fixed, nothing read yet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

import polars as pl

from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import IMAGE_EXTENSIONS, Entry, NothingFoundError, Source
from fastdup_dagster.storage import table_digest

MANIFEST_SETTINGS = ("find_regex", "min_file_size", "num_images", "min_offset", "max_offset")


@dataclass(frozen=True)
class Listing:
    """A manifest, and what was left out of it.

    Attributes:
        frame: the table `image_manifest`.
        notes: sentences for people: what was left out and why.
    """

    frame: pl.DataFrame
    notes: list[str]


def list_images(source: Source, settings: Settings, split: str | None = None) -> Listing:
    """Lists a source; ids are positions in the FULL listing, so that slices of it concatenate.

    Raises:
        NothingFoundError: if there is nothing to list, saying where and for which extensions it looked.
    """
    notes: list[str] = []
    entries = list(_selected(source.entries(), settings, notes))
    if not entries:
        wanted = ", ".join(sorted(IMAGE_EXTENSIONS))
        why = "; ".join(notes + source.notes)
        raise NothingFoundError(f"no images found in {source.name} (looked for {wanted}){'; ' + why if why else ''}")
    indexed = list(enumerate(entries))[settings.min_offset or 0 : settings.max_offset]
    indexed = indexed[: settings.num_images]
    if not indexed:
        raise NothingFoundError(
            f"no images left of {len(entries)} in {source.name}: "
            f"min_offset={settings.min_offset}, max_offset={settings.max_offset}"
        )
    if len(indexed) < len(entries):
        notes.append(f"{len(entries) - len(indexed)} of {len(entries)} are outside num_images, min_offset, max_offset")
    return Listing(_frame(indexed, split), source.notes + notes)


def manifest_version(frame: pl.DataFrame) -> str:
    """The listing's data version: its digest and every row's change token.

    The token (size, modification time or etag) is part of it, because bytes can change at equal size; a file
    that was only touched costs one read downstream, and everything below stays as it is.
    """
    return table_digest(IMAGE_MANIFEST, frame, without=frozenset({"uri"}))


def _selected(entries: Iterable[Entry], settings: Settings, notes: list[str]) -> Iterable[Entry]:
    pattern = re.compile(settings.find_regex)
    unmatched = small = 0
    for entry in entries:
        if settings.find_regex and not pattern.search(entry.filename):
            unmatched += 1
        elif entry.file_size is not None and entry.file_size < settings.min_file_size:
            small += 1
        else:
            yield entry
    if unmatched:
        notes.append(f"{unmatched} files do not match find_regex={settings.find_regex!r}")
    if small:
        notes.append(f"{small} files are under min_file_size={settings.min_file_size} bytes")


def _frame(indexed: list[tuple[int, Entry]], split: str | None) -> pl.DataFrame:
    columns = {
        field.name: [getattr(entry, field.name) for _, entry in indexed]
        for field in fields(Entry)
        if field.name != "mtime_ns"
    }
    frame = pl.DataFrame(
        {
            "index": [index for index, _ in indexed],
            "instance_id": [instance_id(entry.filename) for _, entry in indexed],
            "mtime": pl.Series([entry.mtime_ns for _, entry in indexed], dtype=pl.Int64),
            **columns,
        },
        schema_overrides={"error_code": pl.String, "error": pl.String, "file_size": pl.Int64},
    )
    return IMAGE_MANIFEST.frame(
        frame.with_columns(
            pl.lit(split, dtype=pl.String).alias("split"),
            pl.lit("image").alias("media"),
            pl.from_epoch("mtime", time_unit="ns").dt.replace_time_zone("UTC"),
        )
    )


def instance_id(filename: str, box: tuple[float, ...] = ()) -> str:
    """Name of an instance that lasts: BLAKE2b-128 of its path and box, 32 hex digits."""
    text = "\0".join([filename, *(repr(float(value)) for value in box)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
