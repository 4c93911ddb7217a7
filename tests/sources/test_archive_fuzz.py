"""Whatever bytes an archive or video holds, to list and read it ends, with entries or reasons, and writes nothing.

A longer run: `pytest tests/sources/test_archive_fuzz.py --hypothesis-profile=explore`.
"""

from __future__ import annotations

import functools
import gzip
import io
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdup_dagster.images import ImageError, read_bytes
from fastdup_dagster.schemas import ERROR_CODES
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.sources.archive import BrokenArchiveError
from fastdup_dagster.sources.tar import tar_members
from fastdup_dagster.sources.zip import zip_members

_SECONDS = 20
_CODECS = {"mp4": "mp4v", "avi": "MJPG", "mkv": "mp4v", "webm": "VP80", "mpg": "mpg1"}


@functools.cache
def sample(kind: str) -> bytes:
    """A small good file of a kind."""
    if kind in _CODECS:
        return _video(kind)
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(4):
                archive.writestr(f"folder/{number}.jpg", b"abc" * 100 * number)
        return buffer.getvalue()
    style = tarfile.GNU_FORMAT if kind == "gnu.tar" else tarfile.PAX_FORMAT
    with tarfile.open(fileobj=buffer, mode="w", format=style) as packed:
        for number in range(4):
            info = tarfile.TarInfo(f"{'long' * 40 * (number % 2)}/\u00e9{number}.jpg")
            info.size = 300 * number
            packed.addfile(info, io.BytesIO(b"abc" * 100 * number))
    return gzip.compress(buffer.getvalue(), mtime=0) if kind == "tar.gz" else buffer.getvalue()


def _video(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"v.{kind}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_CODECS[kind]), 25, (32, 32))
        for number in range(30):
            writer.write(np.full((32, 32, 3), 8 * number, np.uint8))
        writer.release()
        return path.read_bytes()


def check(data: bytes, kind: str) -> None:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        path.write_bytes(data)
        source = open_source(path, Settings(video_rate=10))
        entries = list(source.entries())
        assert len({entry.filename for entry in entries}) == len(entries)
        for entry in entries:
            assert entry.error_code is None or (entry.error_code in ERROR_CODES and entry.error)
            if entry.error_code is None:
                try:
                    read_bytes(entry.uri)
                except ImageError as error:
                    assert error.code in ERROR_CODES
        assert entries or source.notes
        assert list(Path(folder).iterdir()) == [path] and path.read_bytes() == data
    assert time.monotonic() - begun < _SECONDS


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A good file with bytes changed, taken out, put in, and its end cut off."""
    data = bytearray(sample(kind))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[at : at + 8] = draw(st.sampled_from([b"\xff" * 8, b"\x80" + bytes(7), bytes(8), b"77777777"]))
            case 2:
                del data[at : at + draw(st.integers(1, 600))]
            case _:
                data[at:at] = draw(st.binary(max_size=20))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.parametrize("kind", ["tar", "gnu.tar", "tar.gz", "zip"])
@given(data=st.data())
def test_a_damaged_archive_never_crashes_hangs_or_writes(kind: str, data: st.DataObject) -> None:
    check(data.draw(damaged(kind)), kind)


@pytest.mark.parametrize("kind", list(_CODECS))
@settings(max_examples=settings.get_profile(settings.get_current_profile_name()).max_examples // 3)
@given(data=st.data())
def test_a_damaged_video_never_crashes_hangs_or_writes(kind: str, data: st.DataObject) -> None:
    check(data.draw(damaged(kind)), kind)


@given(inner=st.data())
def test_a_tar_that_is_damaged_before_it_is_packed_never_crashes(inner: st.DataObject) -> None:
    check(gzip.compress(inner.draw(damaged("tar"))), "tar.gz")


@given(data=st.binary(max_size=3000))
def test_bytes_that_are_no_archive_are_told_from_one(data: bytes) -> None:
    for reader in (lambda: tar_members(io.BytesIO(data)), lambda: zip_members(io.BytesIO(data), len(data))):
        try:
            list(reader())
        except BrokenArchiveError as error:
            assert str(error)
