"""Which instances a run has: a listing of images joined with a user's annotations.

Image mode: one instance per file, in the order of the listing; annotated files that the listing does not have
come after it. Box mode: one instance per annotation row, in the order of the annotations; images without a box
come after them. Precomputed embeddings: one instance per annotation row, images need not exist.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fastdup_dagster.annotations import Annotations
from fastdup_dagster.names import spellings
from fastdup_dagster.schemas import ANNOTATIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import Entry, NothingFoundError, display_name, is_remote
from fastdup_dagster.sources.locations import place_in, uri_in
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.stages.detections import FOUND_COLUMNS
from fastdup_dagster.stages.image_manifest import (
    FindBoxes,
    boxed,
    entries_frame,
    instance_id,
    list_all,
    nothing_left,
    sliced,
)
from fastdup_dagster.stages.named_source import NamedSource

_SHOWN = 5
_NO_BOX = "an image without a box"
Box = tuple[float, ...]
# What a source's note says where it left out archives or videos beside images.
_MIXED = "archives or videos"


@dataclass(frozen=True)
class Instances:
    """What a run works on.

    Attributes:
        manifest: the table `image_manifest`.
        annotations: the table `annotations`, the user's columns after its own.
        notes: sentences for people: what was left out and why.
        warnings: what a person ought to be told unasked.
    """

    manifest: pl.DataFrame
    annotations: pl.DataFrame
    notes: list[str]
    warnings: list[str] = field(default_factory=list)


def instances(
    source: NamedSource,
    settings: Settings,
    annotations: Annotations | None,
    subset: Sequence[str] | None,
    find_boxes: FindBoxes | None = None,
) -> Instances:
    """Lists the source and joins it with the annotations.

    Args:
        source: lists the annotated files too.
        settings: what is selected, and a `bounding_box` for all images.
        annotations: what the user knows, None if nothing.
        subset: names of the files to take, None for all.
        find_boxes: makes the listing of what a detector finds in the images, see `detections.crops_of`.

    Raises:
        NothingFoundError: if nothing is listed, or nothing is left of it.
        ValueError: for a name of `subset` that is not in the listing.
    """
    listing = list_all(source, settings)
    files, notes = sliced(_chosen(listing.frame, source, subset), settings)
    if files.is_empty():
        raise NothingFoundError(nothing_left(f"{len(listing.frame)} images in {source.name}", settings))
    notes = listing.notes + notes
    warned = [note for note in listing.notes if _MIXED in note]
    if annotations is None:
        if find_boxes is not None:
            return Instances(*_found(find_boxes(files), None), notes, warned)
        return Instances(boxed(files, settings), unannotated(files["index"]), notes, warned)
    rows = [source.resolve(name) for name in annotations.filenames]
    if annotations.boxes is None:
        table = pl.DataFrame({"filename": rows, "row": range(len(rows))}, schema_overrides={"filename": pl.String})
        if (repeated := table.filter(pl.col("filename").is_not_null() & pl.col("filename").is_duplicated())).height:
            names = [annotations.filenames[row] for row in repeated["row"][:_SHOWN]]
            raise ValueError(f"annotations: several rows for one image: {names}")
        placed = files.select("index", "filename").join(table, on="filename", how="left", maintain_order="left")
        made = _annotated(files, placed["row"], annotations)
        if find_boxes is not None:
            made = Instances(*_found(find_boxes(made.manifest), made.annotations), notes)
        else:
            made = Instances(boxed(made.manifest, settings), made.annotations, notes)
    else:
        made = _crops(listing.frame, files, rows, annotations, notes)
    taken = set(files["filename"])
    left_out = sum(name not in taken for name in rows)
    told = [f"{left_out} annotation rows are of files that are not part of this run"] if left_out else []
    if len(source.missing) == len(set(annotations.filenames)):
        places = ", ".join(map(str, source.bases))
        warned.append(f"no annotation names a file that is there: {source.missing[:_SHOWN]}; looked in {places}")
    return Instances(made.manifest, made.annotations, notes + told + annotations.notes, warned)


def precomputed_instances(
    annotations: Annotations, base: str | Path, settings: Settings, subset: Sequence[str] | None
) -> Instances:
    """One instance per annotation row, without a look at the files.

    Raises:
        NothingFoundError: if nothing is left.
        ValueError: for a name of `subset` that is not annotated.
    """
    names = [_meant(base, name) for name in annotations.filenames]
    entries = [Entry(display_name(os.fsencode(name)), uri_in(base, name)) for name in names]
    frame = entries_frame(list(enumerate(entries)), None)
    taken = pl.Series([bool(re.search(settings.find_regex, name)) for name in names])
    skipped = len(taken) - int(taken.sum())
    unmatched = [f"{skipped} files do not match find_regex={settings.find_regex!r}"] if skipped else []
    if annotations.boxes is not None:
        frame = _with_boxes(frame, list(annotations.boxes), frame["index"])
    if subset is not None:
        paths = [place_in(base, name) for name in names]
        wanted = {name: {place_in(base, _meant(base, name)), place_in(base, name)} for name in subset}
        _refuse_unknown([name for name, meant in wanted.items() if not meant & set(paths)])
        every = set().union(*wanted.values())
        taken &= pl.Series([path in every for path in paths])
    frame = frame.filter(taken)
    frame, notes = sliced(frame, settings)
    if frame.is_empty():
        raise NothingFoundError(nothing_left(f"{len(annotations)} annotations", settings))
    made = _annotated(frame, frame["index"], annotations)
    return Instances(made.manifest, made.annotations, unmatched + notes + annotations.notes)


def _meant(base: str | Path, name: str) -> str:
    """The name of a file relative to `base`, or absolute, that an annotation means; the file need not exist."""
    if isinstance(base, str) or is_remote(name):
        return name
    possible = spellings(name)
    if len(possible) > 1:  # only a name with a backslash can mean two files
        name = next((spelling for spelling in possible if os.path.exists(base / spelling)), name)  # noqa: PTH110 any bytes
    here, inside = as_bytes(Path.cwd()).rstrip(b"/") + b"/", as_bytes(base).rstrip(b"/") + b"/"
    # as the results spell it where the input was given relative to the current folder
    if (
        inside.startswith(here)
        and inside != here
        and as_bytes(name).startswith(inside)
        and not Path(name).is_absolute()
    ):
        return name if os.path.exists(base / name) else os.path.abspath(name)  # noqa: PTH100, PTH110 any bytes
    return name


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
    if annotations.errors:
        reasons = [annotations.errors[row] for row in crops["row"]]
        crops = _failed(crops, pl.Series(reasons, dtype=pl.String), pl.lit("BAD_BOUNDING_BOX"))
    crops = crops.with_columns(pl.col("row").alias("index"))
    bare = listing.filter(~pl.col("filename").is_in([name for name in rows if name is not None]))
    bare = bare.with_columns(pl.int_range(len(boxes), len(boxes) + pl.len()).alias("new"))
    bare = bare.join(files.select("index"), on="index", how="semi", maintain_order="left")
    bare = _failed(bare, pl.lit(_NO_BOX), pl.lit("MISSING_ANNOTATION")).with_columns(pl.col("new").alias("index"))
    columns = ["row", *IMAGE_MANIFEST.names]
    bare = bare.with_columns(pl.lit(None, dtype=pl.Int64).alias("row"))
    both = pl.concat([crops.select(columns), bare.select(columns)])
    made = _annotated(both, both["row"], annotations)
    is_instance = both["row"].is_not_null() & both["box"].is_not_null()
    return Instances(made.manifest, made.annotations.with_columns(is_annotated=is_instance), notes)


def _found(listing: pl.DataFrame, annotated: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Manifest and annotations of what a detector found: those of the image that each box is in, then its own.

    Args:
        listing: see `detections.crops_of`.
        annotated: the table `annotations` of the images; None if there are none.
    """
    crop = pl.col("media") == "crop"
    if annotated is None:
        joined, theirs = listing.with_columns(crop.alias("is_annotated")), []
    else:
        theirs = [name for name in annotated.columns if name not in (*ANNOTATIONS.names, *FOUND_COLUMNS)]
        images = annotated.select(pl.col("index").alias("image"), "is_annotated", *(pl.col(n) for n in theirs))
        ours = listing.select("index", "image", "media", *FOUND_COLUMNS)
        joined = ours.join(images, on="image", how="left", maintain_order="left")
        joined = joined.with_columns((crop & pl.col("is_annotated").fill_null(False)).alias("is_annotated"))
    return IMAGE_MANIFEST.frame(listing), ANNOTATIONS.frame(joined, [*theirs, *FOUND_COLUMNS])


