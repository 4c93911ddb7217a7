"""Images by their URI, whatever their names hold."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fastdup_dagster.images import ImageError, read_bytes, read_image, thumbnail_jpeg
from fastdup_dagster.sources import to_uri


def uri(path: Path | bytes) -> str:
    return to_uri(os.fsencode(path))


def save(path: Path, height: int, width: int) -> np.ndarray:
    patches = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(pixels).save(path)
    return pixels


def test_an_image_is_read_at_its_full_size(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a b#%?.png", 700, 900)
    assert np.array_equal(read_image(uri(tmp_path / "a b#%?.png")), pixels)


def test_a_file_that_is_gone_or_cannot_be_read_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as gone:
        read_bytes(uri(tmp_path / "gone.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageError) as refused:
        read_bytes(uri(tmp_path / "folder.jpg"))
    assert (gone.value.code, refused.value.code) == ("MISSING_FILE", "READ_ERROR")


def test_an_address_of_another_scheme_is_no_local_file() -> None:
    with pytest.raises(ValueError, match="gs://bucket"):
        read_bytes("gs://bucket/a.jpg")


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(300, 600, (50, 100)), (600, 300, (100, 50)), (9000, 20, (100, 1))]
)
def test_a_thumbnail_keeps_the_aspect_and_its_longer_side_is_the_limit(
    tmp_path: Path, height: int, width: int, expected: tuple[int, int]
) -> None:
    save(tmp_path / "a.png", height, width)
    with Image.open(io.BytesIO(thumbnail_jpeg(uri(tmp_path / "a.png"), 100))) as image:
        assert (image.format, image.size[::-1]) == ("JPEG", expected)


def test_a_small_image_is_not_enlarged_and_its_colours_stay(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a.png", 30, 40)
    with Image.open(io.BytesIO(thumbnail_jpeg(uri(tmp_path / "a.png"), 100))) as image:
        assert image.size == (40, 30)
        assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 8


def test_a_thumbnail_of_a_broken_file_says_why_there_is_none(tmp_path: Path) -> None:
    for data in (b"text", b"\xff\xd8\xff\xe0broken"):
        (tmp_path / "a.jpg").write_bytes(data)
        with pytest.raises(ImageError) as raised:
            thumbnail_jpeg(uri(tmp_path / "a.jpg"), 100)
        assert raised.value.code == "CORRUPT_IMAGE"
