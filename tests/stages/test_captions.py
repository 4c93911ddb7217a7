"""The stage `captions`: rows in order, errors as rows, memory bounded, a model at fault told from an image at fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from faulty_proxy import faulty_proxy
from numpy.typing import NDArray

from fastdup_dagster.images import Decoded, ImageError
from fastdup_dagster.schemas import CAPTIONS
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages import captions as stage
from fastdup_dagster.stages import read_ahead
from fastdup_dagster.stages.captions import CaptionSummary, stage_captions
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore

MakePhotos = Callable[..., list[Path]]
SETTINGS = Settings(num_threads=2)
KEY = "a/b"


class Sizes:
    """Says how large an image is; fails for those of a width, and says nothing of those of another."""

    id = "sizes@0"
    min_side: int | None = None

    def __init__(self, fails_at: int = -1, silent_at: int = -1) -> None:
        self.fails_at, self.silent_at = fails_at, silent_at
        self.calls: list[int] = []
        self.prepared = 0

    def prepare(self, image: Decoded) -> NDArray[Any]:
        self.prepared += 1
        if image.width == 13:
            raise ValueError("13 pixels wide")
        return np.array([image.width, image.height])

    def captions(self, images: Sequence[NDArray[Any]]) -> list[str]:
        self.calls.append(len(images))
        if any(image[0] == self.fails_at for image in images):
            raise ArithmeticError("out of numbers")
        return ["" if image[0] == self.silent_at else f"{image[0]} x {image[1]}" for image in images]


def write(folder: Path, *widths: int) -> pl.DataFrame:
    """Images of these widths, 20 pixels high, a text for 0, and the manifest of all."""
    folder.mkdir()
    for number, width in enumerate(widths):
        path = folder / f"{number:03}.png"
        if width:
            cv2.imwrite(str(path), np.full((20, width, 3), number, dtype=np.uint8))
        else:
            path.write_text("no image")
    return list_images(open_source(str(folder)), SETTINGS).frame


def made(
    manifest: pl.DataFrame,
    captioner: Any,
    batch_size: int = 2,
    settings: Settings = SETTINGS,
    store: TableStore | None = None,
) -> pl.DataFrame:
    """The published table, in a store of its own if none is given."""
    with tempfile.TemporaryDirectory() as folder:
        store = store or TableStore(folder)
        with stage_captions(manifest, settings, captioner, batch_size, store, KEY) as done:
            done.staged.publish()
            done.finish()
        return store.read("captions", KEY)


def test_rows_are_those_of_the_manifest_in_order_and_errors_stay_with_their_image(tmp_path: Path) -> None:
    manifest = write(tmp_path / "in", 30, 0, 40, 13, 50)
    manifest = manifest.with_columns(
        pl.when(pl.col("index") == 2).then(pl.lit("ZERO_SIZE_FILE")).alias("error_code"),
        pl.when(pl.col("index") == 2).then(pl.lit("no bytes")).alias("error"),
    )
    frame = made(manifest, captioner := Sizes())
    assert frame.schema == CAPTIONS.frame().schema
    assert frame["index"].to_list() == [0, 1, 2, 3, 4]
    assert frame["caption"].to_list() == ["30 x 20", None, None, None, "50 x 20"]
    codes = [None if error is None else error.split(":")[0] for error in frame["error"]]
    assert codes == [None, "CORRUPT_IMAGE", "ZERO_SIZE_FILE", "13 pixels wide", None]
    assert captioner.prepared == 3, "what is known to be broken is not read"
    assert frame["model"].unique().to_list() == ["sizes@0"]


def test_batches_are_as_large_as_asked_for_and_do_not_change_the_rows(tmp_path: Path) -> None:
    manifest = write(tmp_path / "in", *range(20, 31))
    frames = []
    for size, calls in ((1, [1] * 11), (4, [4, 4, 3]), (50, [11])):
        frames.append(made(manifest, captioner := Sizes(), size))
        assert captioner.calls == calls
    assert all(frame.equals(frames[0]) for frame in frames)


def test_an_image_that_the_model_fails_at_costs_its_own_row_only(tmp_path: Path) -> None:
    frame = made(write(tmp_path / "in", 20, 21, 22, 23, 24), Sizes(fails_at=23, silent_at=20))
    assert frame["caption"].to_list() == [None, "21 x 20", "22 x 20", None, "24 x 20"]
    assert frame["error"].to_list() == [stage.EMPTY, None, None, "the model failed: out of numbers", None]


def test_a_model_that_fails_from_the_start_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="model sizes@0 fails: out of numbers"):
        made(write(tmp_path / "in", 20, 20, 21), Sizes(fails_at=20))


def test_crops_of_an_image_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write(tmp_path / "in", 64)
    boxes = [[0.0, 0, 20, 20], [10.0, 0, 30, 15], [60.0, 0, 20, 20]]
    crops = pl.concat([manifest] * 3).with_columns(
        pl.Series("index", [0, 1, 2]), pl.Series("box", boxes, dtype=pl.List(pl.Float64))
    )
    read: list[str] = []
    right = read_ahead.read_bytes
    monkeypatch.setattr(read_ahead, "read_bytes", lambda uri: read.append(uri) or right(uri))
    frame = made(crops, Sizes(), settings=Settings(num_threads=2, augmentation_horiz=0.1))
    assert frame["caption"].to_list() == ["22 x 20", "36 x 15", None]
    assert frame["error"][2].startswith("BAD_BOUNDING_BOX: ")
    assert len(read) == 1


def test_images_are_read_ahead_by_a_few_batches_only(tmp_path: Path) -> None:
    manifest = write(tmp_path / "in", *[20] * 40)
    captioner = Sizes()
    ahead: list[int] = []
    right = captioner.captions

    def watched(images: Sequence[NDArray[Any]]) -> list[str]:
        ahead.append(captioner.prepared - sum(captioner.calls))
        return right(images)

    captioner.captions = watched  # type: ignore[method-assign]
    made(manifest, captioner, 3)
    assert max(ahead) <= 3 * 3 + 1


def test_blocks_follow_each_other_without_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_BLOCK", 4)
    manifest = write(tmp_path / "in", *range(20, 30))
    assert made(manifest, Sizes(), 3)["index"].to_list() == list(range(10))
    assert made(manifest[:0], Sizes(), 3).equals(CAPTIONS.frame())


def test_a_staged_table_is_complete_and_leaves_nothing_behind_if_it_fails(tmp_path: Path) -> None:
    manifest = write(tmp_path / "in", 20, 21)
    store = TableStore(tmp_path / "store")
    with stage_captions(manifest, SETTINGS, Sizes(), 8, store, KEY) as done:
        assert done.staged.scan().collect()["caption"].to_list() == ["20 x 20", "21 x 20"]
        assert not store.exists("captions", KEY)
        done.staged.publish()
        done.finish()
    assert store.read("captions", KEY).height == 2
    other = Sizes(fails_at=20)
    other.id = "other@0"
    with pytest.raises(RuntimeError):
        stage_captions(manifest[:1], SETTINGS, other, 8, store, KEY)
    assert [path for path in (tmp_path / "store" / "_staging").rglob("*") if path.is_file()] == []
    assert store.read("captions", KEY).height == 2


def again(manifest: pl.DataFrame, store: TableStore, captioner: Sizes | None = None, **given: Any) -> CaptionSummary:
    """What a run does that finds the tables of the runs before."""
    settings = given.pop("settings", SETTINGS)
    with stage_captions(manifest, settings, captioner or Sizes(), 2, store, KEY, **given) as done:
        done.staged.publish()
        done.finish()
    return done.summary


def relisted(folder: Path) -> pl.DataFrame:
    return list_images(open_source(str(folder)), SETTINGS).frame


def test_only_what_is_new_or_changed_goes_through_the_model(tmp_path: Path) -> None:
    store, manifest = TableStore(tmp_path / "store"), write(tmp_path / "in", 20, 21, 0, 22)
    assert again(manifest, store) == CaptionSummary(rows=4, captioned=3, reused=0, failed=1)
    first = store.read("captions", KEY)
    assert again(manifest, store) == CaptionSummary(rows=4, captioned=0, reused=4, failed=1)
    assert store.read("captions", KEY).equals(first)
    cv2.imwrite(str(tmp_path / "in" / "0000.png"), np.full((20, 40, 3), 9, dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "in" / "001.png"), np.full((30, 41, 3), 9, dtype=np.uint8))
    assert again(relisted(tmp_path / "in"), store, captioner := Sizes()).captioned == 2
    assert captioner.prepared == 2
    frame = store.read("captions", KEY)
    assert frame["caption"].to_list() == ["20 x 20", "40 x 20", "41 x 30", None, "22 x 20"]
    assert frame["index"].to_list() == [0, 1, 2, 3, 4]


def test_another_captioner_and_other_margins_caption_everything_again_another_thread_nothing(tmp_path: Path) -> None:
    store, manifest = TableStore(tmp_path / "store"), write(tmp_path / "in", 20, 21)
    again(manifest, store)
    assert again(manifest, store, settings=Settings(num_threads=1, threshold=0.5)).captioned == 0
    other = Sizes()
    other.id = 'sizes@0+prompt="?"'
    assert again(manifest, store, other).captioned == 2
    assert again(manifest, store, other, settings=Settings(num_threads=2, augmentation_vert=0.1)).captioned == 2
    assert again(manifest, store, other, recompute=True).captioned == 2


def test_equal_bytes_are_captioned_once_wherever_they_lie(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "store")
    write(tmp_path / "in", 20, 21)
    shutil.copy(tmp_path / "in" / "000.png", tmp_path / "in" / "002.png")
    assert again(relisted(tmp_path / "in"), store) == CaptionSummary(rows=3, captioned=2, reused=1, failed=0)
    (tmp_path / "in" / "001.png").rename(tmp_path / "in" / "009.png")
    assert again(relisted(tmp_path / "in"), store).captioned == 0
    assert store.read("captions", KEY)["caption"].to_list() == ["20 x 20", "20 x 20", "21 x 20"]


def test_what_may_have_passed_is_tried_again_what_lies_in_the_bytes_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest = TableStore(tmp_path / "store"), write(tmp_path / "in", 20, 21, 22, 0)
    right = read_ahead.read_bytes

    def unread(uri: str) -> bytes:
        if uri.endswith("001.png"):
            raise ImageError("READ_ERROR", "the disk is away")
        return right(uri)

    monkeypatch.setattr(read_ahead, "read_bytes", unread)
    again(manifest, store, Sizes(fails_at=22))
    assert store.read("captions", KEY)["error"].to_list()[1:3] == [
        "READ_ERROR: the disk is away", "the model failed: out of numbers"
    ]  # fmt: skip
    monkeypatch.setattr(read_ahead, "read_bytes", right)
    # A model that is known to work is not at fault when all that is left to do fails.
    assert again(manifest, store, Sizes(fails_at=22)).captioned == 2
    assert again(manifest, store, Sizes(fails_at=22)) == CaptionSummary(rows=4, captioned=1, reused=3, failed=2)
    assert again(manifest, store, captioner := Sizes()) == CaptionSummary(rows=4, captioned=1, reused=3, failed=1)
    assert captioner.prepared == 1


def test_a_table_of_before_without_keys_is_remade(tmp_path: Path) -> None:
    store, manifest = TableStore(tmp_path / "store"), write(tmp_path / "in", 20, 21)
    again(manifest, store)
    old = store.read("captions", KEY).drop("source_key", "content_hash")
    old.write_parquet(store.path("captions", KEY))
    assert again(manifest, store).captioned == 2


VICTIM = """
    import os, signal, sys
    from pathlib import Path
    from fastdup_dagster.settings import Settings
    from fastdup_dagster.sources import open_source
    from fastdup_dagster.stages import captions
    from fastdup_dagster.stages.image_manifest import list_images
    from fastdup_dagster.storage import TableStore
    import numpy as np

    class Dies:
        id, min_side, calls = "sizes@0", None, 0
        def prepare(self, image):
            return np.array([image.width, image.height])
        def captions(self, images):
            self.calls += 1
            if self.calls == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return [f"{w} x {h}" for w, h in images]

    captions._PART_SECONDS = 0
    settings = Settings(num_threads=2)
    manifest = list_images(open_source(sys.argv[1]), settings).frame
    captions.stage_captions(manifest, settings, Dies(), 2, TableStore(sys.argv[2]), "a/b")
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    store, manifest = TableStore(tmp_path / "store"), write(tmp_path / "in", *range(20, 40))
    code = [sys.executable, "-c", textwrap.dedent(VICTIM), str(tmp_path / "in"), str(store.root)]
    assert subprocess.run(code, check=False).returncode == -9
    assert not store.exists("captions", KEY)
    summary = again(manifest, store, captioner := Sizes())
    assert (summary.captioned, summary.reused) == (14, 6)
    assert sum(captioner.calls) == 14
    assert store.read("captions", KEY)["caption"].to_list() == [f"{width} x 20" for width in range(20, 40)]
    assert [path for path in (tmp_path / "store" / "_staging").rglob("*") if path.is_file()] == []