def _failed(frame: pl.DataFrame, reasons: pl.Series | pl.Expr, code: pl.Expr) -> pl.DataFrame:
    """Rows with a reason against them, where the listing has none yet."""
    frame = frame.with_columns(reasons.alias("_reason"))
    fails = pl.col("error_code").is_null() & pl.col("_reason").is_not_null()
    return frame.with_columns(
        pl.when(fails).then(code).otherwise("error_code").alias("error_code"),
        pl.when(fails).then("_reason").otherwise("error").alias("error"),
    ).drop("_reason")


def _with_boxes(frame: pl.DataFrame, boxes: list[Box | None], parents: pl.Series) -> pl.DataFrame:
    """Rows of files turned into crops of them; those without a box stay whole images, which are no instances."""
    seen: Counter[tuple[str, tuple[str, ...] | None]] = Counter()
    ids: list[str] = []
    for name, box in zip(frame["filename"], boxes, strict=True):
        key = (name, None if box is None else tuple(map(repr, box)))
        # The second box of the same place is another instance.
        ids.append(instance_id(name, () if box is None else (*box, *([seen[key]] if seen[key] else []))))
        seen[key] += 1
    is_box = pl.Series([box is not None for box in boxes], dtype=pl.Boolean)
    frame = frame.with_columns(
        pl.Series("instance_id", ids, dtype=pl.String),
        pl.when(is_box).then(pl.lit("crop")).otherwise("media").alias("media"),
        pl.when(is_box).then(parents).alias("parent"),
        pl.Series("box", [None if box is None else list(box) for box in boxes], dtype=pl.List(pl.Float64)),
    )
    return _failed(frame, pl.when(~is_box).then(pl.lit(_NO_BOX)), pl.lit("MISSING_ANNOTATION"))
