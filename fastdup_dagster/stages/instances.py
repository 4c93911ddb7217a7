"""Which instances a run has: a listing of images joined with a user's annotations.

Image mode: one instance per file, in the order of the listing; annotated files that the listing does not have
come after it. Box mode: one instance per annotation row, in the order of the annotations; images without a box
come after them. Precomputed embeddings: one instance per annotation row, images need not exist.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fastdup_dagster.annotations import Annotations
from fastdup_dagster.names import spellings
from fastdup_dagster.outputs import OwnFiles
from fastdup_dagster.schemas import ANNOTATIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import Entry, NothingFoundError, Source, display_name, local_path, to_uri
from fastdup_dagster.sources.folder import stat_entry
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.stages.image_manifest import boxed, entries_frame, instance_id, list_all, nothing_left, sliced

_SHOWN = 5
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


class NamedSource:
    """A source, and further files by name; tells which entry a name means, and leaves out what runs wrote.

    Args:
        source: what is listed.
        base: folder that relative names start at.
        more: names of annotated files; those that the source does not have are listed after it.
        inputs: the files and folders that the source lists, absolute: names may be relative to any of these folders,
            and a file that is named here, or in `more`, is input whoever wrote it.
        work_dir: folder of results, which are no input even if it lies inside a listed folder.
    """

    def __init__(
        self,
        source: Source,
        base: Path,
        more: Sequence[str] = (),
        inputs: Sequence[Path] = (),
        work_dir: Path | None = None,
    ) -> None:
        self._source = source
        self._more = more
        folders = [path for path in inputs if path.is_dir()]
        files = [path for path in inputs if not path.is_dir()]
        self._listed = [as_bytes(folder).rstrip(b"/") + b"/" for folder in folders]
        self._named = {as_bytes(path) for path in files}
        self._bases = list(dict.fromkeys([base, *folders, *_common_folder(files)]))
        self._alone = {path.name: as_bytes(path) for path in files}
        for name in {name for name, times in Counter(path.name for path in files).items() if times > 1}:
            del self._alone[name]
        self._work_dir = None if work_dir is None else os.path.realpath(os.fsencode(work_dir)).rstrip(b"/") + b"/"
        self._below: dict[bytes, bool] = {}
        self._own = None if work_dir is None else OwnFiles(work_dir)
        self._left_out = 0
        self._by_path: dict[bytes, str] = {}
        self._names: set[str] = set()
        self.missing: list[str] = []
        self.name = source.name

    @property
    def notes(self) -> list[str]:
        """What the source left out, and how many files of earlier runs were."""
        own = [f"{self._left_out} files that earlier runs wrote were left out"] if self._left_out else []
        return self._source.notes + own

    @property
    def bases(self) -> list[Path]:
        """The folders that relative names start at."""
        return self._bases

    def entries(self) -> Iterator[Entry]:
        """The source's entries in order, then the further files in theirs."""
        self._left_out = 0
        self.missing.clear()
        for entry in self._source.entries():
            if self._is_result(local_path(entry.uri)):
                self._left_out += 1
            else:
                yield self._noted(entry)
        for name in self._more:
            if self.resolve(name) is None:
                entry = self._further(name)
                if entry.error_code == "MISSING_FILE":
                    self.missing.append(name)
                yield self._noted(entry)

    def resolve(self, name: str) -> str | None:
        """The `filename` of the entry that a name means: relative, absolute, or as the results spell it.

        Raises:
            ValueError: for a name that is relative to several of the given folders.
        """
        first, *others = self._bases
        if (known := self._entry(name, first)) is not None:
            return known
        found = list(dict.fromkeys(filter(None, (self._entry(name, base) for base in others))))
        if len(found) > 1:
            raise ValueError(f"filename {name!r} is in several of the given folders: {found}; give it with its folder")
        if found:
            return found[0]
        if (known := self._entry(name, Path.cwd())) is not None:
            return known
        return name if name in self._names else self._by_path.get(self._alone.get(name, b""))

    def _entry(self, name: str, base: Path) -> str | None:
        paths = (as_bytes(base / spelling) for spelling in spellings(name))
        return next((self._by_path[path] for path in paths if path in self._by_path), None)

    def _further(self, name: str) -> Entry:
        """The entry of a file that the source does not list."""
        possible = [(spelling, base) for spelling in spellings(name) for base in [*self._bases, Path.cwd()]]
        spelling, base = next((p for p in possible if os.path.exists(p[1] / p[0])), possible[0])  # noqa: PTH110 any bytes
        return stat_entry(display_name(os.fsencode(os.path.normpath(spelling))), as_bytes(base / spelling))

    def _is_result(self, path: bytes) -> bool:
        if self._own is None or path in self._named or not path.startswith(tuple(self._listed)):
            return False
        return self._in_work_dir(os.path.dirname(path)) or path in self._own  # noqa: PTH120 bytes

    def _in_work_dir(self, folder: bytes) -> bool:
        """Whether a listed folder is below work_dir, unless a folder that was asked for is."""
        if folder not in self._below:
            self._below[folder] = self._is_below(folder) and not any(map(self._is_below, self._listed))
        return self._below[folder]

    def _is_below(self, folder: bytes) -> bool:
        return self._work_dir is not None and (os.path.realpath(folder) + b"/").startswith(self._work_dir)

    def _noted(self, entry: Entry) -> Entry:
        self._by_path.setdefault(local_path(entry.uri), entry.filename)
        self._names.add(entry.filename)
        return entry


