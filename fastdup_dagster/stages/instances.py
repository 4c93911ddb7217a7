"""Which instances a run has: a listing of images joined with a user's annotations.

Image mode: one instance per file, in the order of the listing; annotated files that the listing does not have
come after it. Box mode: one instance per annotation row, in the order of the annotations; images without a box
come after them. Precomputed embeddings: one instance per annotation row, images need not exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fastdup_dagster.annotations import Annotations
from fastdup_dagster.schemas import ANNOTATIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import Entry, NothingFoundError, Source, display_name, local_path, to_uri
from fastdup_dagster.sources.folder import stat_entry
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.stages.image_manifest import boxed, entries_frame, instance_id, list_all, nothing_left, sliced

_SHOWN = 5


@dataclass(frozen=True)
class Instances:
    """What a run works on.

    Attributes:
        manifest: the table `image_manifest`.
        annotations: the table `annotations`, the user's columns after its own.
        notes: sentences for people: what was left out and why.
    """

    manifest: pl.DataFrame
    annotations: pl.DataFrame
    notes: list[str]


class NamedSource:
    """A source, and further files by name; tells which entry a name means.

    Args:
        source: what is listed.
        base: folder that relative names start at.
        more: names of annotated files; those that the source does not have are listed after it.
        apart: folder of results, whose pictures are no input even if it lies inside the listed folder.
    """

    def __init__(self, source: Source, base: Path, more: Sequence[str] = (), apart: Path | None = None) -> None:
        self._source = source
        inside = apart is not None and as_bytes(apart).startswith(as_bytes(base).rstrip(b"/") + b"/")
        self._apart = as_bytes(apart) + b"/" if apart is not None and inside else None
        self._base = base
        self._more = more
        self._by_path: dict[bytes, str] = {}
        self._names: set[str] = set()
        self.name = source.name

    @property
    def notes(self) -> list[str]:
        """What the source left out."""
        return self._source.notes

    def entries(self) -> Iterator[Entry]:
        """The source's entries in order, then the further files in theirs."""
        for entry in self._source.entries():
            if self._apart is None or not local_path(entry.uri).startswith(self._apart):
                yield self._noted(entry)
        for name in self._more:
            if self.resolve(name) is None:
                shown = display_name(os.fsencode(os.path.normpath(name)))
                yield self._noted(stat_entry(shown, self._paths(name)[0]))

    def resolve(self, name: str) -> str | None:
        """The `filename` of the entry that a name means: relative to `base`, absolute, or as the results spell it."""
        found = (self._by_path.get(path) for path in self._paths(name))
        return next(filter(None, found), name if name in self._names else None)

    def _paths(self, name: str) -> list[bytes]:
        return [as_bytes(self._base / name), as_bytes(name)]

    def _noted(self, entry: Entry) -> Entry:
        self._by_path.setdefault(local_path(entry.uri), entry.filename)
        self._names.add(entry.filename)
        return entry


def instances(
    source: NamedSource, settings: Settings, annotations: Annotations | None, subset: Sequence[str] | None
) -> Instances:
    """Lists the source and joins it with the annotations.

    Args:
        source: lists the annotated files too.
        settings: what is selected, and a `bounding_box` for all images.
        annotations: what the user knows, None if nothing.
        subset: names of the files to take, None for all.

    Raises:
        NothingFoundError: if nothing is listed, or nothing is left of it.
        ValueError: for a name of `subset` that is not in the listing.
    """
    listing = list_all(source, settings)
    files, notes = sliced(_chosen(listing.frame, source, subset), settings)
    if files.is_empty():
        raise NothingFoundError(nothing_left(f"{len(listing.frame)} images in {source.name}", settings))
    notes = listing.notes + notes
    if annotations is None:
        return Instances(boxed(files, settings), unannotated(files["index"]), notes)
    rows = [source.resolve(name) for name in annotations.filenames]
    if annotations.boxes is None:
        table = pl.DataFrame({"filename": rows, "row": range(len(rows))}, schema_overrides={"filename": pl.String})
        if (repeated := table.filter(pl.col("filename").is_not_null() & pl.col("filename").is_duplicated())).height:
            names = [annotations.filenames[row] for row in repeated["row"][:_SHOWN]]
            raise ValueError(f"annotations: several rows for one image: {names}")
        placed = files.select("index", "filename").join(table, on="filename", how="left", maintain_order="left")
        made = _annotated(files, placed["row"], annotations)
        made = Instances(boxed(made.manifest, settings), made.annotations, notes)
    else:
        made = _crops(listing.frame, files, rows, annotations, notes)
    left_out = len(annotations) - int(made.annotations["is_annotated"].sum())
    told = [f"{left_out} annotation rows are of files that are not part of this run"] if left_out else []
    return Instances(made.manifest, made.annotations, notes + told + annotations.notes)


