"""Frames of videos by OpenCV's FFmpeg: which there are, with their true times, and the pixels of one after another.

Times are seconds from the first frame. Where the container has times (MP4, Matroska), they are read off its packets,
without decoding; where it has none that can be relied on (AVI, MPEG), frames are counted, and the rate gives the time.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.sources import opening
from fastdup_dagster.sources.base import FrameChoice
from fastdup_dagster.sources.edit_list import is_cut

# FFmpeg would write a line for every broken packet; it asks when the first video is opened. -8 is AV_LOG_QUIET.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_SAME = 0.0015
"""Seconds within which two times are one: Matroska rounds to milliseconds."""
_FAR, _FAR_AT_FIRST = 20.0, 1.0
"""Seconds over which a jump to a key frame costs less than decoding on; from the start, where one frame is wanted."""
_SCENE_SIZE = (64, 36)
_SHORTEST_SCENE = 0.5
_MOV = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"))


class BrokenVideoError(ValueError):
    """A video that cannot be read, or has no such frame."""


def chosen_frames(uri: str, choice: FrameChoice) -> tuple[list[tuple[int, float]], int]:
    """Number (from 0) and time of the chosen frames in order, and how many frames the video has.

    Raises:
        BrokenVideoError: if there is no frame that can be decoded.
        OSError: if the file cannot be read.
    """
    with _Capture(uri) as capture:  # a video that says much and gives nothing is no video
        if not capture.grab():
            raise BrokenVideoError("no frame in it can be decoded")
        if choice.mode == "scenes":
            return _scenes(capture, choice.threshold)
    times = frame_times(uri)
    if choice.mode == "all":
        return list(enumerate(times)), len(times)
    chosen, period = [], -1
    for number, seconds in enumerate(times):
        if (now := int((seconds + _SAME) * choice.rate)) > period:
            chosen.append((number, seconds))
            period = now
    return chosen, len(times)


def frame_times(uri: str) -> list[float]:
    """The time of every frame, in seconds from the first, as a player shows them.

    Raises:
        BrokenVideoError: if there is no frame.
        OSError: if the file cannot be read.
    """
    with _Capture(uri, packets=True) as capture:
        times = [] if capture.is_cut else sorted(capture.positions())
        rate, kind = capture.rate, capture.kind
    if not times or kind == "mpeg" or (kind != "avi" and any(b <= a for a, b in itertools.pairwise(times))):
        with _Capture(uri) as capture:
            times = list(capture.positions())
    if not times:
        raise BrokenVideoError("no frame in it can be decoded")
    if kind in ("avi", "mpeg"):
        return [number / rate for number in range(len(times))]
    return [seconds - times[0] for seconds in sorted(times)]


class FrameReader:
    """Reads frames of one video, fastest in their order; `at` is the number of the frame that it stands at.

    Args:
        uri: of the video.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._open()

    def _open(self) -> None:
        self._capture = _Capture(self._uri)
        if not self._capture.grab():
            raise BrokenVideoError("no frame in it can be decoded")
        self.at, self._first = 0, self._capture.position

    @property
    def _seconds(self) -> float:
        return self._capture.position - self._first

    def close(self) -> None:
        """Closes the video."""
        self._capture.close()

    def read(self, number: int, seconds: float, max_pixels: int) -> bytes:
        """A frame as a PPM file, upright.

        Args:
            number: of the frame, from 0.
            seconds: from the first frame; where the container has times, they decide.
            max_pixels: a frame of more is refused.

        Raises:
            BrokenVideoError: if the video does not give it.
            OSError: if the file cannot be read.
        """
        width, height = self._capture.size
        if width * height > max_pixels:
            raise BrokenVideoError(f"frames of {width} x {height} pixels: over max_pixels={max_pixels}")
        is_found = self._go_to(number, seconds)
        pixels = self._capture.retrieve() if is_found else None
        if pixels is None:
            raise BrokenVideoError(f"frame {number}, at {seconds:.3f} s, cannot be decoded")
        self.at = number
        rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return b"P6 %d %d 255\n" % (rgb.shape[1], rgb.shape[0]) + rgb.tobytes()

    def _go_to(self, number: int, seconds: float) -> bool:
        """Whether the video gives the frame; it is the grabbed one then."""
        if not self._capture.has_times:
            while self.at < number and self._capture.grab():
                self.at += 1
            return self.at == number
        if seconds - self._seconds > (_FAR if self.at else _FAR_AT_FIRST):
            self._capture.seek(self._first + seconds - 1)
            if not self._capture.grab() or self._seconds > seconds + _SAME:  # it jumped too far
                self.close()
                self._open()
        while self._seconds < seconds - _SAME:
            if not self._capture.grab():
                return False
        return self._seconds <= seconds + _SAME


