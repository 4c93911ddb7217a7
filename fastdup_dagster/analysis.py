"""One run of the V1 face: the stages one after another, in this process, into a work_dir."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.annotations import Annotations
from fastdup_dagster.copied_inputs import Copied
from fastdup_dagster.images.decode import MIN_SIDE
from fastdup_dagster.models import EmbeddingModel, engine_version, load_model
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.schemas import (
    ANNOTATIONS,
    COMPONENTS,
    EMBEDDINGS,
    IMAGE_MANIFEST,
    IMG_STATS,
    KNN_GRAPH,
    OUTLIERS,
    SIMILARITY,
    TableSchema,
)
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import ListSource, Source, is_remote, open_source
from fastdup_dagster.sources.locations import remote_base
from fastdup_dagster.sources.yolo import is_yolo, yolo_root
from fastdup_dagster.stages.components import components
from fastdup_dagster.stages.detections import boxes_finder
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import FindBoxes
from fastdup_dagster.stages.instances import Instances, instances, precomputed_instances
from fastdup_dagster.stages.knn_graph import describe_index, knn_graph
from fastdup_dagster.stages.named_source import NamedSource
from fastdup_dagster.stages.neighbours import new_index
from fastdup_dagster.stages.outliers import outliers
from fastdup_dagster.stages.similarity import similarity
from fastdup_dagster.storage import blocks_of, remove_tree
from fastdup_dagster.work_dir import KEY, InputDir, WorkDir, absolute_input

Vectors = NDArray[np.float32]
Say = Callable[[str], None]
Views = list[tuple[TableSchema, pl.DataFrame]]
# What tells kinds of pairs apart.
VERIFIED_BY = ["index", "content_hash", "pixel_hash", "thumbnail"]
_PACKAGES = ("fastdup-dagster", "faiss-cpu", "opencv-python-headless", "numpy", "polars", "pillow")


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        input_dir: folder, list file, or list of files and folders; None if the annotations name all files.
        settings: every other argument.
        annotations: what the user knows.
        subset: names of the files to take.
        embeddings: n x d, float32, one row per annotation row, instead of extracting.
    """

    input_dir: InputDir | None
    settings: RunSettings
    annotations: Annotations | None = None
    subset: Sequence[str] | None = None
    embeddings: Vectors | None = None

    @cached_property
    def base(self) -> str | Path:
        """Folder, or prefix in an object store, that relative names start at."""
        if self.input_dir is None and self.annotations is not None and self.annotations.base is not None:
            return self.annotations.base
        if isinstance(self.input_dir, str):
            if is_yolo(self.input_dir) and (is_remote(self.input_dir) or Path(self.input_dir).expanduser().is_file()):
                return yolo_root(self.input_dir)
            if is_remote(self.input_dir):
                return remote_base(self.input_dir)
            path = Path(self.input_dir).expanduser()
            return path.absolute() if path.is_dir() or not path.exists() else path.absolute().parent
        return Path.cwd()

    @property
    def inputs(self) -> list[str | Path]:
        """The files, folders and prefixes that are listed, absolute."""
        given = [] if self.input_dir is None else self.input_dir
        several = given if isinstance(given, list) else [given]
        remote = [item for item in several if is_remote(item)]
        local = [Path(os.path.abspath(Path(item).expanduser())) for item in several if "://" not in item]  # noqa: PTH100
        return [*local, *remote]


class DatasetWarning(UserWarning):
    """Something about the input that a person ought to know: what was left out, or cannot be used."""


