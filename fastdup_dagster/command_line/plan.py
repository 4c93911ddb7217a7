"""What a run will do, said before it begins: data set, splits, files, and about how much time, memory and disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from fastdup_dagster.datasets import (
    DatasetEntry,
    DatasetsError,
    check_name,
    dataset_names,
    load_dataset,
    partition_key,
    register,
)
from fastdup_dagster.images import read_image
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.models.detectors import open_detector
from fastdup_dagster.resources.captioner import CaptionerResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.settings import Settings, is_detector, readable
from fastdup_dagster.sources import NothingFoundError, images_outside
from fastdup_dagster.sources.locations import is_remote, is_remote_file, joined, location, remote_base
from fastdup_dagster.sources.paths import container_kind
from fastdup_dagster.sources.s3 import holds_anything
from fastdup_dagster.sources.splits import WHOLE, find_splits
from fastdup_dagster.stages.features import FEATURE_TABLES, recipe
from fastdup_dagster.stages.neighbours import new_index
from fastdup_dagster.stages.reuse import source_keys, source_tokens
from fastdup_dagster.stages.split_listing import list_split
from fastdup_dagster.storage import TableStore, open_store

_SAMPLE = 12
_BASE_MEMORY = 650_000_000  # Python, Dagster, ONNX Runtime and Great Expectations, as measured
_STATISTICS_BYTES = 1_100  # of img_stats per image: the thumbnail's 768, hashes, numbers
_GALLERY_BYTES = 15_000  # of a thumbnail in a gallery


@dataclass(frozen=True)
class SplitPlan:
    """One split: how many images it lists, how many of them are new or changed, and their bytes."""

    split: str
    images: int
    new: int
    size: int
    problem: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        name: of the data set.
        entry: as registered.
        splits: those to run, in order.
        rate: images/s of the decode pass, measured on a few of the images; None if nothing is to be read.
        seconds: of the decode passes.
        memory: bytes, at most.
        disk: bytes of tables and pages.
        basis: how the time was estimated.
        notes: what the run leaves out, and what stands in its way.
        captioner: id of the model that captions the images; None if they are not captioned.
    """

    name: str
    entry: DatasetEntry
    splits: Sequence[SplitPlan]
    rate: float | None
    seconds: float
    memory: int
    disk: int
    basis: str
    notes: Sequence[str] = ()
    captioner: str | None = None

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(split.images for split in self.splits)

    @property
    def new(self) -> int:
        """Images that have to be read."""
        return sum(split.new for split in self.splits)


def resolve_entry(
    path: str | Path,
    name: str,
    wanted: Sequence[str],
    changes: Mapping[str, Any],
    out: str | Path | None,
    replace: bool,
) -> tuple[DatasetEntry, list[str]]:
    """The entry for a data set, and which of its splits to run.

    Args:
        path: a folder, an archive or video, or a list file; as text, such a place in an object store.
        name: of the data set.
        wanted: splits to run; all if empty. One that is no usual name of a split is looked for as a sub-folder.
        changes: settings to change; they go into the entry, over what it says already.
        out: folder, or s3://bucket/prefix, of tables and pages; None keeps what the entry says.
        replace: take the path even if the name stands for another one.

    Raises:
        DatasetsError: saying what to do.
    """
    _check_called(name, path)
    path, root = _placed(path)
    known = load_dataset(name) if name in dataset_names() and not replace else None
    if known and _source(known) != path:
        raise DatasetsError(
            f"data set {name!r} stands for {_source(known)}; choose another --name, or --replace to let it be {path}"
        )
    annotated = known if known and known.annotations else None
    if annotated and annotated.split_column:
        splits = annotated.splits
    else:
        splits = _splits(path, root, wanted, known.splits if known else {})
    chosen = [_called(split, splits) for split in wanted]
    missing = [split for split in chosen if split not in splits]
    if missing:
        raise DatasetsError(f"no split {missing[0]!r} in {path}; there are: {', '.join(splits)}")
    entry = _new_entry(
        root=str(root),
        splits=splits,
        annotations=annotated.annotations if annotated else None,
        split_column=annotated.split_column if annotated else None,
        settings=_merged(known.settings if known else {}, changes),
        store=_place(out) if out else known.store if known else None,
    )
    return entry, [split for split in splits if not chosen or split in chosen]


def _place(out: str | Path) -> str:
    return str(out) if is_remote(str(out)) else str(Path(out).expanduser().absolute())


