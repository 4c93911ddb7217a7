"""Two fingerprints: of the bytes, and of the picture whatever format it is kept in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from fastdup_dagster.images import Decoded, content_hash, decode, pixel_hash


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 30, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_content_hashes_agree_exactly_when_the_bytes_do(first: bytes, second: bytes) -> None:
    assert (content_hash(first) == content_hash(second)) == (first == second)
    assert len(content_hash(first)) == 32


def test_the_content_hash_is_xxh3_128() -> None:
    assert content_hash(b"") == "99aa06d3014798d86001c324468d497f"


def test_one_picture_in_lossless_formats_has_one_pixel_hash_and_many_content_hashes() -> None:
    files = [encoded(noise(), "PNG"), encoded(noise(), "BMP"), encoded(noise(), "TIFF")]
    files.append(encoded(noise(), "WEBP", lossless=True))
    assert len({pixel_hash(decode(data)) for data in files}) == 1
    assert len({content_hash(data) for data in files}) == 4


def test_metadata_alone_do_not_change_the_pixel_hash() -> None:
    exif = Image.Exif()
    exif[0x010E] = "described"
    plain, described = encoded(noise(), "JPEG"), encoded(noise(), "JPEG", exif=exif, comment=b"a comment")
    assert content_hash(plain) != content_hash(described)
    assert pixel_hash(decode(plain)) == pixel_hash(decode(described))
    text = PngImagePlugin.PngInfo()
    text.add_text("title", "x")
    assert pixel_hash(decode(encoded(noise(), "PNG"))) == pixel_hash(decode(encoded(noise(), "PNG", pnginfo=text)))


def test_a_turned_copy_that_shows_the_same_picture_has_the_same_pixel_hash() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = np.ascontiguousarray(np.rot90(noise()))
    assert pixel_hash(decode(encoded(lying, "PNG", exif=exif))) == pixel_hash(decode(encoded(noise(), "PNG")))


@pytest.mark.parametrize("place", [(0, 0, 0), (29, 39, 2), (11, 7, 1)])
def test_one_changed_value_changes_the_pixel_hash(place: tuple[int, int, int]) -> None:
    changed = noise()
    changed[place] ^= 1
    assert pixel_hash(Decoded(changed, 40, 30, "png")) != pixel_hash(Decoded(noise(), 40, 30, "png"))


def test_the_same_numbers_in_another_shape_are_another_picture() -> None:
    pixels = noise(20, 60)
    other = pixels.reshape(60, 20, 3)
    assert pixel_hash(Decoded(pixels, 60, 20, "png")) != pixel_hash(Decoded(other, 20, 60, "png"))


def test_pixel_hashes_of_jpegs_agree_at_a_smaller_scale_too() -> None:
    data = encoded(noise(1000, 1200), "JPEG", quality=80)
    exif = Image.Exif()
    exif[0x010E] = "described"
    other = encoded(noise(1000, 1200), "JPEG", quality=80, exif=exif)
    assert pixel_hash(decode(data, min_side=448)) == pixel_hash(decode(other, min_side=448))