def analyse(request: Request, work_dir: WorkDir, say: Say) -> None:
    """Runs everything and leaves a finished work_dir.

    Raises:
        FileNotFoundError: if the input or the model is not there.
        ValueError: if nothing is found, or an argument does not fit the data.
    """
    check_embeddings(request)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(_opened, request)
        if not _surely_fits(request.settings):
            opening.result()  # before hours of work, not after
        find_boxes = boxes_finder(request.settings, work_dir.store, KEY, say, request.settings.recompute)
        found = listed(request, work_dir.root, find_boxes)
        model = opening.result()
    copied = Copied.of(found.manifest, request.settings, work_dir) if model is not None else Copied(found.manifest)
    found = replace(found, manifest=copied.manifest, notes=found.notes + _kept(request.settings, copied.downloaded))
    for note in found.notes:
        say(note)
    for text in found.warnings:
        _warn(text)
    small = 0
    # To the end: a run that waited must not publish its vectors between these tables.
    with work_dir.store.lock("features", KEY):
        if model is None:
            tables = _precomputed(request, found)
            views = _views(found, request.settings, [tables[0][1]], None)
            work_dir.begin()
            for schema, frame in tables:
                work_dir.store.write(schema, KEY, frame)
        else:
            views, small = _extract(found, request.settings, model, work_dir, say, copied.copies)
        for schema, frame in [(IMAGE_MANIFEST, found.manifest), (ANNOTATIONS, found.annotations), *views]:
            work_dir.store.write(schema, KEY, frame)
        work_dir.write_header(None if request.annotations is None else request.annotations.header)
        work_dir.finish(_config(request, found, model, views[0][1]["from"].n_unique(), work_dir))
    copied.remove()
    if small:
        _warn(f"{small} images are under {MIN_SIDE} pixels on a side and were left out (IMAGE_TOO_SMALL)")


def _opened(request: Request) -> EmbeddingModel | None:
    """The model, None where vectors are given; refuses what could not be indexed."""
    vectors, settings = request.embeddings, request.settings
    model = load_model(settings) if vectors is None else None
    if not _surely_fits(settings):
        width = vectors.shape[1] if vectors is not None else model.width if model is not None else 0
        new_index(width, settings.nnf_mode, settings.distance)
    return model


def _surely_fits(settings: RunSettings) -> bool:
    """Whether model and index are those that nobody chose: the input may be listed while they are opened."""
    names = ("model_path", "d", "providers", "nnf_mode", "distance")
    return all(getattr(settings, name) == RunSettings.model_fields[name].default for name in names)


def _kept(settings: RunSettings, downloaded: Collection[str]) -> list[str]:
    """What `delete_img` and `delete_tar` leave: they are for what a run downloaded, never for the user's own files."""
    asked = [name for name in ("delete_img", "delete_tar") if getattr(settings, name) and name not in downloaded]
    return (
        [f"{' and '.join(asked)}: nothing was downloaded, so nothing is deleted; your own files stay"] if asked else []
    )


def _warn(text: str) -> None:
    # from analyse() up to the line that called run() of a Fastdup
    warnings.warn(text, DatasetWarning, stacklevel=5)


