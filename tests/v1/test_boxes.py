"""Boxes as instances: what is cut out, how it is measured, and what happens to boxes that cannot be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster.images import ImageError, Margins, corners, crop, decode, read_image, statistics
from fastdup_dagster.images.decode import Decoded
from fastdup_dagster.sources import to_uri
from fastdup_dagster.stages import decode_worker

QUIET = {"print_summary": False, "num_threads": 2}
UPRIGHT = ["col_x", "row_y", "width", "height"]
ROTATED = ["x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"]


def picture(height: int = 100, width: int = 160) -> Decoded:
    """Every pixel tells where it is: red its column, green its row."""
    rows, columns = np.mgrid[:height, :width]
    return Decoded(np.dstack([columns, rows, rows * 0]).astype(np.uint8), width, height, "png")


def rotated(x: float, y: float, width: float, height: float, degrees: float) -> list[float]:
    """The corners of a box that was turned about its centre."""
    turn = math.radians(degrees)
    points = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return (points @ matrix.T + [x, y]).ravel().tolist()


def frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["filename", *columns])


def test_an_upright_box_is_cut_at_whole_pixels() -> None:
    cut = crop(picture(), [10, 20, 30, 40])
    assert (cut.width, cut.height) == (30, 40)
    assert np.array_equal(cut.pixels, picture().pixels[20:60, 10:40])


def test_a_margin_is_cut_off_at_the_edge_of_the_image() -> None:
    whole = picture().pixels
    for margins, expected in (
        (Margins(0.1, 0.5), whole[0:80, 7:43]),
        (Margins(pixels=15), whole[5:75, 0:55]),
        (Margins(1, 1), whole[0:100, 0:70]),
    ):
        assert np.array_equal(crop(picture(), [10, 20, 30, 40], margins).pixels, expected)


@pytest.mark.parametrize("turns", range(4))
def test_a_box_turned_by_right_angles_is_exactly_the_turned_pixels(turns: int) -> None:
    points = corners([30, 20, 50, 40])
    cut = crop(picture(), np.roll(points, -turns, axis=0).ravel().tolist())
    assert np.array_equal(cut.pixels, np.rot90(picture().pixels[20:60, 30:80], turns))


def test_corners_the_other_way_round_give_no_mirror_image() -> None:
    points = corners([30, 20, 50, 40])
    there = crop(picture(), points.ravel().tolist()).pixels
    assert np.array_equal(crop(picture(), points[[0, 3, 2, 1]].ravel().tolist()).pixels, there)


def test_a_rotated_box_is_turned_upright() -> None:
    cut = crop(picture(), rotated(80, 50, 40, 20, 30))
    assert (cut.width, cut.height) == (40, 20)
    turn = math.radians(30)
    for column, row in ((0, 0), (39, 0), (20, 10), (0, 19), (39, 19)):
        across, down = column + 0.5 - 20, row + 0.5 - 10
        x = 80 + across * math.cos(turn) - down * math.sin(turn) - 0.5
        y = 50 + across * math.sin(turn) + down * math.cos(turn) - 0.5
        np.testing.assert_allclose(cut.pixels[row, column, :2], [x, y], atol=1.1)


def test_a_margin_of_a_rotated_box_lies_along_its_sides_and_stays_inside() -> None:
    wide = crop(picture(), rotated(80, 50, 40, 20, 30), Margins(0.1, 0.2))
    assert (wide.width, wide.height) == (48, 28)
    clamped = crop(picture(), rotated(80, 50, 40, 20, 30), Margins(pixels=60))
    assert 40 < clamped.width < 160 and 20 < clamped.height < 140


@pytest.mark.parametrize(
    "box",
    [
        [-1, 0, 20, 20],
        [0, 0, 161, 20],
        [150, 0, 20, 20],
        [0, 95, 20, 20],
        [200, 200, 20, 20],
        [0, 0, 9, 20],
        [0, 0, 20, 9.9],
        [20, 20, -15, 30],
        [0, 0, math.nan, 20],
        [0, 0, 20],
        rotated(80, 50, 40, 9, 30),
        rotated(10, 10, 40, 40, 30),
        [math.inf] * 8,
    ],
)
def test_what_is_outside_or_too_small_is_no_box(box: list[float]) -> None:
    with pytest.raises(ImageError) as raised:
        crop(picture(), box)
    assert raised.value.code == "BAD_BOUNDING_BOX"


def test_boxes_are_instances_and_bad_ones_keep_their_rows_and_ids(images: Path, tmp_path: Path) -> None:
    names = ["photo-0001.jpg", "photo-0000.jpg"]
    boxes = [
        (names[0], 0, 0, 64, 48, "whole"),
        (names[1], 10, 10, 9, 40, "thin"),
        (names[1], 20, 30, 50.4, 40, "good"),
        (names[0], 120, 80, 40, 40, "outside"),
        (names[1], None, 1, 20, 20, "no number"),
        ("gone.jpg", 0, 0, 20, 20, "no file"),
        ("broken.jpg", 0, 0, 20, 20, "no image"),
    ]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame(boxes, [*UPRIGHT, "label"]), **QUIET)
    every = fd.annotations(valid_only=False)
    assert every["label"].tolist()[:7] == [row[-1] for row in boxes]
    codes = ["VALID", *["BAD_BOUNDING_BOX"] * 4, "MISSING_FILE", "CORRUPT_IMAGE"]
    codes[2] = "VALID"
    assert every["error_code"].tolist()[:7] == codes
    assert set(every["error_code"][7:]) == {"MISSING_ANNOTATION"} and len(every) == 7 + 12
    assert fd.num_instances() == 2 and fd.annotations()["index"].tolist() == [0, 2]
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[64, 48], [50, 40]]
    pixels = read_image(to_uri(str(images / names[1]).encode()))[30:70, 20:70]
    row = fd.img_stats().set_index("index").loc[2]
    for name, value in statistics(np.ascontiguousarray(pixels)).items():
        assert row[name] == pytest.approx(value)
    grouped = fd.img_grouped_annot().set_index("filename").loc[str(images / names[1])]
    assert grouped["label"] == ["thin", "good", "no number"]
    assert fd.summary(verbose=False)[0] == "Dataset contains 19 bounding boxes"


def test_a_crop_is_measured_and_embedded_as_a_lossless_file_of_it_would_be(images: Path, tmp_path: Path) -> None:
    cuts = {"a": (8, 8, 100, 70), "b": (30, 20, 60, 60)}
    rows = [("photo-0002.jpg", *box) for box in cuts.values()]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame(rows, UPRIGHT), **QUIET)
    (tmp_path / "crops").mkdir()
    pixels = read_image(to_uri(str(images / "photo-0002.jpg").encode()))
    for name, (x, y, width, height) in cuts.items():
        Image.fromarray(pixels[y : y + height, x : x + width]).save(tmp_path / "crops" / f"{name}.png")
    other = fastdup.create(tmp_path / "other", tmp_path / "crops")
    other.run(**QUIET)
    assert np.array_equal(fd.embeddings()[1], other.embeddings()[1])
    columns = ["img_w", "img_h", "blur", "mean", "min", "max", "stdv"]
    pd.testing.assert_frame_equal(fd.img_stats()[columns], other.img_stats()[columns])
    hashes = [run.tables.img_stats["pixel_hash"].to_list()[:2] for run in (fd, other)]
    assert hashes[0] == hashes[1]


def test_rotated_boxes_and_margins_go_through_a_run(images: Path, tmp_path: Path) -> None:
    rows = [("photo-0004.jpg", *rotated(64, 48, 60, 30, degrees)) for degrees in (0, 30, 90)]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame(rows, ROTATED), **QUIET)
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[60, 30]] * 3
    fd.run(annotations=frame(rows, ROTATED), augmentation_horiz=0.1, augmentation_vert=0.2, **QUIET)
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[72, 42]] * 3
    fd.run(annotations=frame(rows, ROTATED), augmentation_additive_margin=2, **QUIET)
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[64, 34]] * 3


def test_an_image_is_decoded_once_however_many_boxes_it_has(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counting(data: bytes, *rest: Any, **more: Any) -> Decoded:
        decoded.append(len(data))
        return decode(data, *rest, **more)

    monkeypatch.setattr(decode_worker, "decode", counting)
    rows = [(f"photo-000{n % 3}.jpg", n, 5, 40, 40) for n in range(60)]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame(rows, UPRIGHT), **QUIET)
    assert len(decoded) == 3 and fd.num_instances() == 60
    fd.run(annotations=frame(rows[::-1], UPRIGHT), **QUIET)
    assert len(decoded) == 3, "crops that are known are not computed again, whatever their ids"
    fd.run(annotations=frame(rows, UPRIGHT), augmentation_additive_margin=1, **QUIET)
    assert len(decoded) == 6, "another margin is another crop"


def test_images_without_a_box_come_back_with_image_annotations(images: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame([("photo-0000.jpg", 0, 0, 50, 50)], UPRIGHT), **QUIET)
    assert fd.num_instances() == 1
    fd.run(**QUIET)
    assert fd.num_instances() == 14


def test_data_type_decides_and_duplicates_are_refused(images: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", images)
    rows = frame([("photo-0000.jpg", 0, 0, 50, 50), ("photo-0001.jpg", 0, 0, 50, 50)], UPRIGHT)
    fd.run(annotations=rows, data_type="image", **QUIET)
    assert fd.num_instances() == 2 and fd.img_stats()["img_w"].eq(128).all()
    fd.run(annotations=rows, data_type="bbox", **QUIET)
    assert fd.num_instances() == 2 and fd.img_stats()["img_w"].eq(50).all()
    twice = pd.concat([rows, rows.head(1)])
    with pytest.raises(ValueError, match=r"1 duplicate boxes.*photo-0000\.jpg"):
        fd.run(annotations=twice, **QUIET)
    with pytest.raises(ValueError, match=r"1 duplicate file names.*photo-0000\.jpg.*left out by data_type='image'"):
        fd.run(annotations=twice, data_type="image", **QUIET)
    with pytest.raises(ValueError, match="have no boxes"):
        fd.run(annotations=rows[["filename"]], data_type="bbox", **QUIET)
    with pytest.raises(ValueError, match="height"):
        fd.run(annotations=rows.drop(columns="height"), data_type="bbox", **QUIET)
    with pytest.raises(ValueError, match="wide"):
        fd.run(annotations=rows.assign(width="wide"), **QUIET)
    with pytest.raises(ValueError, match="together with annotated boxes"):
        fd.run(annotations=rows, bounding_box="row_y=0,col_x=0,height=20,width=20", **QUIET)


def test_grouped_components_can_show_the_crops_themselves(images: Path, tmp_path: Path) -> None:
    rows = [("copy-a.jpg", 5, 5, 60, 60), ("copy-b.jpg", 5, 5, 60, 60), ("photo-0001.jpg", 5, 5, 60, 60)]
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=frame(rows, UPRIGHT), cc_threshold=0.999, **QUIET)
    files = fd.connected_components_grouped(load_crops=True)["files"][0]
    original = read_image(to_uri(str(images / "copy-a.jpg").encode()))[5:65, 5:65]
    assert len(files) == 2
    for file in files:
        assert np.array_equal(cv2.imread(file)[:, :, ::-1], original)


def test_a_global_box_crops_every_image_and_small_images_keep_their_ids(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a", (100, 80)), ("b", (30, 30)), ("c", (90, 90))):
        Image.effect_noise(size, 60).save(folder / f"{name}.png")
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(bounding_box="row_y=10,col_x=20,height=40,width=50", **QUIET)
    assert fd.annotations(valid_only=False)["error_code"].tolist() == ["VALID", "BAD_BOUNDING_BOX", "VALID"]
    assert fd.annotations()["index"].tolist() == [0, 2]


def test_a_box_of_exactly_ten_pixels_is_large_enough_wherever_it_lies() -> None:
    image = Decoded(np.zeros((120, 120, 3), dtype=np.uint8), 120, 120, "png")
    for place in np.random.default_rng(0).uniform(0, 100, (500, 2)).round(1):
        assert min(crop(image, (*place, 10, 10)).pixels.shape[:2]) >= 10
    with pytest.raises(ImageError, match="under 10 on a side"):
        crop(image, (5, 5, 9.99, 10))
