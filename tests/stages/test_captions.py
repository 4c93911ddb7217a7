"""The stage `captions`: rows in order, errors as rows, memory bounded, a model at fault told from an image at fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from fastdup_dagster.images import Decoded
from fastdup_dagster.schemas import CAPTIONS
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages import captions as stage
from fastdup_dagster.stages.captions import caption_blocks, stage_captions
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore

MakePhotos = Callable[..., list[Path]]
SETTINGS = Settings(num_threads=2)


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


def made(manifest: pl.DataFrame, captioner: Any, batch_size: int = 2, settings: Settings = SETTINGS) -> pl.DataFrame:
    return pl.concat(list(caption_blocks(manifest, settings, captioner, batch_size)))


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
    right = stage.read_bytes
    monkeypatch.setattr(stage, "read_bytes", lambda uri: read.append(uri) or right(uri))
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
    blocks = list(caption_blocks(manifest, SETTINGS, Sizes(), 3))
    assert [len(block) for block in blocks] == [4, 4, 2]
    assert pl.concat(blocks)["index"].to_list() == list(range(10))
    (empty,) = caption_blocks(manifest[:0], SETTINGS, Sizes(), 3)
    assert empty.equals(CAPTIONS.frame())


def test_a_staged_table_is_complete_and_leaves_nothing_behind_if_it_fails(tmp_path: Path) -> None:
    manifest = write(tmp_path / "in", 20, 21)
    store = TableStore(tmp_path / "store")
    with stage_captions(manifest, SETTINGS, Sizes(), store, "a/b") as staged:
        assert staged.scan().collect()["caption"].to_list() == ["20 x 20", "21 x 20"]
        assert not store.exists("captions", "a/b")
        staged.publish()
    assert store.read("captions", "a/b").height == 2
    with pytest.raises(RuntimeError):
        stage_captions(manifest[:1], SETTINGS, Sizes(fails_at=20), store, "a/b")
    assert list((tmp_path / "store" / "_staging").rglob("*.parquet")) == []
    assert store.read("captions", "a/b").height == 2
