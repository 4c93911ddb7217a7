"""What a run writes is no input of the next one, whatever the layout; what was written before does not stay behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster.outputs import RECORD, Outputs, OwnFiles

QUIET = {"print_summary": False, "num_threads": 2}
SHOWN = {"lazy_load": True, "save_artifacts": True, "show": False}
BOXES = pd.DataFrame(
    {"filename": [f"photo-000{n}.jpg" for n in range(4)], "col_x": 2, "row_y": 3, "width": 40, "height": 30}
)


@pytest.fixture
def folder(images: Path, tmp_path: Path) -> Path:
    """Twelve photos, and one in a folder called like ours."""
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    for path in images.glob("photo-*.jpg"):
        shutil.copy(path, folder / path.name)
    shutil.copy(folder / "photo-0000.jpg", folder / "images" / "mine.jpg")
    return folder


def write_everything(fd: fastdup.Fastdup, place: Path | None) -> None:
    """Every kind of file that there is, into a folder."""
    for gallery in (fd.vis.duplicates_gallery, fd.vis.outliers_gallery, fd.vis.component_gallery, fd.vis.stats_gallery):
        assert gallery(place, **SHOWN).is_file()
    assert fd.vis.similarity_gallery(place, lazy_load=True, show=False).is_file()
    assert fd.vis.report(place, show=False).is_file()
    fd.export_v1(place)
    fd.connected_components_grouped(load_crops=True)
    fd.init_search(2)
    found = fd.search(fd.annotations()["filename"][0])
    target = fd.work_dir if place is None else place
    fastdup.create_duplicates_gallery(found, target / "found.html", lazy_load=True, show=False, work_dir=fd.work_dir)


@pytest.mark.parametrize("layout", ["same", "inside", "around", "link"])
@pytest.mark.parametrize("place", [None, "photos", "photos/pages"])
def test_a_second_run_lists_the_same_files(layout: str, place: str | None, folder: Path, tmp_path: Path) -> None:
    work = {"same": folder, "inside": folder / "work", "around": tmp_path, "link": tmp_path / "link"}[layout]
    if layout == "link":
        work.symlink_to(folder)
    fd = fastdup.create(work, folder)
    fd.run(annotations=BOXES, threshold=-1, cc_threshold=-1, **QUIET)
    write_everything(fd, None if place is None else tmp_path / place)
    assert len(list(folder.rglob("*.*g"))) > 13 or layout == "around"
    fd.run(**QUIET)
    assert fd.num_instances() == 13
    names = {Path(name).name for name in fd.annotations()["filename"]}
    assert "mine.jpg" in names and len(names) == 13


def test_another_work_dir_does_not_take_them_for_input_either(folder: Path, tmp_path: Path) -> None:
    first = fastdup.create(folder, folder)
    first.run(**QUIET)
    first.vis.stats_gallery(show=False, lazy_load=True)
    assert list((folder / "galleries" / "images").glob("*.jpg"))
    other = fastdup.create(tmp_path / "other", folder)
    other.run(**QUIET)
    assert other.num_instances() == 13
    assert any("files that earlier runs wrote were left out" in note for note in other.config["notes"])


def test_pages_and_exports_among_the_images_are_no_input_of_any_run(folder: Path, tmp_path: Path) -> None:
    first = fastdup.create(tmp_path / "first", folder)
    first.run(annotations=BOXES, threshold=-1, **QUIET)
    first.vis.duplicates_gallery(folder, **SHOWN)
    first.vis.report(folder / "pages", show=False)
    first.export_v1(folder / "v1")
    found = pd.DataFrame({"from": ["photo-0000.jpg"], "to": ["photo-0001.jpg"], "distance": [0.5]})
    fastdup.create_duplicates_gallery(found, folder / "found", input_dir=folder, lazy_load=True, show=False)
    assert len(list(folder.rglob("*.jpg"))) > 18 and len(list(folder.rglob("*.png"))) == 4
    other = fastdup.create(tmp_path / "other", [folder])
    other.run(**QUIET)
    assert other.num_instances() == 13


def test_the_current_folder_as_work_dir_and_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    fastdup.run(".", **QUIET)
    fastdup.init_search(3, ".")
    found = fastdup.search("photo-0001.jpg")
    fastdup.create_duplicates_gallery(found, ".", lazy_load=True, show=False)
    assert len(list((folder / "images").iterdir())) > 1
    fastdup.run(".", **QUIET)
    assert fastdup.create(".").num_instances() == 13


def test_a_file_that_is_named_is_input_whoever_wrote_it(folder: Path, tmp_path: Path) -> None:
    fd = fastdup.create(folder, folder)
    fd.run(annotations=BOXES, cc_threshold=-1, **QUIET)
    crops = sorted({name for names in fd.connected_components_grouped(load_crops=True)["files"] for name in names})
    assert len(crops) == 4
    other = fastdup.create(tmp_path / "other")
    other.run(crops, **QUIET)
    assert other.annotations()["filename"].tolist() == crops


def test_exports_are_replaced_by_exports_and_gone_with_their_run(folder: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(annotations=BOXES, **QUIET)
    fd.export_v1()
    fd.export_v1(tmp_path / "v1")
    assert len(pd.read_csv(fd.work_dir / "atrain_crops.csv")) == 4
    fd.run(threshold=-1, **QUIET)
    for name in ("atrain_crops.csv", "similarity.csv", "atrain_features.dat", "crops"):
        assert not (fd.work_dir / name).exists()
    fd.export_v1()
    fd.export_v1()
    assert len(pd.read_csv(fd.work_dir / "similarity.csv")) == len(fd.similarity())
    fd.export_v1(tmp_path / "v1")
    assert not (tmp_path / "v1" / "atrain_crops.csv").exists() and not (tmp_path / "v1" / "crops").exists()
    assert len(pd.read_csv(tmp_path / "v1" / "similarity.csv")) == len(fd.similarity())


def test_crops_do_not_replace_a_users_file(folder: Path) -> None:
    (folder / "crops").mkdir()
    (folder / "crops" / "0.png").write_bytes(b"mine")
    fd = fastdup.create(folder, folder)
    fd.run(annotations=BOXES, cc_threshold=-1, **QUIET)
    for write in (fd.export_v1, lambda: fd.connected_components_grouped(load_crops=True)):
        with pytest.raises(FileExistsError, match=r"0\.png"):
            write()
    assert (folder / "crops" / "0.png").read_bytes() == b"mine"


def test_a_gallery_made_again_leaves_no_picture_and_no_copy_behind(folder: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(threshold=-1, **QUIET)
    pages = tmp_path / "pages"
    fd.vis.duplicates_gallery(pages, **SHOWN)
    fd.vis.stats_gallery(pages, num_images=3, **SHOWN)
    many = len(list((pages / "images").iterdir()))
    (pages / "images" / "foreign.jpg").write_bytes(b"mine")
    fd.vis.duplicates_gallery(pages, num_images=1, **SHOWN)
    left = {path.name for path in (pages / "images").iterdir()}
    assert len(left) < many and "foreign.jpg" in left
    assert len(list((pages / "duplicates_artifacts" / "images").iterdir())) == 2
    linked = {name for name in left if any(name in page.read_text() for page in pages.glob("*.html"))}
    assert linked == left - {"foreign.jpg"}
    fd.vis.duplicates_gallery(pages, num_images=1, show=False)
    assert not (pages / "duplicates_artifacts" / "duplicates.csv").exists()


def test_a_record_that_is_no_record_is_no_error(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[1, 2")
    outputs = Outputs(tmp_path)
    assert outputs.files() == set()
    outputs.replace("page", [tmp_path / "a.jpg", tmp_path / "b" / "c.jpg"])
    assert Outputs(tmp_path).files("page") == {tmp_path / "a.jpg", tmp_path / "b" / "c.jpg"}
    assert str(tmp_path / "b" / "c.jpg").encode() in OwnFiles()
    with pytest.raises(ValueError, match=r"elsewhere"):
        outputs.replace("page", [Path("/elsewhere/b.jpg")])
    outputs.replace("page", [])
    assert not (tmp_path / RECORD).exists()


def test_a_record_removes_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    (tmp_path / "work" / RECORD).write_text(json.dumps({"page": ["../mine.jpg", str(tmp_path / "mine.jpg"), "x.jpg"]}))
    outputs = Outputs(tmp_path / "work")
    assert outputs.files() == {tmp_path / "work" / "x.jpg"}
    outputs.replace("page", [])
    assert (tmp_path / "mine.jpg").is_file()
