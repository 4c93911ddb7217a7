"""What is found becomes the listing; no image is looked at twice, and none vanishes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from faulty_proxy import faulty_proxy
from PIL import Image

from fastdup_dagster.models.detectors import Detection
from fastdup_dagster.schemas import DETECTIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings, settings_from
from fastdup_dagster.sources import open_source
from fastdup_dagster.sources.video import FrameReader
from fastdup_dagster.stages.detections import crops_of, detect
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore, open_store
from tests.conftest import S3Server
from tests.sources.test_video import write_video

SETTINGS = settings_from({"num_threads": 2})


class Bright:
    """Finds one box per bright image, and counts the images it looked at."""

    def __init__(self, version: str = "1", stop_after: int = 10**9) -> None:
        self.id = f"bright {version}"
        self.looked = 0
        self._stop_after = stop_after

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        if self.looked >= self._stop_after:
            raise KeyboardInterrupt("stopped")
        self.looked += 1
        if pixels.mean() < 128:
            return []
        box = (2.0, 3.0, 20.0, 10.0)
        return [
            Detection(box, "bright", 0.9),
            Detection(box, "again", 0.8),
            Detection((0.0, 0.0, 12.0, 12.0), "corner", 0.5),
        ]


@pytest.fixture
def files(tmp_path: Path) -> pl.DataFrame:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, value in enumerate((200, 10, 250)):
        Image.fromarray(np.full((40, 50, 3), value, np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return list_images(open_source(str(folder)), Settings()).frame


def test_every_image_has_a_row_and_a_broken_one_its_reason(files: pl.DataFrame, tmp_path: Path) -> None:
    found = detect(files, SETTINGS, Bright(), TableStore(tmp_path), "a/b")
    assert found["index"].to_list() == [0, 1, 2, 3]
    assert found["labels"].to_list() == [["bright", "corner"], [], ["bright", "corner"], []]
    assert found["error_code"].to_list() == [None, None, None, "CORRUPT_IMAGE"]
    assert TableStore(tmp_path).read("detections", "a/b").equals(DETECTIONS.frame(found))


def test_only_what_changed_is_looked_at_again(files: pl.DataFrame, tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    first = Bright()
    before = detect(files, SETTINGS, first, store, "a/b")
    again = Bright()
    assert detect(files, SETTINGS, again, store, "a/b").equals(before)
    assert (first.looked, again.looked) == (3, 0)
    os.utime(tmp_path / "images" / "1.png", ns=(1, 1))
    touched = Bright()
    listing = list_images(open_source(str(tmp_path / "images")), Settings()).frame
    detect(listing, SETTINGS, touched, store, "a/b")
    assert touched.looked == 1
    other, recomputed = Bright("2"), Bright("2")
    detect(listing, SETTINGS, other, store, "a/b")
    detect(listing, SETTINGS, recomputed, store, "a/b", recompute=True)
    assert (other.looked, recomputed.looked) == (3, 3)


def test_an_interrupted_pass_goes_on(files: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdup_dagster.stages.detections._PART_SECONDS", 0.0)
    store = TableStore(tmp_path)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        detect(files, settings_from({"num_threads": 1}), Bright(stop_after=2), store, "a/b")
    rest = Bright()
    assert len(detect(files, SETTINGS, rest, store, "a/b")) == 4
    assert rest.looked < 3


def test_crops_come_first_and_images_without_any_keep_a_row_with_the_reason(
    files: pl.DataFrame, tmp_path: Path
) -> None:
    found = detect(files, SETTINGS, Bright(), TableStore(tmp_path), "a/b")
    listing = crops_of(files, found, "bright")
    assert listing["index"].to_list() == list(range(6))
    assert listing["filename"].to_list() == ["0.png", "0.png", "2.png", "2.png", "1.png", "broken.png"]
    assert listing["media"].to_list() == ["crop"] * 4 + ["image"] * 2
    assert listing["parent"].to_list() == [0, 0, 2, 2, None, None]
    assert listing["confidence"].to_list() == [0.9, 0.5, 0.9, 0.5, None, None]
    assert listing["error_code"].to_list() == [None] * 4 + ["MISSING_ANNOTATION", "CORRUPT_IMAGE"]
    assert listing["error"][4] == "bright found nothing in it"
    assert IMAGE_MANIFEST.frame(listing)["instance_id"].n_unique() == 6


def test_nothing_found_anywhere_is_a_listing_of_images(files: pl.DataFrame, tmp_path: Path) -> None:
    dark = files.filter(pl.col("filename") == "1.png")
    listing = crops_of(dark, detect(dark, SETTINGS, Bright(), TableStore(tmp_path), "a/b"), "bright")
    assert listing.select("media", "error_code").rows() == [("image", "MISSING_ANNOTATION")]


def test_images_in_a_bucket_are_read_ahead_each_once_whatever_the_server_does(
    s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(buffer, "PNG")
    bucket = s3_server.bucket(**{f"{number:02}.png": buffer.getvalue() for number in range(30)})
    with faulty_proxy(s3_server.url, share=0.1, latency=0.02) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        listed = list_images(open_source(f"s3://{bucket}"), Settings()).frame
        asked = proxy.counts["ok"]
        found = detect(listed, settings_from({"num_threads": 1}), Bright(), TableStore(tmp_path), "a/b")
        assert proxy.most_in_flight > 4
        assert proxy.counts["ok"] - asked == 30
    assert found["boxes"].list.len().to_list() == [2] * 30


def test_with_a_store_in_a_bucket_no_image_is_looked_at_twice(
    files: pl.DataFrame, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDUP_SCRATCH", str(tmp_path / "scratch"))
    store = open_store(f"s3://{s3_server.bucket()}/results")
    first, again = Bright(), Bright()
    before = detect(files, SETTINGS, first, store, "a/b")
    assert detect(files, SETTINGS, again, store, "a/b").equals(before)
    assert (first.looked, again.looked) == (3, 0)


class Choosy(Bright):
    """Fails on dark images."""

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        if pixels.mean() < 128:
            raise ValueError("too dark")
        return super().detect(pixels)


def test_an_image_that_a_detector_fails_on_keeps_its_row_and_is_tried_again(
    files: pl.DataFrame, tmp_path: Path
) -> None:
    store = TableStore(tmp_path / "store")
    first = detect(files, SETTINGS, Choosy(), store, "a/b")
    failed = first.filter(pl.col("error_code") == "READ_ERROR")
    assert failed["error"].to_list() == ["the detector failed: ValueError: too dark"] * failed.height
    assert 0 < failed.height < first.height
    again = Bright()
    assert "READ_ERROR" not in detect(files, SETTINGS, again, store, "a/b")["error_code"].to_list()
    assert again.looked == failed.height


def test_a_video_is_decoded_once_however_many_threads_look_at_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, read = [], []
    begin, plain = FrameReader.__init__, FrameReader.read
    monkeypatch.setattr(FrameReader, "__init__", lambda self, uri: opened.append(uri) or begin(self, uri))
    monkeypatch.setattr(FrameReader, "read", lambda self, n, *given: read.append((self, n)) or plain(self, n, *given))
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / "videos" / name, frames=12)
    settings = settings_from({"num_threads": 4, "video_frames": "all"})
    files = list_images(open_source(str(tmp_path / "videos"), settings), settings).frame
    found = detect(files, settings, Bright(), TableStore(tmp_path), "a/b")
    assert len(found) == 24 and found["error_code"].null_count() == 24
    assert len(opened) == 2
    for reader in {reader for reader, _ in read}:
        assert [number for who, number in read if who is reader] == list(range(12))
