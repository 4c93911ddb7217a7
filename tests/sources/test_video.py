"""Frames of videos: every one known with its true time, and each read as it is shown."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdup_dagster.images import ImageError, decode, read_bytes
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import Entry, open_source, to_uri
from fastdup_dagster.sources.part_reading import keeping_open
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.sources.video import FrameReader, frame_times

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="ffmpeg and ffprobe are not installed"
)
WRITTEN = {"mp4": "mp4v", "avi": "MJPG", "mkv": "mp4v", "mov": "mp4v", "m4v": "mp4v", "webm": "VP80", "mpg": "mpg1"}


def level(number: int) -> int:
    """How bright a frame is: tells its number, whatever compression does to it."""
    return 20 + 2 * (number % 100)


def write_video(path: Path, frames: int = 75, rate: float = 25.0, size: tuple[int, int] = (64, 48)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*WRITTEN[path.suffix[1:]]), rate, size)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), level(number), np.uint8))
    writer.release()
    return path


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def probed(path: Path) -> list[float | None]:
    """Times of the frames in seconds by ffprobe, which decodes them all; where a stream tells none, None."""
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-of", "json"]
    shown = "frame=best_effort_timestamp_time"
    done = subprocess.run([*command, "-show_entries", shown, str(path)], check=True, capture_output=True)
    times = [frame.get("best_effort_timestamp_time") for frame in json.loads(done.stdout)["frames"]]
    return [None if time is None else float(time) for time in times]


def check_times(path: Path) -> int:
    """Compares count and times with ffprobe's, whose first frame need not be at 0; returns the count."""
    ours, theirs = frame_times(uri(path)), probed(path)
    assert len(ours) == len(theirs) and ours[0] == 0
    shifts = [time - our for our, time in zip(ours, theirs, strict=True) if time is not None]
    assert max(shifts) - min(shifts) < 0.0011 and len(shifts) > len(ours) / 2
    return len(ours)


def listed(path: Path, **settings: object) -> list[Entry]:
    return list(open_source(path, Settings(**settings)).entries())


def uri(path: Path) -> str:
    return to_uri(as_bytes(path))


def seen(entry: Entry) -> float:
    return float(decode(read_bytes(entry.uri)).pixels.mean())


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.filename.rpartition("_")[2]) for entry in entries]


@pytest.mark.parametrize("kind", WRITTEN)
def test_one_frame_a_second_is_listed_with_number_and_time_and_is_that_frame(kind: str, tmp_path: Path) -> None:
    entries = listed(write_video(tmp_path / f"v.{kind}"))
    assert [entry.filename for entry in entries] == [f"v.{kind}/frame_{n:06}" for n in (0, 25, 50)]
    assert [entry.timestamp for entry in entries] == pytest.approx([0, 1, 2], abs=0.001)
    assert {(entry.media, entry.file_size, entry.error_code) for entry in entries} == {("frame", None, None)}
    for read in (entries, entries[::-1]):  # one after another, and back
        with keeping_open(1):
            for entry in read:
                assert seen(entry) == pytest.approx(level(int(entry.filename[-6:])), abs=3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"video_rate": 2.5}, [0, 10, 20, 30, 40, 50, 60, 70]),
        ({"video_rate": 0.5}, [0, 50]),
        ({"video_rate": 1000}, list(range(75))),
        ({"video_frames": "all"}, list(range(75))),
    ],
)
def test_the_rate_decides_which_frames_are_taken(
    settings: dict[str, object], expected: list[int], tmp_path: Path
) -> None:
    entries = listed(write_video(tmp_path / "v.mp4"), **settings)
    assert numbers(entries) == expected
    assert [entry.timestamp for entry in entries] == pytest.approx([number / 25 for number in expected], abs=0.001)