def test_a_run_that_fails_keeps_what_it_has_captioned(tmp_path: Path) -> None:
    store, manifest = TableStore(tmp_path / "store"), write(tmp_path / "in", *range(20, 30))
    captioner = Sizes()

    def interrupted(done: int, total: int) -> None:
        if sum(captioner.calls) >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(manifest, store, captioner, progress=interrupted)
    assert again(manifest, store).captioned == 10 - sum(captioner.calls)


def test_members_of_an_archive_and_frames_of_a_video_are_read_as_they_lie_and_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "pictures", *[24] * 9)
    pictures = sorted((tmp_path / "pictures").iterdir())
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        for path in reversed(pictures):
            archive.write(path, path.name)
    video = cv2.VideoWriter(str(tmp_path / "in" / "b.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 1, (64, 48))
    for number in range(9):
        video.write(np.full((48, 64, 3), 25 * number, dtype=np.uint8))
    video.release()
    read: list[str] = []
    right = read_ahead.read_bytes
    monkeypatch.setattr(read_ahead, "read_bytes", lambda uri: read.append(uri) or right(uri))
    listed = relisted(tmp_path / "in")
    frame = made(listed, Sizes(), 4)
    assert frame["caption"].to_list() == ["24 x 20"] * 9 + ["64 x 48"] * 9
    frames = [uri for uri in read if "b.avi" in uri]
    assert frames == listed["uri"][9:].to_list(), "front to back, by one thread at a time"
    members = [uri for uri in read if "a.zip" in uri]
    assert sorted(members) == sorted(listed["uri"][:9])


def test_images_in_a_bucket_are_read_many_at_a_time_once_each_and_in_spite_of_errors(
    tmp_path: Path, s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write(tmp_path / "in", *range(20, 44))
    bucket = s3_server.upload(tmp_path / "in", "set/")
    manifest = list_images(open_source(f"s3://{bucket}/set"), SETTINGS).frame
    store = TableStore(tmp_path / "store")
    with faulty_proxy(s3_server.url, share=0.1, latency=0.05) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        assert again(manifest, store) == CaptionSummary(rows=24, captioned=24, reused=0, failed=0)
        assert proxy.most_in_flight > 8
        asked = sum(proxy.paths.values())
        assert again(manifest, store).captioned == 0
        assert sum(proxy.paths.values()) == asked
    assert store.read("captions", KEY)["caption"].to_list() == made(here, Sizes())["caption"].to_list()
