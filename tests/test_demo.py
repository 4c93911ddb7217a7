"""The demo data set: deterministic, and every planted property is real, measured here with Pillow and numpy."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, UnidentifiedImageError

from fastdup_dagster.demo import KINDS, PLANTED_FILE, PLANTED_SCHEMA, SPLITS, make_demo
from fastdup_dagster.demo.photos import PHOTOS, cut_tiles, read_photo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, make_demo(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def of_kind(demo: tuple[Path, pl.DataFrame], kind: str, edit: str = "") -> list[tuple[Path, Path | None, str]]:
    """(file, original, edit) of each plant of a kind."""
    folder, planted = demo
    rows = planted.filter((pl.col("kind") == kind) & pl.col("edit").str.contains(edit, literal=True))
    assert len(rows) > 0
    return [
        (
            folder / row["split"] / row["filename"],
            row["other_filename"] and folder / row["other_split"] / row["other_filename"],
            row["edit"],
        )
        for row in rows.iter_rows(named=True)
    ]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def sharpness(path: Path) -> float:
    """1.9 times the variance of the 4-neighbour Laplacian of the grey image, box-averaged to 224 if it is larger."""
    with Image.open(path) as image:
        if max(image.size) > 224:
            image = image.convert("RGB").resize((224, 224), Image.Resampling.BOX)
        grey = np.pad(np.asarray(image.convert("L"), dtype=np.float64), 1, mode="reflect")
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return 1.9 * float(laplacian.var())


def untouched(demo: tuple[Path, pl.DataFrame]) -> list[Path]:
    """The images that nothing was done to."""
    folder, planted = demo
    plants = {folder / split / name for split, name in planted.select("split", "filename").iter_rows()}
    return [path for split in SPLITS for path in sorted((folder / split).iterdir()) if path not in plants]


def test_the_same_seed_gives_the_same_bytes(demo: tuple[Path, pl.DataFrame], tmp_path: Path) -> None:
    again = make_demo(tmp_path / "again")
    assert again.equals(demo[1])
    assert contents(tmp_path / "again") == contents(demo[0])


def test_another_seed_gives_another_data_set_of_the_same_make_up(
    demo: tuple[Path, pl.DataFrame], tmp_path: Path
) -> None:
    other = make_demo(tmp_path, seed=1)
    assert contents(tmp_path) != contents(demo[0])
    assert (
        other["kind"]
        .value_counts(sort=True, name="n")
        .sort("kind")
        .equals(demo[1]["kind"].value_counts(sort=True, name="n").sort("kind"))
    )


def test_a_second_call_touches_no_file(tmp_path: Path) -> None:
    make_demo(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (next(iter(before))).write_bytes(b"damaged")
    make_demo(tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert [path for path in before if before[path] != after[path]] == [next(iter(before))]
    assert next(iter(before)).read_bytes() != b"damaged"


def test_a_folder_with_files_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"holiday\.jpg"):
        make_demo(tmp_path)
    assert contents(tmp_path) == {str(Path("train/holiday.jpg")): b"mine"}


def test_planted_csv_beside_the_splits_says_what_was_returned(demo: tuple[Path, pl.DataFrame]) -> None:
    folder, planted = demo
    assert sorted(path.name for path in folder.iterdir()) == sorted([*SPLITS, PLANTED_FILE])
    assert pl.read_csv(folder / PLANTED_FILE, schema=PLANTED_SCHEMA).equals(planted)


def test_every_kind_is_planted_in_both_splits_and_every_named_file_is_there(demo: tuple[Path, pl.DataFrame]) -> None:
    folder, planted = demo
    assert set(planted["kind"]) == set(KINDS)
    assert planted.filter(pl.col("kind") != "leak").group_by("kind").agg(pl.col("split").n_unique())[
        "split"
    ].to_list() == [len(SPLITS)] * (len(KINDS) - 1)
    assert set(planted.filter(pl.col("kind") == "leak").select("split", "other_split").rows()) == {("test", "train")}
    assert planted.select("split", "filename").is_unique().all()
    for row in planted.iter_rows(named=True):
        assert (folder / row["split"] / row["filename"]).is_file()
        assert row["other_filename"] is None or (folder / row["other_split"] / row["other_filename"]).is_file()


def test_only_pictures_in_the_public_domain_are_used() -> None:
    assert all(re.search(r"CC0|public domain", photo.licence) and photo.source for photo in PHOTOS)


def test_a_file_that_is_not_the_known_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"astronaut\.png: sha256 [0-9a-f]{64} is not that of the picture known here"):
        read_photo(replace(PHOTOS[0], sha256="0" * 64))
    with pytest.raises(FileNotFoundError, match=r"eagle\.png"):
        read_photo(replace(PHOTOS[0], file="eagle.png"))


def test_tiles_lie_inside_their_photo_and_do_not_overlap() -> None:
    for photo in PHOTOS:
        height, width = read_photo(photo).shape[:2]
        for tile in photo.tiles:
            assert min(tile.width, tile.height) >= 120
            assert tile.x >= 0 and tile.y >= 0 and tile.x + tile.width <= width and tile.y + tile.height <= height
        for a, b in combinations(photo.tiles, 2):
            beside = a.x + a.width <= b.x or b.x + b.width <= a.x
            assert beside or a.y + a.height <= b.y or b.y + b.height <= a.y


def test_base_images_are_sharp_and_of_middling_brightness(demo: tuple[Path, pl.DataFrame]) -> None:
    bases = untouched(demo)
    assert len(bases) == len(cut_tiles()) == 46
    assert min(sharpness(path) for path in bases) > 220
    assert all(10 < pixels(path).mean() < 245 for path in bases)


def test_exact_copies_have_the_bytes_of_their_original(demo: tuple[Path, pl.DataFrame]) -> None:
    copies = of_kind(demo, "exact_copy")
    assert all(copy.read_bytes() == original.read_bytes() for copy, original, _ in copies if original)
    assert any(set("', %#") <= set(copy.name) for copy, _, _ in copies)


def test_the_leaks_are_one_exact_copy_and_some_edited_ones(demo: tuple[Path, pl.DataFrame]) -> None:
    equal = [leak.read_bytes() == original.read_bytes() for leak, original, _ in of_kind(demo, "leak") if original]
    assert equal.count(True) == 1 and equal.count(False) >= 3


def test_crops_and_resized_copies_have_the_stated_size(demo: tuple[Path, pl.DataFrame]) -> None:
    for kind in ("near_copy", "leak"):
        for edit in ("crop to 0.9", "resize by 0.7"):
            for copy, original, words in of_kind(demo, kind, edit):
                share = float(re.search(r"0\.\d", words).group())
                expected = np.array(pixels(original).shape[:2]) * share
                assert np.abs(np.array(pixels(copy).shape[:2]) - expected).max() <= 1


def test_mirrored_copies_are_mirrored(demo: tuple[Path, pl.DataFrame]) -> None:
    for copy, original, _ in of_kind(demo, "near_copy", "mirrored"):
        as_they_are = np.abs(pixels(copy) - pixels(original)).mean()
        assert np.abs(pixels(copy)[:, ::-1] - pixels(original)).mean() < 4 < as_they_are


def test_recompressed_copies_are_quantised_coarser(demo: tuple[Path, pl.DataFrame]) -> None:
    for copy, original, _ in of_kind(demo, "near_copy", "JPEG quality"):
        with Image.open(copy) as coarse, Image.open(original) as fine:
            assert sum(coarse.quantization[0]) > 3 * sum(fine.quantization[0])


def test_brighter_and_darker_copies_are(demo: tuple[Path, pl.DataFrame]) -> None:
    for copy, original, _ in of_kind(demo, "near_copy", "brightness times 1.25"):
        assert pixels(copy).mean() > pixels(original).mean() + 10
    for copy, original, _ in of_kind(demo, "near_copy", "brightness times 0.6"):
        assert pixels(copy).mean() < 0.7 * pixels(original).mean()


def test_blurred_images_are_far_under_the_threshold(demo: tuple[Path, pl.DataFrame]) -> None:
    for blurred, original, words in of_kind(demo, "blurry"):
        assert 3 <= float(words.rpartition(" ")[2]) <= 6
        assert sharpness(blurred) < 75 < 220 < sharpness(original)


def test_dark_images_have_a_mean_under_4_and_bright_ones_over_253(demo: tuple[Path, pl.DataFrame]) -> None:
    assert all(pixels(path).mean() < 4 for path, _, _ in of_kind(demo, "dark"))
    assert all(pixels(path).mean() > 253 for path, _, _ in of_kind(demo, "bright"))


def test_truncated_files_are_the_first_half_of_their_original(demo: tuple[Path, pl.DataFrame]) -> None:
    for path, original, _ in of_kind(demo, "truncated"):
        data = original.read_bytes()
        assert path.read_bytes() == data[: len(data) // 2]
        with pytest.raises(OSError, match="truncated"):
            pixels(path)


def test_broken_files_are_no_images_and_under_the_limit_of_the_gate(demo: tuple[Path, pl.DataFrame]) -> None:
    broken = [path for path, _, _ in of_kind(demo, "broken")]
    assert any(path.stat().st_size == 0 for path in broken) and any(path.stat().st_size for path in broken)
    for path in broken:
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(path.read_bytes()))
    for split in SPLITS:
        files = list((demo[0] / split).iterdir())
        assert 0 < sum(path in broken for path in files) <= 0.04 * len(files)
