"""The size of an image from its header, as decoding would give it, without decoding its pixels."""

from __future__ import annotations

import io
from typing import Any

import simplejpeg
from PIL import Image

from fastdup_dagster.images.decode import ImageError, decode, jpeg_orientation
from fastdup_dagster.sources.opening import open_binary

# Where the size of most images is: of a remote one, no more is read.
_FIRST = 32_768
# Metadata of a JPEG come before its size; a colour profile or a preview among them seldom makes more than this.
_HEAD = 262_144
_ON_THEIR_SIDE = (5, 6, 7, 8)
# Where PNG may keep an orientation, after the pixels for all that it says: without any of these, it keeps none.
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


def image_size(uri: str) -> tuple[int, int]:
    """Width and height in pixels, upright.

    Raises:
        ImageError: if the file cannot be read, or is no image.
    """
    try:
        with open_binary(uri, _FIRST) as file:
            data = b""
            for more in (_FIRST, _HEAD - _FIRST):
                data += file.read(more)
                if (size := _jpeg_size(data)) is not None:
                    return size
            return _size(data + file.read())
    except OSError as error:
        raise ImageError("READ_ERROR", error.strerror or str(error)) from error


def _size(data: bytes) -> tuple[int, int]:
    if (size := _jpeg_size(data)) is not None:
        return size
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Pillow turns these itself, as it opens or reads them; what it says of the others is what decoding does.
            if image.format in ("BMP", "GIF") or (image.format == "PNG" and not any(m in data for m in _PNG_METADATA)):
                return image.size
    except Exception:  # noqa: BLE001, S110 - Pillow's plugins raise many kinds on broken input; decoding says what it is
        pass
    decoded = decode(data)
    return decoded.width, decoded.height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    if data[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):
        return None
    size: Any = (height, width) if jpeg_orientation(data) in _ON_THEIR_SIDE else (width, height)
    return size