def precomputed_instances(
    annotations: Annotations, base: Path, settings: Settings, subset: Sequence[str] | None
) -> Instances:
    """One instance per annotation row, without a look at the files.

    Raises:
        NothingFoundError: if nothing is left.
        ValueError: for a name of `subset` that is not annotated.
    """
    entries = [Entry(display_name(os.fsencode(n)), to_uri(as_bytes(base / n))) for n in annotations.filenames]
    frame = entries_frame(list(enumerate(entries)), None)
    if annotations.boxes is not None:
        frame = _with_boxes(frame, list(annotations.boxes), frame["index"])
    if subset is not None:
        _refuse_unknown([name for name in subset if name not in set(annotations.filenames)])
        frame = frame.filter(pl.Series([name in set(subset) for name in annotations.filenames]))
    frame, notes = sliced(frame, settings)
    if frame.is_empty():
        raise NothingFoundError(nothing_left(f"{len(annotations)} annotations", settings))
    made = _annotated(frame, frame["index"], annotations)
    return Instances(made.manifest, made.annotations, notes + annotations.notes)


def unannotated(index: pl.Series) -> pl.DataFrame:
    """The table `annotations` where there are none: nothing is missing then."""
    return ANNOTATIONS.frame(pl.DataFrame({"index": index}).with_columns(pl.lit(True).alias("is_annotated")))


def _chosen(frame: pl.DataFrame, source: NamedSource, subset: Sequence[str] | None) -> pl.DataFrame:
    if subset is None:
        return frame
    names = {str(name): source.resolve(str(name)) for name in subset}
    _refuse_unknown([name for name, found in names.items() if found is None])
    return frame.filter(pl.col("filename").is_in([name for name in names.values() if name is not None]))


def _refuse_unknown(names: list[str]) -> None:
    if names:
        raise ValueError(f"subset: {len(names)} names are not in the listing, the first: {names[:_SHOWN]}")


def _annotated(frame: pl.DataFrame, rows: pl.Series, annotations: Annotations) -> Instances:
    """Puts label, split and the user's columns beside the instances; `rows` are their rows in the annotations."""
    manifest = IMAGE_MANIFEST.frame(
        frame.with_columns(annotations.text(name).gather(rows).alias(name) for name in ("label", "split"))
    )
    table = pl.DataFrame({"index": frame["index"], "is_annotated": rows.is_not_null()})
    columns = [annotations.columns[name].gather(rows) for name in annotations.columns.columns]
    return Instances(manifest, ANNOTATIONS.frame(table.with_columns(columns), annotations.columns.columns), [])


def _crops(
    listing: pl.DataFrame, files: pl.DataFrame, rows: Sequence[str | None], annotations: Annotations, notes: list[str]
) -> Instances:
    """Box mode: the crops of the files in `files`, then those files without a box. Ids are those of the full run."""
    boxes = list(annotations.boxes or ())
    table = pl.DataFrame({"filename": rows, "row": range(len(rows))}, schema={"filename": pl.String, "row": pl.Int64})
    crops = table.join(files, on="filename", how="inner", maintain_order="left")
    crops = _with_boxes(crops, [boxes[row] for row in crops["row"]], crops["index"])
    crops = crops.with_columns(pl.col("row").alias("index"))
    bare = listing.filter(~pl.col("filename").is_in([name for name in rows if name is not None]))
    bare = bare.with_columns(pl.int_range(len(boxes), len(boxes) + pl.len()).alias("new"))
    bare = bare.join(files.select("index"), on="index", how="semi", maintain_order="left")
    reason = pl.lit("MISSING_ANNOTATION").alias("error_code"), pl.lit("an image without a box").alias("error")
    bare = bare.with_columns(
        pl.col("new").alias("index"),
        *(pl.when(pl.col("error_code").is_null()).then(r).otherwise(r.meta.output_name()) for r in reason),
    )
    columns = ["row", *IMAGE_MANIFEST.names]
    bare = bare.with_columns(pl.lit(None, dtype=pl.Int64).alias("row"))
    both = pl.concat([crops.select(columns), bare.select(columns)])
    made = _annotated(both, both["row"], annotations)
    return Instances(made.manifest, made.annotations, notes)


def _with_boxes(frame: pl.DataFrame, boxes: list[tuple[float, ...]], parents: pl.Series) -> pl.DataFrame:
    """Rows of files turned into crops of them."""
    ids = [instance_id(name, box) for name, box in zip(frame["filename"], boxes, strict=True)]
    return frame.with_columns(
        pl.Series("instance_id", ids, dtype=pl.String),
        pl.lit("crop").alias("media"),
        parents.alias("parent"),
        pl.Series("box", [list(box) for box in boxes], dtype=pl.List(pl.Float64)),
    )
