"""V1's files: written so that V1 reads them, read as V1 writes them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup

HEADERS = {
    "atrain_features.dat.csv": "index,filename",
    "atrain_features.bad.csv": "index,filename,error_code,filesize",
    "atrain_stats.csv": "index,width,height,unique,blur,mean,min,max,stdv,file_size,contrast",
    "similarity.csv": "from,to,distance",
    "outliers.csv": "from,to,distance",
    "connected_components.csv": "__id,component_id,count,mean_distance,min_distance,max_distance",
    "component_info.csv": "component_id,count,mean,min,max",
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_everything_is_written_under_v1s_names(finished: Fastdup, tmp_path: Path) -> None:
    folder = finished.export_v1(tmp_path / "v1")
    for name, header in HEADERS.items():
        assert (folder / name).read_text().splitlines()[0] == header
    raw = np.fromfile(folder / "atrain_features.dat", dtype="<f4").reshape(-1, 576)
    assert np.array_equal(raw, finished.embeddings()[1])
    named = rows(folder / "atrain_features.dat.csv")
    assert [row["filename"] for row in named] == finished.embeddings()[0]
    assert [int(row["index"]) for row in named] == finished.annotations()["index"].tolist()
    bad = rows(folder / "atrain_features.bad.csv")
    assert [row["error_code"] for row in bad] == finished.invalid_instances()["error_code"].tolist()
    assert bad[-1]["filesize"] == "-1" and bad[0]["filesize"] == "12"
    assert len(rows(folder / "similarity.csv")) == len(finished.similarity())
    assert json.loads((folder / "config.json").read_text()) == finished.config
    assert not (folder / "atrain_crops.csv").exists()


def test_files_that_are_there_are_kept_unless_told_otherwise(finished: Fastdup, tmp_path: Path) -> None:
    (tmp_path / "similarity.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"similarity\.csv"):
        finished.export_v1(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["similarity.csv"]
    finished.export_v1(tmp_path, overwrite=True)
    assert (tmp_path / "similarity.csv").read_text().startswith("from,to,distance")


def test_names_with_commas_quotes_and_newlines_survive_the_csv(images: Path, tmp_path: Path) -> None:
    odd = ["a,b.jpg", 'say "x".jpg', "two\nlines.jpg"]
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(odd):
        shutil.copy(images / f"photo-000{number}.jpg", folder / name)
    fd = fastdup.create(tmp_path / "work", folder)
    fd.run(print_summary=False)
    names, vectors = fastdup.load(fd.export_v1())
    assert names == [str(folder / name) for name in sorted(odd)] == fd.annotations()["filename"].tolist()
    assert np.array_equal(vectors, fd.embeddings()[1])


def test_crops_are_listed_with_their_real_size(images: Path, tmp_path: Path) -> None:
    boxes = pd.DataFrame(
        {
            "filename": ["photo-0000.jpg"] * 3,
            "col_x": [1, 2, 3],
            "row_y": 4,
            "width": [40, 50, 5],
            "height": 30,
            "label": list("abc"),
        }
    )
    fd = fastdup.create(tmp_path / "work", images)
    fd.run(annotations=boxes, print_summary=False)
    found = rows(fd.export_v1() / "atrain_crops.csv")
    assert list(found[0]) == ["index", "filename", "crop_filename", "col_x", "row_y", "width", "height", "label"]
    assert [(row["col_x"], row["width"], row["height"], row["label"]) for row in found] == [
        ("1", "40", "30", "a"),
        ("2", "50", "30", "b"),
    ]
    for row in found:
        assert (fd.work_dir / row["crop_filename"]).is_file()


def test_features_of_v1_are_read_and_analysed(tmp_path: Path) -> None:
    """A folder as fastdup 2.54 writes it: ids that skip the bad file, names relative to where it ran."""
    vectors = np.random.default_rng(0).normal(size=(4, 576)).astype("<f4")
    vectors[3] = vectors[1]
    (tmp_path / "atrain_features.dat").write_bytes(vectors.tobytes())
    listing = "index,filename\n1,imgs/a.jpg\n2,imgs/b.jpg\n3,imgs/c.jpg\n4,imgs/d.jpg\n"
    (tmp_path / "atrain_features.dat.csv").write_text(listing)
    names, loaded = fastdup.load(tmp_path)
    assert names == [f"imgs/{n}.jpg" for n in "abcd"] and np.array_equal(loaded, vectors)
    fd = fastdup.create(tmp_path / "work")
    fd.run(embeddings=loaded, annotations=pd.DataFrame({"filename": names}), print_summary=False)
    assert fd.similarity(data=False)[["from", "to"]].to_numpy().tolist() == [[1, 3], [3, 1]]
    assert fastdup.load(tmp_path, d=576)[1].shape == (4, 576)
    for d, error in ((100, "d=100"), (0, "d=0")):
        with pytest.raises(ValueError, match=error):
            fastdup.load(tmp_path, d=d)
    with pytest.raises(FileNotFoundError, match=r"atrain_features\.dat"):
        fastdup.load(tmp_path / "nowhere")


def test_paths_become_relative_once(finished: Fastdup, images: Path, tmp_path: Path) -> None:
    finished.export_v1(tmp_path)
    Fastdup.fastdup_convert_to_relpath(tmp_path, images)
    once = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert rows(tmp_path / "atrain_features.dat.csv")[0]["filename"] == "copy-a.jpg"
    assert rows(tmp_path / "atrain_features.bad.csv")[0]["filename"] == "broken.jpg"
    Fastdup.fastdup_convert_to_relpath(tmp_path, images)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == once
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Fastdup.fastdup_convert_to_relpath(tmp_path / "nowhere", images)


@pytest.mark.parametrize(
    ("margins", "place"),
    [({}, [100, 60, 28, 30]), ({"augmentation_additive_margin": 7}, [93, 53, 35, 43]),
     ({"augmentation_horiz": 0.5, "augmentation_vert": 0.1}, [86, 57, 42, 36])],
)  # fmt: skip
def test_crops_are_listed_as_large_as_their_files(
    margins: dict[str, float], place: list[int], images: Path, tmp_path: Path
) -> None:
    """The margin counts, as far as the image of 128 x 96 goes."""
    corners = {"x1": 60, "y1": 20, "x2": 80, "y2": 40, "x3": 70, "y3": 50, "x4": 50, "y4": 30}
    upright = {"col_x": 100, "row_y": 60, "width": 28, "height": 30}
    for box in (upright, corners):
        fd = fastdup.create(tmp_path / f"work-{len(box)}", images)
        fd.run(annotations=pd.DataFrame([{"filename": "photo-0000.jpg", **box}]), print_summary=False, **margins)
        (row,) = rows(fd.export_v1() / "atrain_crops.csv")
        with Image.open(fd.work_dir / row["crop_filename"]) as crop:
            assert [int(row["width"]), int(row["height"])] == [*crop.size]
        if box is upright:
            assert [int(row[name]) for name in ("col_x", "row_y", "width", "height")] == place
        elif not margins:
            assert [row[name] for name in ("col_x", "row_y", "width", "height")] == ["50", "20", "28", "14"]
