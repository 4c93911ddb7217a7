"""What a person is told unasked."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster.analysis import DatasetWarning

QUIET = {"print_summary": False, "num_threads": 2}


def told(fd: fastdup.Fastdup, **arguments: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fd.run(**QUIET, **arguments)
    mine = [item for item in caught if issubclass(item.category, DatasetWarning)]
    assert all(item.filename == __file__ for item in mine)
    return [str(item.message) for item in mine]


def test_archives_and_videos_among_images_are_named(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    assert told(fd) == []
    (tmp_path / "images" / "more.tar.gz").write_bytes(b"x")
    (tmp_path / "images" / "clip.mp4").write_bytes(b"x")
    (text,) = told(fd)
    assert "left out" in text and ".mp4" in text and ".gz" in text


@pytest.mark.parametrize("count", [1, 3])
def test_images_that_are_too_small_are_counted(count: int, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    for number in range(count):
        Image.new("RGB", (9, 40)).save(tmp_path / "images" / f"tiny-{number}.png")
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    for _ in range(2):  # the second run reads nothing, and says it all the same
        (text,) = told(fd)
        assert text.startswith(f"{count} images are under 10 pixels") and "IMAGE_TOO_SMALL" in text
