"""Archives and videos through the V1 face: the same results as unpacked, and every method finds its images."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster.analysis import DatasetWarning
from fastdup_dagster.engine import Fastdup
from fastdup_dagster.images import read_image

QUIET = {"print_summary": False, "num_threads": 2}
TABLES = ("image_manifest", "embeddings", "img_stats", "knn_graph", "similarity", "outliers", "components")
MEMBER_ONLY = ["uri", "mtime", "etag", "source_key", "instance_id", "media"]


def pack(folder: Path, target: Path) -> Path:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                archive.write(path, path.relative_to(folder))
    else:
        with tarfile.open(target, "w" if target.suffix == ".tar" else "w:gz") as packed:
            for path in reversed(paths):  # not in the order of the listing
                packed.add(path, path.relative_to(folder))
    return target


def run(work_dir: Path, given: object, **more: object) -> Fastdup:
    fd = fastdup.create(work_dir, given)  # type: ignore[arg-type]
    assert fd.run(**{**QUIET, **more}) == 0
    return fd


def stored(fd: Fastdup, table: str) -> pl.DataFrame:
    frame = pl.read_parquet(fd.work_dir / table / "run" / "all.parquet")
    return frame.drop(MEMBER_ONLY, strict=False)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_an_archive_gives_the_tables_of_its_unpacked_folder_and_nothing_is_written_beside(
    name: str, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    archive = pack(images, tmp_path / "in" / name)
    before = archive.read_bytes(), archive.stat().st_mtime_ns
    packed, plain = run(tmp_path / "packed", archive), run(tmp_path / "plain", images)
    for table in TABLES:
        ours = stored(packed, table)
        if "filename" in ours.columns:
            ours = ours.with_columns(pl.col("filename").str.strip_prefix(f"{name}/"))
        assert ours.equals(stored(plain, table)), table
    assert (archive.read_bytes(), archive.stat().st_mtime_ns) == before
    assert [path.name for path in (tmp_path / "in").iterdir()] == [name]


@pytest.fixture
def packed(images: Path, tmp_path: Path) -> Path:
    """A folder with the photos in a tar."""
    (tmp_path / "in").mkdir()
    return pack(images, tmp_path / "in" / "x.tar").parent


def test_a_second_run_reads_nothing_and_one_of_a_touched_archive_infers_nothing(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "work", packed)
    run(tmp_path / "work", packed, verbose=True)
    assert " 0 through the model" in capsys.readouterr().out
    (packed / "x.tar").touch()
    run(tmp_path / "work", packed, verbose=True)
    assert " 0 through the model" in capsys.readouterr().out


@pytest.mark.parametrize("spell", ["x.tar/{}", "{folder}/x.tar/{}"])
def test_annotations_name_members(spell: str, packed: Path, tmp_path: Path) -> None:
    names = ["photo-0000.jpg", "photo-0001.jpg"]
    frame = pd.DataFrame({"filename": [spell.format(n, folder=packed) for n in names], "label": ["a", "b"]})
    fd = run(tmp_path / "work", packed, annotations=frame)
    found = fd.annotations()
    assert found["label"].tolist() == ["a", "b"]
    assert found["filename"].tolist() == [f"{packed}/x.tar/{name}" for name in names]


def test_annotations_of_a_single_archive_may_name_what_is_inside(packed: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"filename": ["photo-0000.jpg", "x.tar/photo-0001.jpg"], "label": ["a", "b"]})
    assert run(tmp_path / "work", packed / "x.tar", annotations=frame).annotations()["label"].tolist() == ["a", "b"]


def test_annotations_alone_name_members_and_what_is_not_there_is_missing(packed: Path, tmp_path: Path) -> None:
    names = [f"{packed}/x.tar/{name}" for name in ("photo-0001.jpg", "gone.jpg", "photo-0000.jpg")]
    fd = run(tmp_path / "work", None, annotations=pd.DataFrame({"filename": names}))
    assert fd.annotations(valid_only=False)["filename"].tolist() == names
    assert fd.invalid_instances()["error_code"].tolist() == ["MISSING_FILE"]


def test_boxes_are_cut_from_members_and_exported(packed: Path, images: Path, tmp_path: Path) -> None:
    box = {"col_x": 10, "row_y": 5, "width": 40, "height": 30}
    frame = pd.DataFrame([{"filename": f"x.tar/photo-000{n}.jpg", **box} for n in range(3)])
    fd = run(tmp_path / "work", packed, annotations=frame, data_type="bbox")
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[40, 30]] * 3
    crops = sorted((fd.export_v1(tmp_path / "v1") / "crops").iterdir())
    whole = read_image((images / "photo-0000.jpg").as_uri())
    assert np.array_equal(cv2.imread(str(crops[0]))[:, :, ::-1], whole[5:35, 10:50])


def test_search_and_galleries_find_members(packed: Path, images: Path, tmp_path: Path) -> None:
    fd = run(tmp_path / "work", packed, threshold=0.2)
    fd.init_search(k=3)
    inside = f"{packed}/x.tar/photo-0003.jpg"
    by_member, by_file = fd.search(inside), fd.search(str(images / "photo-0003.jpg"))
    assert by_member["distance"].tolist() == by_file["distance"].tolist()
    assert f"{packed}/x.tar/copy-a.jpg" in by_member["to"].tolist()
    page = Path(fd.vis.duplicates_gallery(num_images=5, save_artifacts=True, show=False))
    assert "READ_ERROR" not in page.read_text() and "x.tar/photo-0003.jpg" in page.read_text()
    copies = list(page.with_name(f"{page.stem}_artifacts").rglob("*.jpg"))
    assert (images / "photo-0003.jpg").read_bytes() in [path.read_bytes() for path in copies]
    searched = Path(fastdup.create_duplicates_gallery(by_member, save_path=tmp_path / "pages"))
    assert "MISSING_FILE" not in searched.read_text() and "data:image/jpeg" in searched.read_text()
    vector, name = fd.feature_vector(inside)
    assert vector.shape == (1, 576) and name == inside


def test_images_beside_an_archive_go_alone_with_a_warning_and_tar_only_is_the_reverse(
    packed: Path, images: Path, tmp_path: Path
) -> None:
    (packed / "photo-0000.jpg").write_bytes((images / "photo-0000.jpg").read_bytes())
    with pytest.warns(DatasetWarning, match=r"1 \.tar"):
        assert run(tmp_path / "a", packed).num_instances(valid_only=False) == 1
    with pytest.warns(DatasetWarning, match=r"1 \.jpg"):
        assert run(tmp_path / "b", packed, tar_only=True).num_instances(valid_only=False) == 15


def test_an_archive_of_ones_own_is_never_deleted(packed: Path, tmp_path: Path) -> None:
    before = (packed / "x.tar").read_bytes()
    fd = run(tmp_path / "work", packed, delete_tar=True, delete_img=True)
    assert (packed / "x.tar").read_bytes() == before
    note = "delete_img and delete_tar: nothing was downloaded, so nothing is deleted; your own files stay"
    assert note in fd.config["notes"]


def test_a_broken_archive_keeps_its_good_members_and_stands_among_the_invalid(packed: Path, tmp_path: Path) -> None:
    data = (packed / "x.tar").read_bytes()
    (packed / "x.tar").write_bytes(data[: len(data) // 2])
    (packed / "y.zip").write_bytes(b"no archive")
    invalid = run(tmp_path / "work", packed).invalid_instances()
    assert invalid["filename"].tolist()[-1] == f"{packed}/y.zip"
    assert set(invalid["error_code"]) <= {"READ_ERROR", "CORRUPT_IMAGE"}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A video of four seconds, each another photo, the last one the first again."""
    (tmp_path / "films").mkdir()
    path = tmp_path / "films" / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (128, 96))
    for second in (0, 1, 2, 0):
        patches = np.random.default_rng(second).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        for _ in range(5):
            writer.write(cv2.resize(patches, (128, 96), interpolation=cv2.INTER_NEAREST))
    writer.release()
    return path


