"""Whatever bytes a file holds, decoding gives an image or an ImageError: no other exception, no crash."""

from __future__ import annotations

import functools
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastdup_dagster.images import ImageError, decode
from fastdup_dagster.schemas import ERROR_CODES

# What decoding silences at its import, pytest lets through again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

KINDS = ["JPEG", "progressive JPEG", "CMYK JPEG", "EXIF JPEG", "PNG", "palette PNG", "GIF", "WEBP", "TIFF", "LZW TIFF"]
KINDS += ["BMP", "JPEG2000"]


@functools.cache
def sample(kind: str) -> bytes:
    """A small good file of a kind."""
    patches = np.random.default_rng(3).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.resize(patches, (40, 30), interpolation=cv2.INTER_CUBIC))
    options: dict[str, object] = {}
    if kind.startswith("CMYK"):
        image = image.convert("CMYK")
    if kind.startswith("palette"):
        image, options = image.quantize(8), {"transparency": 0}
    if kind.startswith("progressive"):
        options = {"progressive": True}
    if kind.startswith("EXIF"):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "described"
        options = {"exif": exif}
    if kind.startswith("LZW"):
        options = {"compression": "tiff_lzw"}
    buffer = io.BytesIO()
    image.save(buffer, kind.split()[-1], **options)
    return buffer.getvalue()


def check(data: bytes, min_side: int = 0) -> None:
    try:
        image = decode(data, min_side=min_side, max_pixels=1_000_000)
    except ImageError as error:
        assert error.code in ERROR_CODES
        return
    again = decode(data, min_side=min_side, max_pixels=1_000_000)
    assert np.array_equal(image.pixels, again.pixels)  # no pixel is what happened to lie in memory
    height, width, channels = image.pixels.shape
    assert (image.pixels.dtype, channels) == (np.uint8, 3)
    assert min(height, width) >= 10 or min_side
    assert (image.width >= image.height) == (width >= height)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=max(60, settings().max_examples))
def test_mutated_files_give_an_image_or_an_image_error(kind: str, data: st.DataObject) -> None:
    found = bytearray(sample(kind))
    places = st.integers(0, len(found) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        found[place] = value
    cut = data.draw(st.none() | st.tuples(places, places))
    if cut is not None:
        del found[min(cut) : max(cut)]
    check(bytes(found), min_side=data.draw(st.sampled_from([0, 16])))


@pytest.mark.parametrize("kind", KINDS)
def test_headers_with_any_one_byte_changed_give_an_image_or_an_image_error(kind: str) -> None:
    good = sample(kind)
    for place in range(min(len(good), 120)):
        for value in (0x00, 0x7F, 0xFF):
            check(good[:place] + bytes([value]) + good[place + 1 :])


@given(st.binary(max_size=200))
def test_any_bytes_give_an_image_or_an_image_error(data: bytes) -> None:
    check(data)
    check(b"\xff\xd8\xff" + data)
    check(b"\x89PNG\r\n\x1a\n" + data)
