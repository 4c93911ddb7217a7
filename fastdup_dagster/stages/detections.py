"""What a detector finds in the images of a partition, and the listing that its boxes make.

One pass over the images, before the decode pass: each is decoded once here, at full size. What was found is kept under
the image's path, change token and the detector's hash, so that a run again detects nothing anew, and an interrupted one
goes on.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastdup_dagster.images import ImageError, decode, opencv_alone
from fastdup_dagster.models.detectors import Detector, open_detector
from fastdup_dagster.schemas import DETECTIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings, is_detector
from fastdup_dagster.sources.part_reading import keeping_open
from fastdup_dagster.stages.decode_worker import Reader
from fastdup_dagster.stages.embedding_backend import Progress
from fastdup_dagster.stages.frame_turns import Turn, turns
from fastdup_dagster.stages.image_manifest import FindBoxes, instance_id
from fastdup_dagster.stages.read_ahead import reader_of
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows, source_keys, source_tokens, text_hash
from fastdup_dagster.stages.row_files import PARTS, part_name, write_part
from fastdup_dagster.stages.table_plan import frame_of
from fastdup_dagster.storage import TableStore, remove_tree

# Raise it when a change of the code changes what a row holds.
_VERSION = "2"
_STAGE = "detections"
_PART_SECONDS = 5.0
FOUND_COLUMNS = ("label", "confidence")
_LISTS = ("boxes", "labels", "confidences")


def boxes_finder(
    settings: Settings,
    store: TableStore,
    key: str,
    say: Callable[[str], None] = lambda text: None,
    recompute: bool = False,
) -> FindBoxes | None:
    """What makes the listing of a partition's detections out of that of its images; None if no detector is asked for.

    Args:
        settings: `bounding_box` names the detector; see `open_detector` for what that raises.
        store: where what was found is published.
        key: partition key.
        say: told what was found.
        recompute: look at every image again.
    """
    if not is_detector(settings.bounding_box):
        return None
    detector = open_detector(settings)

    def find(files: pl.DataFrame) -> pl.DataFrame:
        with store.lock(DETECTIONS.name, key):
            found = detect(files, settings, detector, store, key, recompute=recompute)
        say(f"{found['boxes'].list.len().sum()} detections in {len(found)} images")
        return crops_of(files, found, str(settings.bounding_box))

    return find


class Finder:
    """The same for one listing, with what was found at hand; nothing is published. Call it under the partition's lock.

    Args:
        settings: `bounding_box` names the detector; see `open_detector` for what that raises.
        store: where what was published is looked up, and what is found is kept until `finish`.
        key: partition key.
        progress: called with the images done and to do.
        recompute: look at every image again.

    Attributes:
        files: the listing that it was called with.
        found: the table `detections` of it.
        detector: id of the detector.
    """

    def __init__(
        self,
        settings: Settings,
        store: TableStore,
        key: str,
        progress: Progress | None = None,
        recompute: bool = False,
    ) -> None:
        self._settings, self._store, self._key, self._progress = settings, store, key, progress
        self._recompute = recompute
        self._detector = open_detector(settings)
        self.detector = self._detector.id
        self.files, self.found = IMAGE_MANIFEST.frame(), DETECTIONS.frame()

    def __call__(self, files: pl.DataFrame) -> pl.DataFrame:
        """The listing of what is found in the images of another one."""
        self.files = files
        self.found = look(
            files, self._settings, self._detector, self._store, self._key, self._progress, self._recompute
        )
        return crops_of(files, _even(self.found), str(self._settings.bounding_box))

    def finish(self) -> None:
        """Forgets what was kept: all of it is published."""
        remove_tree(self._store.staging(_STAGE, self._key))


class Published:
    """The listing of what was found already: looks at no image, and opens no detector.

    Args:
        settings: `bounding_box` names the detector.
        store: holds the table `detections`.
        key: partition key.
        detector: id of the detector.

    Attributes:
        unknown: how many images it was called with have no row in that table, or another file by now, and how many
            rows of the table are of no image any more.
    """

    def __init__(self, settings: Settings, store: TableStore, key: str, detector: str) -> None:
        self._settings, self._store, self._key, self._detector = settings, store, key, detector
        self.unknown = 0

    def __call__(self, files: pl.DataFrame) -> pl.DataFrame:
        """The listing; an image of which nothing is known is as one in which nothing was found."""
        well = files.filter(pl.col("error_code").is_null())
        keys = source_keys(source_tokens(well), recipe(self._settings, self._detector))
        table = self._store.read(DETECTIONS.name, self._key)
        rows = table.filter(pl.col("source_key") != "").drop("index")
        asked = well.select("index").with_columns(pl.Series("source_key", keys, dtype=pl.String))
        known = asked.join(rows, on="source_key", how="inner")
        self.unknown = len(well) - len(known) + len(rows) - known["source_key"].n_unique()
        self.unknown += abs((len(table) - len(rows)) - (len(files) - len(well)))
        refused = _refused(files.filter(pl.col("error_code").is_not_null()))
        return crops_of(files, pl.concat([DETECTIONS.frame(known), refused]), str(self._settings.bounding_box))


def recipe(settings: Settings, detector: str) -> str:
    """What a row must have been made by to be of use: this code, the detector with that id and what it runs on."""
    return text_hash("\0".join([_VERSION, detector, settings.fingerprint("max_pixels", "providers")]))


def detect(
    files: pl.DataFrame,
    settings: Settings,
    detector: Detector,
    store: TableStore,
    key: str,
    progress: Progress | None = None,
    recompute: bool = False,
) -> pl.DataFrame:
    """The table `detections`, published: see `look`."""
    frame = look(files, settings, detector, store, key, progress, recompute)
    store.write(DETECTIONS, key, frame)
    remove_tree(store.staging(_STAGE, key))
    return frame


def look(
    files: pl.DataFrame,
    settings: Settings,
    detector: Detector,
    store: TableStore,
    key: str,
    progress: Progress | None = None,
    recompute: bool = False,
) -> pl.DataFrame:
    """The table `detections`: a row per image of the listing, in its order.

    Rows of the published table are taken over; what is found besides stays in the staging folder.

    Args:
        files: the table `image_manifest`, whole images.
        settings: the largest image, and the number of threads.
        detector: what looks at the images.
        store: where the results are kept.
        key: partition key.
        progress: called with the images done and to do.
        recompute: look at every image again.
    """
    made_by = recipe(settings, detector.id)
    parts = store.staging(_STAGE, key, made_by)
    if recompute:
        remove_tree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    kept = [] if recompute or not store.exists(DETECTIONS.name, key) else [store.fetch(DETECTIONS.name, key, parts)]
    rows = ReusableRows(DETECTIONS, made_by, [*kept, *sorted(parts.glob(PARTS))])
    keys = source_keys(source_tokens(files), made_by)
    places, numbers = rows.find(keys)
    listed_well = files["error_code"].is_null().to_numpy()
    known = (places != NOWHERE) & listed_well
    blocks = [_refused(files.filter(~pl.Series(listed_well)))]
    if known.any():
        blocks.append(rows.frame(places[known], numbers[known]).with_columns(files["index"].filter(pl.Series(known))))
    todo = np.flatnonzero((places == NOWHERE) & listed_well).tolist()
    blocks.append(_look(files, todo, keys, settings, detector, parts, progress))
    return pl.concat([DETECTIONS.frame(block) for block in blocks]).sort("index")


def crops_of(files: pl.DataFrame, found: pl.DataFrame, name: str) -> pl.DataFrame:
    """The listing of what was found: a row per detection, in the order of the images, then images without any.

    Args:
        files: whole images.
        found: the table `detections` of them.
        name: of the detector, for the reason of an image without detection.

    Returns:
        The columns of `image_manifest`, `label` among them; `confidence`, null for an image; and `image`, the index of
        the image in its own listing, as `parent` of a crop. `index` counts the rows.
    """
    both = files.drop("error_code", "error", "label").join(found, on="index", how="left", maintain_order="left")
    boxes = both.filter(pl.col("boxes").list.len() > 0).explode("boxes", "labels", "confidences")
    ids = [instance_id(file, tuple(box)) for file, box in zip(boxes["filename"], boxes["boxes"], strict=True)]
    crops = boxes.with_columns(
        pl.Series("instance_id", ids, dtype=pl.String),
        pl.lit("crop").alias("media"),
        pl.col("index").alias("parent"),
        pl.col("boxes").alias("box"),
        pl.col("labels").alias("label"),
        pl.col("confidences").alias("confidence"),
    )
    bare = both.filter(pl.col("boxes").list.len().fill_null(0) == 0).with_columns(
        pl.col("error_code").fill_null("MISSING_ANNOTATION"),
        pl.col("error").fill_null(f"{name} found nothing in it"),
        pl.lit(None, dtype=pl.String).alias("label"),
        pl.lit(None, dtype=pl.Float64).alias("confidence"),
    )
    columns = [*IMAGE_MANIFEST.names, "confidence", pl.col("index").alias("image")]
    listing = pl.concat([crops.select(columns), bare.select(columns)])
    return listing.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("index"))


def _look(
    files: pl.DataFrame,
    todo: Sequence[int],
    keys: Sequence[str],
    settings: Settings,
    detector: Detector,
    parts: Path,
    progress: Progress | None,
) -> pl.DataFrame:
    """Rows of the images at these positions; they are written as parts while it goes on."""
    uris, ids, sizes = files["uri"], files["index"], files["file_size"]

    def one(position: int, turn: Turn | None) -> dict[str, Any]:
        row = {"index": ids[position], "source_key": keys[position], "boxes": [], "labels": [], "confidences": []}
        reader = read if turn is None else partial(turn.read, read)
        return row | _found(reader, uris[position], settings.max_pixels, detector)

    blocks: list[pl.DataFrame] = [DETECTIONS.frame()]
    pending: list[dict[str, Any]] = []
    written = time.monotonic()
    with (
        opencv_alone(),
        keeping_open(2 * settings.threads),
        reader_of((uris[position], sizes[position]) for position in todo) as read,
        ThreadPoolExecutor(settings.threads, thread_name_prefix="detect") as pool,
    ):
        begun = zip(todo, turns(uris[position] for position in todo), strict=True)
        for done, row in enumerate(_in_order(pool, one, begun, 2 * settings.threads), 1):
            pending.append(row)
            if time.monotonic() - written >= _PART_SECONDS or done == len(todo):
                blocks.append(_write_part(pending, parts))
                pending, written = [], time.monotonic()
            if progress:
                progress(done, len(todo))
    return pl.concat(blocks)


def _in_order(
    pool: ThreadPoolExecutor, call: Any, given: Iterator[tuple[Any, ...]], ahead: int
) -> Iterator[dict[str, Any]]:
    """Results in order, with a few calls in flight: what waits for its turn is bounded."""
    running = deque(pool.submit(call, *one) for one in islice(given, ahead))
    while running:
        running.extend(pool.submit(call, *one) for one in islice(given, 1))
        yield running.popleft().result()


def _found(read: Reader, uri: str, max_pixels: int, detector: Detector) -> dict[str, Any]:
    try:
        image = decode(read(uri), max_pixels=max_pixels)
    except ImageError as error:
        return {"error_code": error.code, "error": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a file does, it costs its own row only
        return {"error_code": "READ_ERROR", "error": f"{type(error).__name__}: {error}"}
    try:
        all_found = detector.detect(image.pixels)
    except Exception as error:  # noqa: BLE001 - if it is the detector's fault, the share of failed images says so
        return {"error_code": "READ_ERROR", "error": f"the detector failed: {type(error).__name__}: {error}"}
    found = list({detection.box: detection for detection in reversed(all_found)}.values())[::-1]
    return {
        "boxes": [list(detection.box) for detection in found],
        "labels": [detection.label for detection in found],
        "confidences": [detection.confidence for detection in found],
        "img_w": image.pixels.shape[1],
        "img_h": image.pixels.shape[0],
    }


def _write_part(rows: list[dict[str, Any]], parts: Path) -> pl.DataFrame:
    frame = frame_of(DETECTIONS, rows)
    write_part(DETECTIONS, frame, parts / part_name(uuid.uuid4().hex))
    return frame


def _even(found: pl.DataFrame) -> pl.DataFrame:
    """What was found, without images whose lists are not of equal length: no listing can be made of them."""
    lengths = [pl.col(name).list.len() for name in _LISTS]
    even = (lengths[0] == lengths[1]) & (lengths[0] == lengths[2])
    return found.with_columns(pl.when(even).then(pl.col(name)).otherwise([]).alias(name) for name in _LISTS)


def _refused(files: pl.DataFrame) -> pl.DataFrame:
    """Rows of images that the listing already knows to be unusable."""
    nothing = pl.lit([], dtype=pl.List(pl.String))
    return DETECTIONS.frame(
        files.select("index", "error_code", "error").with_columns(
            pl.lit("").alias("source_key"),
            pl.lit([], dtype=pl.List(pl.List(pl.Float64))).alias("boxes"),
            nothing.alias("labels"),
            pl.lit([], dtype=pl.List(pl.Float64)).alias("confidences"),
        )
    )
