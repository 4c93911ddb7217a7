"""Every script of examples/ does what its docstring says, on a small folder of photos."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import polars as pl
import pytest

from fastdup_dagster.demo.photos import PHOTOS, read_photo

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TESTED = {
    "v1_script.py",
    "find_leaks.py",
    "search_by_image.py",
    "precomputed_embeddings.py",
    "clean_dataset.py",
    "dagster_in_python.py",
    "caption_images.py",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/`: six photos, a copy, a smaller copy and a broken file; `test/`: two more photos and a leak."""
    folder = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        (folder / split).mkdir()
    for number, photo in enumerate(PHOTOS):
        pixels = read_photo(photo)[:, :, ::-1]
        split = "train" if number < 6 else "test"
        cv2.imwrite(str(folder / split / f"{photo.name}.jpg"), pixels)
        if photo.name == "astronaut":
            cv2.imwrite(str(folder / "train" / "astronaut_small.jpg"), cv2.resize(pixels, (300, 300)))
    shutil.copy(folder / "train" / "coffee.jpg", folder / "train" / "coffee_copy.jpg")
    shutil.copy(folder / "train" / "coffee.jpg", folder / "test" / "leak.jpg")
    (folder / "train" / "notes.jpg").write_text("no image")
    return folder


def run(script: str, *arguments: str | Path, cwd: Path, home: Path | None = None) -> str:
    """What the script prints; it must succeed."""
    environment = {**os.environ, "DAGSTER_HOME": str(home or cwd / "no_home")}
    command = [sys.executable, EXAMPLES / script, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_short_and_says_how_to_run_it() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"} == TESTED
    for name in TESTED:
        source = (EXAMPLES / name).read_text(encoding="utf-8")
        assert len(source.splitlines()) < 60, name
        assert f"\n    python examples/{name} " in source, name


def test_a_script_for_fastdup_needs_another_import_alone(images: Path, tmp_path: Path) -> None:
    source = (EXAMPLES / "v1_script.py").read_text(encoding="utf-8")
    assert re.findall(r"^.*fastdup_dagster.*$", source, re.MULTILINE) == ["import fastdup_dagster as fastdup"]
    names = sorted(path.name for path in (images / "train").iterdir())
    labels = ["sunny" if name.startswith("a") else "cloudy" for name in names]
    pl.DataFrame({"filename": names, "label": labels}).write_csv(tmp_path / "annotations.csv")
    said = run("v1_script.py", images / "train", tmp_path / "annotations.csv", "results", cwd=tmp_path)
    assert "Dataset contains 9 images" in said
    assert re.search(r"notes\.jpg +CORRUPT_IMAGE", said)
    assert re.search(r"pairs, the most alike at 1\.000:\n.*coffee(_copy)?\.jpg and .*coffee(_copy)?\.jpg", said)
    assert "4 images in 2 components:" in said
    assert re.search(r"Strongest outlier: .*\.jpg", said)
    assert re.search(r"Blurriest: .*\.jpg", said)
    pages = [Path(line) for line in said.partition("Galleries:\n")[2].splitlines()]
    assert [page.stem for page in pages] == ["duplicates", "outliers", "components", "blur", "similarity"]
    assert all("data:image/jpeg" in (tmp_path / page).read_text(encoding="utf-8") for page in pages)


def test_leaks_are_found(images: Path, tmp_path: Path) -> None:
    said = run("find_leaks.py", images / "train", images / "test", cwd=tmp_path)
    leaks = [line.split() for line in said.splitlines() if line.startswith(("identical", "near"))]
    found = [(kind, Path(test).name, Path(train).name) for kind, _, test, train in leaks]
    assert sorted(found) == [
        ("identical_bytes", "leak.jpg", "coffee.jpg"),
        ("identical_bytes", "leak.jpg", "coffee_copy.jpg"),
    ]
    assert "33.3% of 3 test images are in the training set" in said


def test_an_image_finds_what_is_like_it(images: Path, tmp_path: Path) -> None:
    call = (images / "train", images / "train" / "astronaut_small.jpg", "--k", "3")
    said = run("search_by_image.py", *call, cwd=tmp_path).splitlines()
    assert [Path(line.split()[1]).name for line in said[:2]] == ["astronaut_small.jpg", "astronaut.jpg"]
    assert said[0].startswith("1.000")
    page = Path(said[3].removeprefix("with pictures: "))
    assert "astronaut.jpg" in (tmp_path / page).read_text(encoding="utf-8")
    assert run("search_by_image.py", *call, cwd=tmp_path).splitlines() == said


def test_vectors_of_ones_own_are_analysed(images: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "photos").mkdir()
    for path in (images / "train").glob("*.jpg"):
        if path.name != "notes.jpg":
            shutil.copy(path, folder)
    said = run("precomputed_embeddings.py", folder, cwd=tmp_path).splitlines()
    assert said[0] == "8 vectors of width 512"
    assert said[1].split() == ["1.000", "coffee.jpg", "coffee_copy.jpg"]


def test_what_is_kept_has_no_broken_file_and_no_copy(images: Path, tmp_path: Path) -> None:
    said = run("clean_dataset.py", images / "train", "keep.txt", cwd=tmp_path)
    kept = [Path(line) for line in (tmp_path / "keep.txt").read_text(encoding="utf-8").splitlines()]
    names = {path.name for path in (images / "train").iterdir()}
    assert {path.name for path in kept} == names - {"notes.jpg", "coffee_copy.jpg"}
    assert all(path.is_file() for path in kept)
    assert re.search(r"^broken  .*notes\.jpg  CORRUPT_IMAGE$", said, re.MULTILINE)
    assert re.search(r"^copy    .*coffee_copy\.jpg  of  .*coffee\.jpg$", said, re.MULTILINE)
    assert "kept    7 of 9 files: keep.txt" in said


def test_a_split_is_materialised_and_its_table_read(images: Path, tmp_path: Path) -> None:
    said = run("dagster_in_python.py", images, "--split", "test", cwd=tmp_path, home=tmp_path / "home")
    assert "passed  embeddings  share_of_unreadable" in said
    assert "FAILED" not in said
    table = tmp_path / "home" / "store" / "similarity" / "photos" / "test.parquet"
    assert f"{pl.read_parquet(table).height} pairs in {table}" in said
    report = Path(said.splitlines()[-1].removeprefix("report: "))
    assert report == tmp_path / "home" / "store" / "pages" / "photos" / "test" / "report.html"
    assert "photos/test" in report.read_text(encoding="utf-8")


def test_images_are_captioned_once_and_found_by_a_word(images: Path, tmp_path: Path) -> None:
    said = run("caption_images.py", images / "train", cwd=tmp_path)
    assert re.search(r"coffee\.jpg  Most likely espresso \(\d+ %\)", said)
    assert "8 of 8 images, captioned by tags" in said
    again = run("caption_images.py", images / "train", "--find", "ESPRESSO", cwd=tmp_path).splitlines()
    assert {"coffee.jpg", "coffee_copy.jpg"} <= {Path(line.split("  ")[0]).name for line in again[:-1]}
    assert set(again[:-1]) <= set(said.splitlines())
    assert len(pl.read_csv(tmp_path / "captions" / "captions.csv")) == 8