class _Capture:
    """OpenCV's capture of what a URI leads to; positions in seconds."""

    def __init__(self, uri: str, packets: bool = False) -> None:
        self._file = opening.open_binary(uri)
        try:
            self.kind = _kind(self._file)
            self.is_cut = self.kind == "mov" and is_cut(self._file)
            self._stream = _Stream(self._file)
            options = [cv2.CAP_PROP_FORMAT, -1] if packets else []
            self._capture = cv2.VideoCapture(self._stream, cv2.CAP_FFMPEG, options)
            if not self._capture.isOpened():
                self._stream.check()
                raise BrokenVideoError("it cannot be opened as a video: broken, cut off, or without a picture")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> _Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_times(self) -> bool:
        return self.kind in ("mov", "matroska")

    @property
    def rate(self) -> float:
        """Frames per second."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 100_000 else 25.0

    @property
    def position(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))

    def positions(self) -> Iterator[float]:
        """The time of each frame, or packet, from here on."""
        while self.grab():
            yield self.position

    def seek(self, seconds: float) -> None:
        self._capture.set(cv2.CAP_PROP_POS_MSEC, max(0.0, seconds * 1000))

    def grab(self) -> bool:
        """Goes to the next frame; False at the end."""
        is_there = self._capture.grab()
        self._stream.check()
        return bool(is_there)

    def retrieve(self) -> NDArray[np.uint8] | None:
        """H x W x 3, BGR, of the frame that it stands at, turned upright; None if it cannot be decoded."""
        done, pixels = self._capture.retrieve()
        return np.asarray(pixels, dtype=np.uint8) if done else None

    def close(self) -> None:
        self._capture.release()
        self._file.close()


class _Stream(io.BufferedIOBase):
    """A file as OpenCV takes it: an error of reading must not pass through FFmpeg, but is kept for `check`."""

    def __init__(self, file: BinaryIO) -> None:
        self._inner = file
        self._error: OSError | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return self._inner.read(-1 if size is None else size)
        except OSError as error:
            self._error = error
            return b""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return self._inner.seek(offset, whence)
        except (OSError, ValueError):  # FFmpeg tries places before the start
            return -1

    def check(self) -> None:
        """Raises what reading raised."""
        if self._error is not None:
            raise self._error


def _kind(file: BinaryIO) -> str:
    """The container by its first bytes. Nothing else gets to FFmpeg: it also reads lists that name further files."""
    head = file.read(12)
    file.seek(0)
    if head[4:8] in _MOV:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith((b"\0\0\1\xba", b"\0\0\1\xb3", b"G")):
        return "mpeg"
    raise BrokenVideoError("not a video by its content: expected MP4, QuickTime, AVI, Matroska, WebM or MPEG")


def _scenes(capture: _Capture, threshold: float) -> tuple[list[tuple[int, float]], int]:
    """The first frame of each scene; the capture stands at the first frame."""
    chosen: list[tuple[int, float]] = []
    number, first, before = 0, capture.position, None
    while True:
        seconds = capture.position - first if capture.has_times else number / capture.rate
        pixels = capture.retrieve()
        if pixels is not None:
            small = cv2.resize(pixels, _SCENE_SIZE, interpolation=cv2.INTER_AREA)
            now = cv2.cvtColor(small, cv2.COLOR_BGR2HSV).astype(np.int16)
            is_new = before is None or float(np.abs(now - before).mean()) > threshold
            if is_new and (not chosen or seconds - chosen[-1][1] >= _SHORTEST_SCENE):
                chosen.append((number, seconds))
            before = now
        number += 1
        if not capture.grab():
            return chosen, number
