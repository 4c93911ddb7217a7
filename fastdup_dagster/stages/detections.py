"""What a detector finds in the images of a partition, and the listing that its boxes make.

One pass over the images, before the decode pass: each is decoded once here, at full size. What was found is kept beside
the tables under the image's path, change token and the detector's hash, so that a run again detects nothing anew, and
an interrupted one goes on.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastdup_dagster.images import ImageError, decode, opencv_alone, read_bytes
from fastdup_dagster.models.detectors import Detector, open_detector
from fastdup_dagster.schemas import DETECTIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings, is_detector
from fastdup_dagster.stages.embedding_backend import Progress
from fastdup_dagster.stages.image_manifest import FindBoxes, instance_id
from fastdup_dagster.stages.reuse import NOWHERE, ReusableRows, source_keys
from fastdup_dagster.storage import TableStore, remove_tree, write_parquet

# Raise it when a change of the code changes what a row holds.
_VERSION = "1"
_STAGE = "detections"
_PART_SECONDS = 5.0
FOUND_COLUMNS = ("label", "confidence")


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
        store: where what was found is kept.
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


def detect(
    files: pl.DataFrame,
    settings: Settings,
    detector: Detector,
    store: TableStore,
    key: str,
    progress: Progress | None = None,
    recompute: bool = False,
) -> pl.DataFrame:
    """The table `detections`: a row per image of the listing, in its order.

    Args:
        files: the table `image_manifest`, whole images.
        settings: the largest image, and the number of threads.
        detector: what looks at the images.
        store: where the results are kept.
        key: partition key.
        progress: called with the images done and to do.
        recompute: look at every image again.
    """
    made_by = _hash("\0".join([_VERSION, detector.id, settings.fingerprint("max_pixels")]))
    parts = store.staging(_STAGE, key, made_by)
    if recompute:
        remove_tree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    kept = [] if recompute or not store.exists(DETECTIONS.name, key) else [store.path(DETECTIONS.name, key)]
    rows = ReusableRows(DETECTIONS, made_by, [*kept, *sorted(parts.glob("part-*.parquet"))])
    keys = source_keys(files, made_by)
    places, numbers = rows.find(keys)
    listed_well = files["error_code"].is_null().to_numpy()
    known = (places != NOWHERE) & listed_well
    blocks = [_refused(files.filter(~pl.Series(listed_well)))]
    if known.any():
        blocks.append(rows.take(places[known], numbers[known]).with_columns(files["index"].filter(pl.Series(known))))
    todo = np.flatnonzero((places == NOWHERE) & listed_well).tolist()
    blocks.append(_look(files, todo, keys, settings, detector, parts, progress))
    frame = pl.concat([DETECTIONS.frame(block) for block in blocks]).sort("index")
    store.write(DETECTIONS, key, frame)
    remove_tree(parts)
    return frame


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
    uris, ids = files["uri"], files["index"]

    def one(position: int) -> dict[str, Any]:
        row = {"index": ids[position], "source_key": keys[position], "boxes": [], "labels": [], "confidences": []}
        return row | _found(uris[position], settings.max_pixels, detector)

    blocks: list[pl.DataFrame] = [DETECTIONS.frame()]
    pending: list[dict[str, Any]] = []
    written = time.monotonic()
    with opencv_alone(), ThreadPoolExecutor(settings.threads, thread_name_prefix="detect") as pool:
        for done, row in enumerate(_in_order(pool, one, todo, 2 * settings.threads), 1):
            pending.append(row)
            if time.monotonic() - written >= _PART_SECONDS or done == len(todo):
                blocks.append(_write_part(pending, parts))
                pending, written = [], time.monotonic()
            if progress:
                progress(done, len(todo))
    return pl.concat(blocks)


def _in_order(pool: ThreadPoolExecutor, call: Any, todo: Sequence[int], ahead: int) -> Iterator[dict[str, Any]]:
    """Results in order, with a few calls in flight: what waits for its turn is bounded."""
    running = [pool.submit(call, position) for position in todo[:ahead]]
    for number in range(len(todo)):
        if number + ahead < len(todo):
            running.append(pool.submit(call, todo[number + ahead]))
        yield running.pop(0).result()


def _found(uri: str, max_pixels: int, detector: Detector) -> dict[str, Any]:
    try:
        image = decode(read_bytes(uri), max_pixels=max_pixels)
    except ImageError as error:
        return {"error_code": error.code, "error": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a file does, it costs its own row only
        return {"error_code": "READ_ERROR", "error": f"{type(error).__name__}: {error}"}
    found = list({detection.box: detection for detection in reversed(detector.detect(image.pixels))}.values())[::-1]
    return {
        "boxes": [list(detection.box) for detection in found],
        "labels": [detection.label for detection in found],
        "confidences": [detection.confidence for detection in found],
    }


def _write_part(rows: list[dict[str, Any]], parts: Path) -> pl.DataFrame:
    columns = {c.name: pl.Series([row.get(c.name) for row in rows], dtype=c.polars_dtype) for c in DETECTIONS.columns}
    frame = DETECTIONS.frame(pl.DataFrame(columns))
    path = parts / f"part-{uuid.uuid4().hex}.parquet"
    temporary = path.with_suffix(".tmp")
    write_parquet(frame.to_arrow().cast(DETECTIONS.arrow), temporary)
    temporary.rename(path)
    return frame


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


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
