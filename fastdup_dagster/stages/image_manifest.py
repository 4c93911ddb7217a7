"""The listing of a partition: one row per instance, ids fixed, nothing read yet."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import polars as pl

from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.settings import Settings, is_detector, parse_box
from fastdup_dagster.sources import IMAGE_EXTENSIONS, Entry, NothingFoundError, Source
from fastdup_dagster.storage import table_digest

FindBoxes = Callable[[pl.DataFrame], pl.DataFrame]

MANIFEST_SETTINGS = (
    "find_regex",
    "min_file_size",
    "num_images",
    "min_offset",
    "max_offset",
    "bounding_box",
    "tar_only",
    "video_frames",
    "video_rate",
    "scene_threshold",
)
_BLOCK = 65_536


@dataclass(frozen=True)
class Listing:
    """A manifest, and what was left out of it.

    Attributes:
        frame: the table `image_manifest`.
        notes: sentences for people: what was left out and why.
    """

    frame: pl.DataFrame
    notes: list[str]


def list_images(
    source: Source, settings: Settings, split: str | None = None, find_boxes: FindBoxes | None = None
) -> Listing:
    """Lists a source; ids are positions in the FULL listing, so that slices of it concatenate.

    Args:
        source: what is listed.
        settings: what is selected, and a `bounding_box` for all images.
        split: name of the part of a data set that it is.
        find_boxes: makes the listing of what a detector finds in the images, see `detections.crops_of`; its ids count
            what was found.

    Raises:
        NothingFoundError: if there is nothing to list, saying where and for which extensions it looked.
    """
    whole = list_all(source, settings, split)
    frame, notes = sliced(whole.frame, settings)
    if frame.is_empty():
        raise NothingFoundError(nothing_left(f"{len(whole.frame)} images in {source.name}", settings))
    made = boxed(frame, settings) if find_boxes is None else IMAGE_MANIFEST.frame(find_boxes(frame))
    return Listing(made, whole.notes + notes)


def list_all(source: Source, settings: Settings, split: str | None = None) -> Listing:
    """The full listing, out of which `sliced` takes a part: whole images, whatever `bounding_box` says.

    Raises:
        NothingFoundError: if there is nothing to list, saying where and for which extensions it looked.
    """
    notes: list[str] = []
    selected = enumerate(_selected(source.entries(), settings, notes))
    # Block by block: a listing of millions is never held as objects, only as columns.
    frames = [entries_frame(block, split) for block in iter(lambda: list(itertools.islice(selected, _BLOCK)), [])]
    if not frames:
        wanted = ", ".join(sorted(IMAGE_EXTENSIONS))
        why = "; ".join(notes + source.notes)
        raise NothingFoundError(f"no images found in {source.name} (looked for {wanted}){'; ' + why if why else ''}")
    # Not made one piece of: that would take half as much memory again as the table.
    return Listing(pl.concat(frames, rechunk=False), source.notes + notes)


def sliced(frame: pl.DataFrame, settings: Settings) -> tuple[pl.DataFrame, list[str]]:
    """The rows that `min_offset`, `max_offset` and then `num_images` leave, and a note if that is not all."""
    part = frame.filter(pl.col("index") >= (settings.min_offset or 0))
    if settings.max_offset is not None:
        part = part.filter(pl.col("index") < settings.max_offset)
    part = part.head(settings.num_images or len(part))
    if len(part) == len(frame):
        return part, []
    return part, [f"{len(frame) - len(part)} of {len(frame)} are outside num_images, min_offset, max_offset"]


def nothing_left(of: str, settings: Settings) -> str:
    """The sentence for a slice that is empty."""
    return f"nothing left of {of}: min_offset={settings.min_offset}, max_offset={settings.max_offset}"


def boxed(frame: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Every row turned into a crop of its image, if the settings give the box; a detector finds its boxes later."""
    if settings.bounding_box is None or is_detector(settings.bounding_box):
        return frame
    box = parse_box(settings.bounding_box)
    return frame.with_columns(
        pl.Series("instance_id", [instance_id(name, box) for name in frame["filename"]], dtype=pl.String),
        pl.lit("crop").alias("media"),
        pl.col("index").alias("parent"),
        pl.Series("box", [list(box)] * len(frame), dtype=pl.List(pl.Float64)),
    )


def manifest_version(frame: pl.DataFrame) -> str:
    """The listing's data version: its digest and every row's change token.

    The token (size, modification time or etag) is part of it, because bytes can change at equal size; a file
    that was only touched costs one read downstream, and everything below stays as it is.
    """
    return table_digest(IMAGE_MANIFEST, frame, without=frozenset({"uri"}))


def version_with_names(digest: str, frame: pl.DataFrame) -> str:
    """Version of a table whose ids lead to the names and labels of a listing: its digest, and the listing's.

    Pages show names beside what such a table holds, so a renamed file makes them stale; a touched one does not.
    """
    listing = table_digest(IMAGE_MANIFEST, frame)
    return hashlib.blake2b(f"{digest} {listing}".encode(), digest_size=16).hexdigest()


def listing_changes(before: pl.DataFrame, after: pl.DataFrame) -> str:
    """How one listing of a partition differs from another, in words: `2 added, 1 removed, 5 changed`."""
    same = ["instance_id"]
    added = after.join(before, on=same, how="anti").height
    removed = before.join(after, on=same, how="anti").height
    token = [*same, "uri", "file_size", "mtime", "etag", "error_code"]
    changed = after.height - added - after.join(before, on=token, how="semi", nulls_equal=True).height
    counts = {"added": added, "removed": removed, "changed": changed}
    return (
        ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "other columns, or another order"
    )


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


def entries_frame(indexed: list[tuple[int, Entry]], split: str | None) -> pl.DataFrame:
    """The table `image_manifest` of entries and their ids, each a whole image, member or frame."""
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
        schema_overrides={
            "error_code": pl.String,
            "error": pl.String,
            "file_size": pl.Int64,
            "etag": pl.String,
            "timestamp": pl.Float64,
        },
    )
    return IMAGE_MANIFEST.frame(
        frame.with_columns(
            pl.lit(split, dtype=pl.String).alias("split"),
            pl.from_epoch("mtime", time_unit="ns").dt.replace_time_zone("UTC"),
        )
    )


def instance_id(filename: str, box: tuple[float, ...] = ()) -> str:
    """Name of an instance that lasts: BLAKE2b-128 of its path and box, 32 hex digits."""
    text = "\0".join([filename, *(repr(float(value)) for value in box)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