def graph_of(embeddings: Iterable[pl.DataFrame], annotations: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """The table `knn_graph` of the annotated instances among those with a vector, from blocks of `embeddings`."""
    if annotations["is_annotated"].all():
        return knn_graph(embeddings, settings)
    known = annotations.filter("is_annotated").select("index")
    taken = (block.join(known, on="index", how="semi", maintain_order="left") for block in embeddings)
    return knn_graph(taken, settings)


def check_embeddings(request: Request) -> None:
    """Checks that given embeddings fit the annotations.

    Raises:
        ValueError: naming the shapes.
    """
    vectors, annotations = request.embeddings, request.annotations
    if vectors is None:
        return
    if annotations is None:
        raise ValueError(f"embeddings of shape {vectors.shape} need annotations with as many rows")
    if len(vectors) != len(annotations):
        raise ValueError(f"embeddings of shape {vectors.shape}, but annotations of {len(annotations)} rows")


def listed(request: Request, work_dir: Path | None, find_boxes: FindBoxes | None = None) -> Instances:
    """The instances of a request: its input listed, and joined with its annotations. Only detection reads.

    Args:
        request: what is to be run.
        work_dir: folder of results, which are no input; None if there is none.
        find_boxes: detects what the instances are; None where they are images or given boxes.

    Raises:
        FileNotFoundError: if the input is not there.
        ValueError: if nothing is found, or the annotations do not fit the listing.
    """
    if request.embeddings is not None and request.annotations is not None:
        return precomputed_instances(request.annotations, request.base, request.settings, request.subset)
    annotations = request.annotations
    source: Source
    if request.input_dir is not None:
        source = open_source(request.input_dir, request.settings)
    elif annotations is not None:
        source = ListSource([], request.base, "the annotations", request.settings)
    else:
        raise ValueError("input_dir=None: give the folder or list of images, here or to create()")
    annotated = annotations.filenames if annotations else ()
    also = [annotations.base] if annotations is not None and annotations.base is not None else []
    named = NamedSource(source, request.base, annotated, request.inputs, work_dir, also)
    return instances(named, request.settings, annotations, request.subset, find_boxes)


def _extract(
    found: Instances,
    settings: RunSettings,
    model: EmbeddingModel,
    work_dir: WorkDir,
    say: Say,
    copies: Mapping[str, str],
) -> tuple[Views, int]:
    """Publishes embeddings and statistics, once the views of them are made too: if one fails, all stays as it was.

    Returns:
        The views, and how many images are too small.
    """
    store = work_dir.store
    if not settings.resume or settings.recompute:
        remove_tree(store.staging("features", KEY))
    # What the graph needs, loaded while images are read; if it cannot be, that is said by the first of them.
    loader = ThreadPoolExecutor(1)
    loading = loader.submit(importlib.import_module, "faiss")
    loader.shutdown(wait=False)
    said = 0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if loading.done():
            loading.result()
        if done - said >= max(total // 10, 1) or done == total:
            say(f"{done} of {total} images")
            said = done

    with compute_features(
        found.manifest, settings, model, store, KEY, progress=progress, recompute=settings.recompute, copies=copies
    ) as features:
        embeddings = blocks_of(features.staged["embeddings"].path, ["index", "embedding"])
        statistics = features.staged["img_stats"].scan().select(VERIFIED_BY)
        views = _views(found, settings, embeddings, statistics)
        work_dir.begin()
        for table in features.staged.values():
            table.publish()
        features.finish()
        summary = features.summary
        say(f"{summary.rows} instances, {summary.inferred} through the model, {summary.seconds:.1f} s")
    return views, summary.invalid.filter(pl.col("error_code") == "IMAGE_TOO_SMALL").height


def _precomputed(request: Request, found: Instances) -> Views:
    """Tables of given vectors: a zero or non-finite one makes its instance invalid; there are no statistics."""
    given = request.embeddings
    if given is None:
        raise ValueError("embeddings=None")
    vectors = given[found.manifest["index"].to_numpy()]
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
    bad = pl.Series(~usable)
    reason = "the given embedding is zero or not finite"
    frame = found.manifest.select("index").with_columns(
        pl.when(pl.Series(usable)).then(column).alias("embedding"),
        pl.lit("precomputed").alias("model"),
        pl.lit("").alias("source_key"),
        pl.when(bad).then(pl.lit("INVALID_EMBEDDING")).alias("error_code"),
        pl.when(bad).then(pl.lit(reason)).alias("error"),
    )
    schema = EMBEDDINGS.with_embedding_width(vectors.shape[1])
    statistics = found.manifest.select("index").with_columns(pl.lit("").alias("source_key"))
    return [(schema, schema.frame(frame)), (IMG_STATS, IMG_STATS.frame(statistics))]


def _views(
    found: Instances, settings: RunSettings, embeddings: Iterable[pl.DataFrame], statistics: pl.LazyFrame | None
) -> Views:
    """Graph, similarity, outliers and components; without statistics, the kinds of pairs go by cosine alone."""
    graph = graph_of(embeddings, found.annotations, settings)
    # Read now, so that thumbnails and vectors are not in memory together.
    thumbnails = None if statistics is None else statistics.collect()
    return [
        (KNN_GRAPH, graph),
        (SIMILARITY, similarity(graph, settings, thumbnails)),
        (OUTLIERS, outliers(graph, settings)),
        (COMPONENTS, components(graph, settings)),
    ]


def _config(
    request: Request, found: Instances, model: EmbeddingModel | None, indexed: int, work_dir: WorkDir
) -> dict[str, Any]:
    """What the run was made with, as plain values."""
    return {
        "input_dir": request.input_dir,
        "input_path": None if request.input_dir is None else absolute_input(request.input_dir),
        "work_dir": str(work_dir.root),
        "base": str(request.base),
        **request.settings.model_dump(mode="json"),
        **({"d": vectors.shape[1]} if (vectors := request.embeddings) is not None else {}),
        "subset": None if request.subset is None else list(request.subset),
        "embeddings": None if vectors is None else {"shape": list(vectors.shape)},
        "data_type_found": "bbox" if found.manifest["box"].count() else "image",
        "model": None if model is None else model.describe(),
        "index": describe_index(indexed, request.settings),
        "notes": found.notes,
        "versions": {name.replace("-", "_"): importlib.metadata.version(name) for name in _PACKAGES}
        | engine_version(request.settings.providers),
    }