@pytest.mark.parametrize("kind", ["mp4", "avi"])
def test_scenes_begin_where_the_picture_changes(kind: str, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / f"v.{kind}"), cv2.VideoWriter.fourcc(*WRITTEN[kind]), 10, (64, 48))
    for number in range(60):
        slow_change = number % 20
        writer.write(np.full((48, 64, 3), 10 + slow_change + 110 * (number // 20), np.uint8))
    writer.release()
    entries = listed(tmp_path / f"v.{kind}", video_frames="scenes")
    assert numbers(entries) == [0, 20, 40]
    assert [entry.timestamp for entry in entries] == pytest.approx([0, 2, 4], abs=0.001)
    assert len(listed(tmp_path / f"v.{kind}", video_frames="scenes", scene_threshold=255)) == 1


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b.mkv", ["-c:v", "libx264", "-bf", "3"]),
        ("b.mp4", ["-c:v", "libx264", "-bf", "3"]),
        ("fragments.mp4", ["-c:v", "libx264", "-bf", "3", "-movflags", "frag_keyframe+empty_moov"]),
        ("x.avi", ["-c:v", "mpeg4", "-bf", "2"]),
        ("v.webm", ["-c:v", "libvpx-vp9", "-cpu-used", "8"]),
        ("m.mpg", ["-c:v", "mpeg2video", "-bf", "2"]),
        ("drop.mp4", ["-vf", "select='lt(n,40)+not(mod(n,7))'", "-vsync", "vfr", "-c:v", "libx264", "-bf", "2"]),
        ("drop.mkv", ["-vf", "select='lt(n,40)+not(mod(n,7))'", "-vsync", "vfr", "-c:v", "libx264", "-bf", "2"]),
    ],
)
def test_count_and_times_are_those_that_ffprobe_counts(name: str, options: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=5:r=30:s=96x64", *options, path)
    assert check_times(path) == (56 if name.startswith("drop") else 150)


@needs_ffmpeg
@pytest.mark.parametrize("options", [["-ss", "1.3"], ["-ss", "0", "-t", "2"], ["-ss", "1.3", "-t", "2"]])
def test_frames_that_an_edit_list_leaves_out_are_not_there(options: list[str], tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=5:r=30:s=96x64", "-c:v", "libx264", "-bf", "2", tmp_path / "whole.mp4")
    ffmpeg(*options, "-i", tmp_path / "whole.mp4", "-c", "copy", tmp_path / "cut.mp4")
    assert check_times(tmp_path / "cut.mp4") < 150


@needs_ffmpeg
def test_a_phones_rotation_is_applied(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=96x64:d=1:r=10", "-c:v", "libx264", tmp_path / "v.mp4")
    ffmpeg("-i", tmp_path / "v.mp4", "-c", "copy", "-metadata:s:v:0", "rotate=90", tmp_path / "turned.mov")
    (entry,) = listed(tmp_path / "turned.mov")
    image = decode(read_bytes(entry.uri))
    assert (image.width, image.height) == (64, 96)
    assert image.pixels.mean(axis=(0, 1)) == pytest.approx([254, 0, 0], abs=5)  # red is red


@needs_ffmpeg
def test_far_frames_are_found_alone_and_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=s=64x48:r=5:d=200,geq=lum='20+mod(N\\,100)*2':cb=128:cr=128", "-bf", "2", path)
    entries = listed(path, video_rate=0.04)
    assert numbers(entries) == [0, 125, 250, 375, 500, 625, 750, 875]
    alone = [seen(entry) for entry in entries]
    with keeping_open(1):
        assert [seen(entry) for entry in entries] == alone
    shown = [(level(n) - 16) * 255 / 219 for n in numbers(entries)]
    assert alone == pytest.approx(shown, abs=3)


def test_frames_in_order_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    begin = FrameReader.__init__
    monkeypatch.setattr(FrameReader, "__init__", lambda self, uri: opened.append(uri) or begin(self, uri))
    entries = listed(write_video(tmp_path / "v.mp4"), video_frames="all")
    with keeping_open(2):
        for entry in entries:
            read_bytes(entry.uri)
    assert len(opened) == 1


def test_what_gives_no_frame_is_a_row_with_the_reason(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "whole.mp4").unlink()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index was at the end
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "list.mkv").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    (tmp_path / "zeros.mov").write_bytes(whole[:32] + bytes(5000))
    entries = listed(tmp_path)
    assert {entry.filename: entry.error_code for entry in entries} == {
        "cut.mp4": "CORRUPT_IMAGE",
        "empty.mp4": "ZERO_SIZE_FILE",
        "list.mkv": "CORRUPT_IMAGE",
        "text.avi": "CORRUPT_IMAGE",
        "zeros.mov": "CORRUPT_IMAGE",
    }
    errors = {entry.filename: entry.error for entry in entries}
    assert "not a video by its content" in str(errors["list.mkv"])
    assert all(errors.values())


def test_a_video_without_frames_is_a_row_with_the_reason(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", frames=0)
    (entry,) = listed(tmp_path)
    assert (entry.filename, entry.media, entry.error_code) == ("v.avi", "frame", "CORRUPT_IMAGE")


def test_a_video_that_is_cut_after_the_listing_gives_what_it_has(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    entries = listed(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert seen(entries[1]) == pytest.approx(level(25), abs=3)
    with pytest.raises(ImageError, match=r"frame 50, at 2\.000 s, cannot be decoded") as raised:
        read_bytes(entries[2].uri)
    assert raised.value.code == "READ_ERROR"
    path.unlink()
    with pytest.raises(ImageError) as gone:
        read_bytes(entries[0].uri)
    assert gone.value.code == "MISSING_FILE"


def test_frames_too_large_to_decode_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry, *_) = listed(write_video(tmp_path / "v.mp4"))
    monkeypatch.setattr("fastdup_dagster.images.files.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match="64 x 48 pixels"):
        read_bytes(entry.uri)


def test_a_file_name_of_any_bytes_opens(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4")
    odd = path.rename(tmp_path / "caf\udce9 #%.mp4")
    assert len(listed(odd)) == 3 and seen(listed(odd)[1]) == pytest.approx(level(25), abs=3)


def test_nothing_is_written_about_broken_videos(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = write_video(tmp_path / "v.mkv").read_bytes()
    (tmp_path / "v.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "w.mp4").write_bytes(whole[:40])
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(500))
    entries = listed(tmp_path)
    for entry in entries:
        if entry.error_code is None:
            read_bytes(entry.uri)
    assert capfd.readouterr() == ("", "")