def test_frames_of_a_video_are_instances_with_times_and_galleries_say_them(film: Path, tmp_path: Path) -> None:
    fd = run(tmp_path / "work", film.parent, threshold=0.9)
    names = [f"{film}/frame_{number:06}" for number in (0, 5, 10, 15)]
    assert fd.annotations()["filename"].tolist() == names
    assert fd.tables.manifest["timestamp"].to_list() == pytest.approx([0, 1, 2, 3], abs=0.01)
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[128, 96]] * 4
    pairs = fd.similarity()
    assert {names[0], names[3]} in [set(pair) for pair in pairs[["filename_from", "filename_to"]].to_numpy()]
    page = Path(fd.vis.duplicates_gallery(save_artifacts=True, show=False))
    assert "frame_000015 at 0:03.00" in page.read_text()
    copies = sorted(page.with_name(f"{page.stem}_artifacts").rglob("*.png"))
    assert np.array_equal(cv2.imread(str(copies[0]))[:, :, ::-1], read_image(fd.tables.manifest["uri"][0]))
    fd.init_search(k=2)
    assert fd.search(names[0])["to"].tolist() == [names[0], names[3]]


def test_a_run_at_another_rate_reads_the_new_frames_alone(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "work", film.parent, video_rate=1)
    run(tmp_path / "work", film.parent, video_rate=5, verbose=True)
    said = capsys.readouterr().out
    assert "20 instances" in said and "16 of 16 images" in said
    run(tmp_path / "work", film.parent, video_frames="all", verbose=True)
    assert " 0 through the model" in capsys.readouterr().out


def test_many_videos_and_archives_at_once_are_read_whatever_the_number_of_threads(
    film: Path, images: Path, tmp_path: Path
) -> None:
    for number in range(5):
        (film.parent / f"{number}.mp4").write_bytes(film.read_bytes())
    pack(images, film.parent / "x.tgz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = run(tmp_path / "1", film.parent, video_frames="all", num_threads=1)
        three = run(tmp_path / "3", film.parent, video_frames="all", num_threads=3)
    assert one.num_instances(valid_only=False) == 6 * 20 + 15 and one.num_instances() == 6 * 20 + 14
    for table in TABLES:
        assert stored(one, table).equals(stored(three, table)), table


def test_a_tar_of_awkward_members_has_a_row_for_each(images: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(images / "photo-0000.jpg", "good.jpg")
        for name, kind in (("../evil.jpg", tarfile.REGTYPE), ("link.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(images / "photo-0001.jpg")
            archive.addfile(info)
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    fd = run(tmp_path / "work", tmp_path / "x.tar")
    assert fd.num_instances() == 1
    assert fd.invalid_instances()["error_code"].tolist() == ["UNSUPPORTED_FORMAT"] * 2
    assert not (tmp_path / "evil.jpg").exists()
