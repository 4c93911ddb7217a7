"""The pictures of a V1 gallery: whole images with boxes outlined, or the boxes alone; beside the page or in it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images.crop import corners
from fastdup_dagster.stages.pages import IMAGE_FOLDER, data_uri, link
from fastdup_dagster.stages.pictures import THUMBNAIL_MAX_SIDE, Outline, Picture, encoded, read_image
from fastdup_dagster.stages.v1_gallery_options import Lookup

Pixels = NDArray[np.uint8]
ReadImage = Callable[[str, Sequence[float] | None], Pixels]
"""`(uri, box or None for all) -> H x W x 3, uint8, RGB, upright`; raises on an image that cannot be read."""

_TALLEST = 8
"""With a `max_width`, a picture is at most so many times as high as that."""


@dataclass(frozen=True)
class PictureMaker:
    """Makes the pictures of one page.

    Attributes:
        page: the page; its pictures go to the `images` folder beside it.
        lazy: files beside the page; else data URIs inside it.
        max_width: pixels; None makes the longer side at most `THUMBNAIL_MAX_SIDE`.
        draw_bbox: an instance that is a box is shown as the whole image with the box outlined; else the box alone.
        grey: without colours.
        threads: pictures made at the same time.
        boxes_of: more boxes to outline on an image: each x1, y1, x2, y2.
        read: gives the pixels.
        written: the files beside the page that it refers to, filled by `make`.
    """

    page: Path
    lazy: bool
    max_width: int | None = None
    draw_bbox: bool = True
    grey: bool = False
    threads: int = 1
    boxes_of: Lookup | None = None
    read: ReadImage = read_image
    written: set[Path] = field(default_factory=set)

    def make(self, pictures: Collection[Picture]) -> dict[int, Picture]:
        """The pictures by index, each with a link, a data URI, or the reason why there is none."""
        if self.lazy:
            (self.page.parent / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            return {picture.index: picture for picture in pool.map(self._one, pictures)}

    def _one(self, picture: Picture) -> Picture:
        if picture.reason is not None:
            return picture
        more = self._more_boxes(picture)
        try:
            part = None if picture.box is None else self.read(picture.uri, picture.box)
            pixels = part if part is not None and not self.draw_bbox else self.read(picture.uri, None)
        except Exception as error:  # noqa: BLE001 whatever a decoder or a file system raises, the page is still made
            code = getattr(error, "code", None)
            return replace(picture, reason=f"{code if isinstance(code, str) else type(error).__name__}: {error}")
        shown = pixels if part is None else part
        if picture.width is None:
            picture = replace(picture, width=shown.shape[1], height=shown.shape[0])
        if not self.draw_bbox or (part is None and not more):
            return replace(picture, src=self._store(shown))
        drawn = [*more] if picture.box is None else [corners(picture.box), *more]
        height, width = pixels.shape[:2]
        crop_src = None if part is None else self._store(part)
        return replace(
            picture,
            src=self._store(pixels),
            crop_src=crop_src,
            outline=Outline(width, height, tuple(map(_points, drawn))),
        )

    def _more_boxes(self, picture: Picture) -> list[NDArray[np.float64]]:
        if self.boxes_of is None:
            return []
        given = self.boxes_of(picture)
        boxes = [] if given is None else list(given)
        if boxes and not isinstance(boxes[0], Sequence | np.ndarray):
            boxes = [boxes]
        for box in boxes:
            if len(box) != 4:
                raise ValueError(f"get_bounding_box_func gave {box!r} for {picture.name!r}: expected x1, y1, x2, y2")
        return [corners([x1, y1, x2 - x1, y2 - y1]) for x1, y1, x2, y2 in boxes]

    def _store(self, pixels: Pixels) -> str:
        jpeg = self._jpeg(pixels)
        if not self.lazy:
            return data_uri(jpeg)
        # named after what is in it: galleries in one folder share pictures, and no other file is ever replaced
        name = f"{hashlib.blake2b(jpeg, digest_size=16).hexdigest()}.jpg"
        path = self.page.parent / IMAGE_FOLDER / name
        if not path.exists():
            part = path.with_name(f".{name}.part-{uuid.uuid4().hex[:8]}")
            part.write_bytes(jpeg)
            part.replace(path)
        self.written.add(path)
        return link(IMAGE_FOLDER, name)

    def _jpeg(self, pixels: Pixels) -> bytes:
        height, width = pixels.shape[:2]
        if self.max_width is None:
            scale = THUMBNAIL_MAX_SIDE / max(height, width)
        else:
            scale = min(self.max_width / width, _TALLEST * self.max_width / height)
        scale = min(scale, 1.0)
        # a width that is asked for is never exceeded
        return encoded(pixels, max(1, int(width * scale + 1e-6)), max(1, round(height * scale)), self.grey)


def _points(box: NDArray[np.float64]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in box.tolist())
