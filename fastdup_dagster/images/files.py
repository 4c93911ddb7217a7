"""Images by their URI: bytes, pixels, previews."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images.crop import NO_MARGINS, Margins, corners, crop
from fastdup_dagster.images.decode import MAX_PIXELS, ImageError, decode
from fastdup_dagster.sources.locations import is_remote, location_of
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.part_reading import read_part
from fastdup_dagster.sources.parts import part_of
from fastdup_dagster.sources.paths import local_path

PREVIEW_QUALITY = 80
_OUTLINE = (255, 0, 80)  # RGB


def read_bytes(uri: str) -> bytes:
    """The bytes of a file or of a member of an archive, local or in an object store; of a frame, its pixels as PPM.

    Raises:
        ImageError: MISSING_FILE if it is not there, READ_ERROR if it cannot be read.
    """
    try:
        if (part := part_of(uri)) is not None:
            return read_part(part, MAX_PIXELS)
        if is_remote(uri):
            place = location_of(uri)
            return object_store(place.server).get(place)
        with open(local_path(uri), "rb") as file:  # noqa: PTH123 - the path is bytes
            return file.read()
    except FileNotFoundError as error:
        raise ImageError("MISSING_FILE", f"no such file ({_reason(error)})") from error
    except OSError as error:
        raise ImageError("READ_ERROR", _reason(error)) from error
    except MemoryError as error:
        raise ImageError("READ_ERROR", "not enough memory to read it") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def read_image(uri: str, box: Sequence[float] | None = None, margins: Margins = NO_MARGINS) -> NDArray[np.uint8]:
    """The pixels of an image, or of a box in it, at full size: H x W x 3, uint8, RGB, upright.

    Raises:
        ImageError: saying why it cannot be used.
    """
    image = decode(read_bytes(uri))
    return image.pixels if box is None else crop(image, box, margins).pixels


def thumbnail_jpeg(uri: str, max_side: int, boxes: Sequence[Sequence[float]] = ()) -> bytes:
    """A JPEG of the image, aspect kept, its longer side at most `max_side` pixels; boxes in it are outlined.

    Raises:
        ImageError: saying why the image cannot be used.
    """
    # Scaled in the JPEG decoder to no less than twice what is shown: many times faster on large photos.
    image = decode(read_bytes(uri), min_side=2 * max_side)
    pixels = image.pixels
    height, width = pixels.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if boxes:
        shown = np.array([pixels.shape[1] / image.width, pixels.shape[0] / image.height])
        lines = [np.rint(corners(box) * shown).astype(np.int32) for box in boxes]
        pixels = cv2.polylines(pixels.copy(), lines, isClosed=True, color=_OUTLINE)
    done, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY])
    if not done:
        raise ImageError("UNSUPPORTED_FORMAT", f"no preview of {width} x {height} pixels")
    return bytes(data)
