"""Awkward files and folders go through run and every accessor: nothing crashes, nothing vanishes."""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup
from fastdup_dagster.sources import NothingFoundError

QUIET = {"print_summary": False, "num_threads": 2}
NAMES = (
    "with space.jpg",
    "comma,name.jpg",
    'quote".jpg',
    "apostrophe's.jpg",
    "new\nline.jpg",
    "tab\tname.jpg",
    "hash#.jpg",
    "percent%20.jpg",
    "<script>alert(1)<%2Fscript>.jpg",
    "back\\slash.jpg",
    "ünïcödé.jpg",
    "x" * 236 + ".jpg",
    ".hidden.jpg",
)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_bomb(path: Path) -> None:
    """60,000 x 60,000 pixels announced in some bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def write_corpus(folder: Path) -> dict[str, str]:
    """Writes the files; returns the expected error code of those that are not valid."""
    folder.mkdir()
    photo = noise(120, 90, 1)
    jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(photo, (5, 5), 2))[1].tobytes()
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image at all")
    (folder / "half.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    flipped = bytearray(jpeg)
    flipped[len(jpeg) // 2] ^= 0xFF
    (folder / "flipped.jpg").write_bytes(bytes(flipped))
    (folder / "good.jpg").write_bytes(jpeg)
    (folder / "jpeg.png").write_bytes(jpeg)
    for number in range(5):
        shutil.copy(folder / "good.jpg", folder / f"same-{number}.jpg")
    for width, height in ((5, 5), (9, 200), (10, 10), (9000, 20)):
        Image.fromarray(noise(width, height)).save(folder / f"{width}x{height}.png")
    for name, level in (("dark16", 300), ("bright16", 60_000)):
        Image.fromarray(np.full((40, 40), level, np.uint16) + noise(40, 40)[:, :, 0]).save(folder / f"{name}.png")
    whole = Image.fromarray(photo)
    for mode in ("RGBA", "LA", "P", "1", "L"):
        whole.convert("L").convert(mode).save(folder / f"mode-{mode}.png")
    whole.convert("CMYK").save(folder / "cmyk.jpg")
    exif = whole.getexif()
    exif[0x0112] = 6
    whole.save(folder / "turned.jpg", exif=exif)
    whole.save(folder / "picture.gif")
    whole.save(folder / "picture.tiff")
    whole.save(folder / "picture.webp")
    write_heif(whole, folder)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(cv2.imencode(".jpg", noise(60, 50, 100 + number))[1].tobytes())
    Path(os.fsdecode(os.fsencode(folder) + b"/bytes-\xff\xfe.jpg")).write_bytes(jpeg)
    (folder / "loop").symlink_to(folder)
    (folder / "broken-link.jpg").symlink_to(folder / "nowhere.jpg")
    png_bomb(folder / "bomb.png")
    (folder / "clip.mp4").write_bytes(b"\0" * 64)
    with tarfile.open(folder / "pictures.tar", "w") as archive:
        archive.add(folder / "good.jpg", "../good.jpg")
    return {
        "zero.jpg": "ZERO_SIZE_FILE",
        "text.jpg": "CORRUPT_IMAGE",
        "5x5.png": "IMAGE_TOO_SMALL",
        "9x200.png": "IMAGE_TOO_SMALL",
        "broken-link.jpg": "MISSING_FILE",
        "bomb.png": "IMAGE_TOO_LARGE",
    }


def write_heif(image: Image.Image, folder: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(image).save(folder / "picture.heic", quality=80)
    image.save(folder / "picture.avif")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fastdup, dict[str, str], Path]:
    folder = tmp_path_factory.mktemp("awkward") / "images"
    bad = write_corpus(folder)
    fd = fastdup.create(folder.parent / "work", folder)
    fd.run(nearest_neighbors_k=3, threshold=0.5, run_advanced_stats=True, **QUIET)
    return fd, bad, folder


def test_every_file_has_a_row_and_only_the_bad_ones_are_invalid(corpus: tuple[Fastdup, dict[str, str], Path]) -> None:
    fd, bad, folder = corpus
    listed = [p for p in folder.iterdir() if p.name not in ("loop", "clip.mp4", "pictures.tar")]
    every = fd.annotations(valid_only=False)
    assert len(every) == len(listed)
    shown = {Path(name).name: code for name, code in zip(every["filename"], every["error_code"], strict=True)}
    assert {name: code for name, code in shown.items() if code != "VALID"} == bad
    assert set(NAMES) <= set(shown)
    assert fd.invalid_instances()["error"].str.len().gt(0).all()
    assert any(".mp4" in note and ".tar" in note for note in fd.config["notes"])


def test_every_accessor_and_gallery_takes_the_corpus(
    corpus: tuple[Fastdup, dict[str, str], Path], tmp_path: Path
) -> None:
    fd, _, _ = corpus
    valid = fd.num_instances()
    assert len(fd.tables.knn_graph) == valid * 3
    assert len(fd.img_stats()) == len(fd.annotations()) == len(fd.embeddings()[0]) == valid
    assert fd.similarity()["distance"].le(1).all() and len(fd.outliers()) >= 1
    assert len(fd.connected_components_grouped(metric="blur")) >= 1
    assert len(fd.img_grouped_annot()) == fd.num_instances(valid_only=False)
    assert fd[0]["index"] == 0 and len(fd.summary(verbose=False)) > 5
    names, vectors = fastdup.load(fd.export_v1(tmp_path / "v1"))
    assert names == fd.embeddings()[0] and np.array_equal(vectors, fd.embeddings()[1])
    fd.init_search(3)
    for name in fd.annotations()["filename"]:
        assert fd.search(name)["distance"][0] == pytest.approx(1, abs=1e-5)
        assert fd.feature_vector(name)[1] == name
    for data, include in ((True, False), (False, True)):
        for accessor in (fd.similarity, fd.outliers, fd.img_stats, fd.connected_components):
            assert len(accessor(data=data, include_unannotated=include)) >= 1


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "inlined"])
def test_every_gallery_takes_the_corpus(
    lazy: bool, corpus: tuple[Fastdup, dict[str, str], Path], tmp_path: Path
) -> None:
    fd, _, __ = corpus
    given = {"lazy_load": lazy, "show": False, "num_images": 100}
    pages = [
        fd.vis.duplicates_gallery(tmp_path, save_artifacts=True, **given),
        fd.vis.outliers_gallery(tmp_path, save_artifacts=True, **given),
        fd.vis.similarity_gallery(tmp_path, save_artifacts=True, **given),
        fd.vis.component_gallery(tmp_path, save_artifacts=True, max_items=50, **given),
        fd.vis.component_gallery(tmp_path / "dark.html", metric="dark", sort_by_reduction="sum", **given),
        fd.vis.report(tmp_path, num_images=100, show=False),
    ]
    metrics = [c for c in fd.img_stats(data=False).columns if c != "index"]
    for metric in ("dark", "bright", "blur", *(metrics if lazy else ())):
        page = fd.vis.stats_gallery(tmp_path / f"stats-{metric}", metric=metric, **given)
        assert page.read_text().count("<article") >= fd.num_instances()
        pages.append(page)
    for page in pages:
        assert "<script>alert" not in page.read_text(encoding="utf-8")
    fd.init_search(3)
    found = pd.concat([fd.search(name) for name in fd.annotations()["filename"]])
    assert fastdup.create_duplicates_gallery(found, tmp_path / "found.html", **given).is_file()
    again = fastdup.create(tmp_path / "again", fd.input_dir)
    assert len(list(tmp_path.glob("*_artifacts"))) == 4 and again.run(**QUIET) == 0
    assert again.num_instances(valid_only=False) == fd.num_instances(valid_only=False)


def test_what_the_pixels_say(corpus: tuple[Fastdup, dict[str, str], Path]) -> None:
    fd, _, _ = corpus
    frame = fd.img_stats()
    frame.index = [Path(name).name for name in frame["filename"]]
    assert frame.loc["dark16.png", "mean"] < 4 and frame.loc["bright16.png", "mean"] > 200
    assert frame.loc["turned.jpg", ["img_w", "img_h"]].tolist() == [90, 120]
    assert frame.loc["9000x20.png", ["img_w", "img_h"]].tolist() == [9000, 20]
    stored = fd.tables.img_stats.join(fd.tables.manifest.select("index", "filename"), on="index")
    flags = {
        name: (cut, alpha) for name, cut, alpha in stored.select("filename", "is_truncated", "has_alpha").iter_rows()
    }
    assert flags["half.jpg"][0] and flags["mode-RGBA.png"][1] and flags["mode-LA.png"][1]
    kinds = fd.tables.similarity.filter(fd.tables.similarity["kind"] == "identical_bytes")
    assert len(kinds) >= 6 * 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_a_row(tmp_path: Path, images: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "photo-0000.jpg").chmod(0)
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    fd.run(**QUIET)
    assert "READ_ERROR" in set(fd.invalid_instances()["error_code"])


def test_an_empty_folder_says_where_and_for_what_it_looked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fd = fastdup.create(tmp_path / "work", tmp_path / "empty")
    with pytest.raises(NothingFoundError, match=r"empty.*jpg"):
        fd.run(**QUIET)


@pytest.mark.parametrize(("good", "bad"), [(1, 0), (1, 1), (0, 2), (2, 0)])
def test_few_images_give_empty_frames_and_no_error(good: int, bad: int, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(good):
        Image.fromarray(noise(50, 40, number)).save(folder / f"good-{number}.png")
    for number in range(bad):
        (folder / f"bad-{number}.png").write_text("no")
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(threshold=-2, cc_threshold=1, **QUIET)
    assert fd.num_instances() == good and fd.num_instances(valid_only=False) == good + bad
    pairs = 2 if good == 2 else 0
    assert len(fd.similarity()) == pairs and len(fd.outliers()) == (1 if pairs else 0)
    assert fd.similarity().dtypes["distance"] == fd.img_stats().dtypes["blur"] == np.float64
    assert fd.connected_components()[0].empty and fd.connected_components_grouped().empty
    assert fd.embeddings()[1].shape == (good, 576) and len(fd.img_stats()) == good
    assert len(fd.invalid_instances()) == bad and len(fd.summary(verbose=False)) > 3
    fd.export_v1()
    if good:
        fd.init_search(5)
        assert len(fd.search(fd.annotations()["filename"][0])) == good
    else:
        with pytest.raises(ValueError, match="no valid instance"):
            fd.init_search(5)


@pytest.mark.parametrize("k", [1, 13, 14, 999])
def test_k_is_clipped_to_the_others(k: int, fd: Fastdup) -> None:
    fd.run(nearest_neighbors_k=k, threshold=-2, **QUIET)
    pairs = fd.similarity(data=False)
    assert len(pairs) == 14 * min(k, 13)
    assert not pairs.duplicated(["from", "to"]).any() and (pairs["from"] != pairs["to"]).all()


def test_a_file_of_names_that_are_not_utf8_is_annotated_by_them(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    name = os.fsdecode(b"b\xff.png")
    Image.fromarray(noise(30, 30)).save(folder / "a.png")
    shutil.copy(folder / "a.png", folder / name)
    fd = fastdup.create(tmp_path / "work", folder)
    names = pd.Series(["a.png", name], dtype="object")
    fd.run(annotations=pd.DataFrame({"filename": names, "label": ["x", "y"]}), **QUIET)
    assert fd.annotations()["label"].tolist() == ["x", "y"]
    fd.annotations().to_csv(tmp_path / "out.csv")