def default_name(path: str | Path) -> str:
    """What a data set is called that has no name: as its folder, prefix, bucket or list file."""
    if isinstance(path, str):
        place = location(path)
        last = PurePosixPath(place.key or place.bucket)
        return last.stem if is_remote_file(path) else last.name
    return path.absolute().name if path.is_dir() else path.stem


def _placed(path: str | Path) -> tuple[str | Path, str | Path]:
    """A path or location in its one spelling, and the folder or prefix that it is, or is in."""
    if isinstance(path, str):
        text = path.rstrip("/")
        return text, remote_base(text)
    path = path.absolute()
    if not path.exists():
        raise DatasetsError(
            f"{path} does not exist; give a folder, an archive or a video, or a text or csv file of paths"
        )
    return path, path if path.is_dir() else path.parent


def _check_called(name: str, path: str | Path) -> None:
    try:
        check_name("data set", name)
    except DatasetsError as error:
        raise DatasetsError(f"{error}; choose one for {path} with --name") from error


def _source(entry: DatasetEntry) -> str | Path:
    """What a data set was made from: its folder, or the list file that is its only split."""
    if entry.split_column:
        return joined(entry.root, ".")
    whole = entry.splits.get(WHOLE, ".") if len(entry.splits) == 1 else "."
    return joined(entry.root, whole)


def _new_entry(**values: Any) -> DatasetEntry:
    try:
        return DatasetEntry(**values)
    except ValidationError as error:
        raise DatasetsError(
            f"{readable(error)} (settings are remembered; `NAME: null` in a --settings file forgets one)"
        ) from error


def _called(split: str, splits: Mapping[str, str]) -> str:
    """The name that a split has here, for the name that its folder has: `Train` is the split `train`."""
    lower = split.lower()
    return lower if split not in splits and Path(splits.get(lower, "")).name == split else split


