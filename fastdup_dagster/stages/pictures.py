"""What a page says about one image, and its thumbnail: a file beside the page, or inline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.sources.part_reading import keeping_open
from fastdup_dagster.stages.pages import IMAGE_FOLDER, data_uri, link, visible

THUMBNAIL_MAX_SIDE = 320
"""Pixels of the longer side of a thumbnail in a gallery."""
PREVIEW_MAX_SIDE = 240
"""Pixels of the longer side of a thumbnail that is inlined in a data set's report."""

_JPEG_QUALITY = 80

ReadThumbnail = Callable[[str, int], bytes]
"""`(uri, longest side in pixels) -> JPEG bytes`; raises on an image that cannot be read."""


def thumbnail_jpeg(uri: str, max_side: int) -> bytes:
    """`images.thumbnail_jpeg`, imported when the first picture is made: decoders stay out of a page's import."""
    from fastdup_dagster import images

    return images.thumbnail_jpeg(uri, max_side)


@dataclass(frozen=True)
class Outline:
    """Boxes to draw over an image: its size in pixels, and the corners of each box as an SVG polygon's points."""

    width: int
    height: int
    polygons: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """One image on a page. `src` is its thumbnail's link or data URI; without one, `reason` says why.

    `box` is the part that the instance is (x, y, width, height or four corners; None for all of the image). Where `src`
    shows the whole image with that part outlined, `crop_src` shows the part alone. `extra` are a caller's own facts,
    `given` is the file as the caller's tables spell it, `timestamp` the seconds from the first frame of a video.
    """

    index: int
    name: str
    uri: str
    split: str | None = None
    label: str | None = None
    width: int | None = None
    height: int | None = None
    file_size: int | None = None
    src: str | None = None
    reason: str | None = None
    box: tuple[float, ...] | None = None
    crop_src: str | None = None
    outline: Outline | None = None
    extra: tuple[tuple[str, object], ...] = ()
    given: str | None = None
    timestamp: float | None = None

    @property
    def title(self) -> str:
        """The name for people; of a frame of a video, with its time in minutes and seconds."""
        if self.timestamp is None:
            return visible(self.name)
        minutes, seconds = divmod(round(self.timestamp, 2), 60)
        return f"{visible(self.name)} at {minutes:.0f}:{seconds:05.2f}"

    @property
    def inlined(self) -> bool:
        """Whether the thumbnail is inside the page."""
        return self.src is not None and self.src.startswith("data:")

    @property
    def size(self) -> str:
        """`470 × 400`, in pixels; a dash where it is not known."""
        return "–" if self.width is None or self.height is None else f"{self.width} × {self.height}"

    @property
    def alt(self) -> str:
        """Alternative text: the file's name and size."""
        return f"{self.title}, {self.size} pixels" if self.width is not None else self.title


def pictures_of(manifest: pl.DataFrame, img_stats: pl.DataFrame, indices: Iterable[int]) -> dict[int, Picture]:
    """Looks up the images with these indices.

    Args:
        manifest: image_manifest.
        img_stats: img_stats.
        indices: ids of the wanted images; an unknown one gets a picture that says so.

    Returns:
        One `Picture` without a thumbnail per id.
    """
    wanted = sorted(set(indices))
    rows = (
        manifest.join(pl.DataFrame({"index": wanted}, schema={"index": pl.Int64}), on="index", how="semi")
        .select("index", "filename", "uri", "split", "label", "file_size", "box", "timestamp", "error_code", "error")
        .join(img_stats.select("index", "img_w", "img_h"), on="index", how="left")
    )
    found = {row["index"]: _picture(row) for row in rows.iter_rows(named=True)}
    return {i: found.get(i) or Picture(i, f"image {i}", "", reason="not in the manifest") for i in wanted}


def _picture(row: Mapping[str, object]) -> Picture:
    code, error = row["error_code"], row["error"]
    fields = {"name": "filename", **{name: name for name in ("uri", "split", "label", "file_size", "timestamp")}}
    values: dict[str, object] = {name: row[column] for name, column in fields.items()}
    values |= {"index": row["index"], "width": row["img_w"], "height": row["img_h"]}
    box = row["box"]
    values["box"] = None if box is None else tuple(box)  # type: ignore[arg-type]
    reason = f"{code}: {error}" if code and error else code
    return Picture(**values, reason=reason)  # type: ignore[arg-type]


def with_thumbnail_files(
    pictures: Collection[Picture], folder: Path, read: ReadThumbnail, threads: int, prefix: str = ""
) -> dict[int, Picture]:
    """Writes each picture's thumbnail once, as `<folder>/images/<prefix><index>.jpg`.

    Args:
        pictures: what to make thumbnails of.
        folder: of the pages; its `images` folder exists.
        read: makes the JPEG; an error of it becomes the picture's `reason`, never an exception.
        threads: thumbnails made at the same time.
        prefix: keeps images of several splits apart in one folder.

    Returns:
        The pictures by index, each with a relative link or a reason.
    """

    def store(picture: Picture, jpeg: bytes) -> str:
        name = f"{prefix}{picture.index}.jpg"
        (folder / IMAGE_FOLDER / name).write_bytes(jpeg)
        return link(IMAGE_FOLDER, name)

    return _with_thumbnails(pictures, THUMBNAIL_MAX_SIDE, read, threads, store)


def with_inline_thumbnails(pictures: Collection[Picture], read: ReadThumbnail, threads: int) -> dict[int, Picture]:
    """Like `with_thumbnail_files`, but each thumbnail is a smaller data URI inside the page."""
    return _with_thumbnails(pictures, PREVIEW_MAX_SIDE, read, threads, lambda _, jpeg: data_uri(jpeg))


def encoded(pixels: NDArray[np.uint8], width: int, height: int, grey: bool = False) -> bytes:
    """A JPEG of H x W x 3 uint8 RGB pixels, at this size, with or without colours.

    Raises:
        ValueError: if it cannot be made.
    """
    if (width, height) != (pixels.shape[1], pixels.shape[0]):
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    shown = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError(f"no picture of {width} x {height} pixels")
    return bytes(data)


def read_image(uri: str, box: Sequence[float] | None = None) -> NDArray[np.uint8]:
    """`images.read_image`, imported when the first picture is made."""
    from fastdup_dagster import images

    return images.read_image(uri, box)


def bytes_of(uri: str) -> bytes:
    """`images.read_bytes`, imported when it is needed."""
    from fastdup_dagster import images

    return images.read_bytes(uri)


def _crop_jpeg(picture: Picture, max_side: int) -> bytes:
    part = read_image(picture.uri, picture.box)
    height, width = part.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    return encoded(part, max(1, round(width * scale)), max(1, round(height * scale)))


def _with_thumbnails(
    pictures: Collection[Picture],
    max_side: int,
    read: ReadThumbnail,
    threads: int,
    store: Callable[[Picture, bytes], str],
) -> dict[int, Picture]:
    def make(picture: Picture) -> Picture:
        if picture.reason is not None:
            return picture
        try:
            jpeg = read(picture.uri, max_side) if picture.box is None else _crop_jpeg(picture, max_side)
        except Exception as error:  # noqa: BLE001 whatever a decoder or a file system raises, the page is still made
            code = getattr(error, "code", None)
            return replace(picture, reason=f"{code if isinstance(code, str) else type(error).__name__}: {error}")
        return replace(picture, src=store(picture, jpeg))

    with keeping_open(threads), ThreadPoolExecutor(max(1, threads)) as pool:
        return {picture.index: picture for picture in pool.map(make, pictures)}