def _common_folder(files: Sequence[Path]) -> list[Path]:
    return [Path(os.path.commonpath([path.parent for path in files]))] if files else []


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
    warned = [note for note in listing.notes if _MIXED in note]
    if annotations is None:
        return Instances(boxed(files, settings), unannotated(files["index"]), notes, warned)
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
    if len(source.missing) == len(annotations):
        places = ", ".join(map(str, source.bases))
        warned.append(f"no annotation names a file that is there: {source.missing[:_SHOWN]}; looked in {places}")
    return Instances(made.manifest, made.annotations, notes + told + annotations.notes, warned)


def precomputed_instances(
    annotations: Annotations, base: Path, settings: Settings, subset: Sequence[str] | None
) -> Instances:
    """One instance per annotation row, without a look at the files.

    Raises:
        NothingFoundError: if nothing is left.
        ValueError: for a name of `subset` that is not annotated.
    """
    names = [_spelling(base, name) for name in annotations.filenames]
    entries = [Entry(display_name(os.fsencode(name)), to_uri(as_bytes(base / name))) for name in names]
    frame = entries_frame(list(enumerate(entries)), None)
    taken = pl.Series([bool(re.search(settings.find_regex, name)) for name in names])
    skipped = len(taken) - int(taken.sum())
    unmatched = [f"{skipped} files do not match find_regex={settings.find_regex!r}"] if skipped else []
    if annotations.boxes is not None:
        frame = _with_boxes(frame, list(annotations.boxes), frame["index"])
    if subset is not None:
        paths = [as_bytes(base / name) for name in names]
        wanted = {name: {as_bytes(base / spelling) for spelling in spellings(name)} for name in subset}
        _refuse_unknown([name for name, meant in wanted.items() if not meant & set(paths)])
        every = set().union(*wanted.values())
        taken &= pl.Series([path in every for path in paths])
    frame = frame.filter(taken)
    frame, notes = sliced(frame, settings)
    if frame.is_empty():
        raise NothingFoundError(nothing_left(f"{len(annotations)} annotations", settings))
    made = _annotated(frame, frame["index"], annotations)
    return Instances(made.manifest, made.annotations, unmatched + notes + annotations.notes)


def _spelling(base: Path, name: str) -> str:
    """What a name means; only one with a backslash can mean two files."""
    possible = spellings(name) if len(spellings(name)) > 1 else ()
    return next((spelling for spelling in possible if os.path.exists(base / spelling)), name)  # noqa: PTH110 any bytes


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