def _splits(path: str | Path, root: str | Path, wanted: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Splits found now, those asked for by the name of a sub-folder, and known ones that are still there.

    The whole folder stands alone: beside its own parts, every image of theirs would be a leak.
    """
    if path != root:
        return {WHOLE: PurePosixPath(path).name}
    if WHOLE in wanted:
        if len(set(wanted)) > 1:
            raise DatasetsError(f"--split {WHOLE} is the whole of {path}; it cannot stand beside its parts")
        return {WHOLE: "."}
    found = find_splits(root)
    asked = {split: split for split in wanted if _called(split, found) not in found and _is_folder(joined(root, split))}
    kept = {split: place for split, place in known.items() if split != WHOLE and _is_there(joined(root, place))}
    parts = {**kept, **asked, **found}
    return {split: place for split, place in parts.items() if split != WHOLE or len(parts) == 1}


def _is_folder(place: str | Path) -> bool:
    return holds_anything(place) if isinstance(place, str) else place.is_dir()


def _is_there(place: str | Path) -> bool:
    # What one object in a bucket is called is taken on trust: reading it says if it is gone.
    return is_remote_file(place) or holds_anything(place) if isinstance(place, str) else place.exists()


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `above` over those of `below`; the limits one by one. One that is null is forgotten."""
    both = {**below, **above}
    for name, merge in (("limits", _limits), ("captions", _captions)):
        if both.get(name) is not None:
            both[name] = merge(below.get(name) or {}, above.get(name) or {})
    return {name: value for name, value in both.items() if value not in (None, {})}


def _limits(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One by one, severities as well; a limit that is null stays, for it only observes."""
    both = {**below, **above}
    severity = both.pop("severity", None)
    if severity is not None:
        severity = {**(below.get("severity") or {}), **(above.get("severity") or {})}
    return both | ({"severity": severity} if severity else {})


def _captions(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One by one too, unless it is another model: prompt and options belong to the one that they were given for."""
    other = above.get("model", below.get("model")) != below.get("model")
    return dict(above) if other else {**below, **above}


def make_plan(
    name: str,
    entry: DatasetEntry,
    splits: Sequence[str],
    overrides: Mapping[str, Any],
    recompute: bool,
    captions: bool = False,
) -> Plan:
    """Lists the splits, compares them with what is published, and times a few images.

    Everything that can be wrong with the data set's entry shows here, before it is registered.

    Raises:
        NotImplementedError: for an input that is not supported yet.
        OSError: if the model's file or a split is not there, or the folder of the results cannot be made.
        ValueError: if the model or the index does not fit the settings, or a list file cannot be read.
    """
    settings = entry.typed_settings().with_changes(**overrides)
    model = ModelResource().load(settings)  # the run opens the same one
    new_index(model.width, settings.nnf_mode, settings.distance)
    if is_detector(settings.bounding_box):
        open_detector(settings)
    captioner = CaptionerResource().load(settings, now=True).id if captions else None
    store = open_store(entry.store_root())
    _make_writable(store)
    planned, samples = [], []
    for split in splits:
        try:
            listing = list_split(entry, split, settings).frame
        except NothingFoundError as error:  # the gate of image_manifest stops that split alone
            planned.append(SplitPlan(split, 0, 0, 0, str(error)))
            continue
        fresh = listing if recompute else _fresh(listing, settings, model, store, partition_key(name, split))
        planned.append(SplitPlan(split, listing.height, fresh.height, int(listing["file_size"].sum() or 0)))
        samples += (
            fresh.filter(pl.col("error_code").is_null())["uri"].gather_every(max(1, fresh.height // _SAMPLE)).to_list()
        )
    rate = _rate(samples[:: max(1, len(samples) // _SAMPLE)][:_SAMPLE], model, settings.threads)
    images, new = sum(s.images for s in planned), sum(s.new for s in planned)
    largest = max((s.images for s in planned), default=0)
    return Plan(
        name=name,
        entry=entry,
        splits=planned,
        rate=rate,
        seconds=new / rate if rate else 0.0,
        memory=_BASE_MEMORY + 4 * largest * model.width * 4,  # vectors, their copy in the index, and the results
        disk=images * (model.width * 4 + _STATISTICS_BYTES)
        + len(planned) * 8 * settings.gallery_items * _GALLERY_BYTES,
        basis=f"{min(_SAMPLE, len(samples))} of the images timed, {settings.threads} threads"
        if rate
        else "nothing to read",
        notes=_notes(entry),
        captioner=captioner,
    )


def _make_writable(store: TableStore) -> None:
    """Makes the folder of the results, or sees whether the bucket takes any.

    Raises:
        DatasetsError: if that cannot be, saying why.
    """
    try:
        store.check_writable()
    except OSError as error:
        raise DatasetsError(
            f"results cannot go to {store.name} ({error.strerror or error}); name another place with --store"
        ) from error


def _notes(entry: DatasetEntry) -> list[str]:
    if entry.split_column:
        return []
    root = joined(entry.root, ".")
    files = [place for place in entry.splits.values() if _is_file(joined(root, place))]
    if not all(container_kind(os.fsencode(place)) for place in files):  # lists name what is meant
        return []
    if list(entry.splits) == [WHOLE]:  # one archive or video was named
        return []
    outside = images_outside(root, list(entry.splits.values()))
    if not outside:
        return []
    names = ", ".join(entry.splits)
    return [
        f"{outside:,} images of {root} lie in none of the splits ({names}) and are left out; --split {WHOLE} takes all"
    ]


def _is_file(place: str | Path) -> bool:
    return is_remote_file(place) if isinstance(place, str) else place.is_file()


def register_plan(plan: Plan) -> None:
    """Writes the data set into datasets.yaml."""
    register(plan.name, plan.entry)


def _fresh(
    listing: pl.DataFrame, settings: Settings, model: EmbeddingModel, store: TableStore, key: str
) -> pl.DataFrame:
    """Rows that no published table has: new, changed, or made by another model."""
    fresh, tokens = np.zeros(listing.height, dtype=bool), source_tokens(listing)
    for table in FEATURE_TABLES:
        if not store.exists(table, key):
            return listing
        known = set(store.read(table, key, ["source_key"])["source_key"])
        fresh |= [name not in known for name in source_keys(tokens, recipe(table, settings, model))]
    return listing.filter(fresh)


def _rate(uris: Sequence[str], model: EmbeddingModel, threads: int) -> float | None:
    """Images/s of the decode pass, from a few images read and embedded on one thread; None without any."""
    if not uris:
        return None
    begun, read = time.perf_counter(), 0
    for uri in uris:
        try:
            model.embed(model.square(read_image(uri))[None])
            read += 1
        except (OSError, ValueError):  # a broken one costs little; the pass makes a row of it
            continue
    return max(read, 1) / (time.perf_counter() - begun) * threads * 0.8  # threads share memory and the file system
