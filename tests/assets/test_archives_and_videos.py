"""Splits of archives and videos go through the graph and the command line like splits of images."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner

from fastdup_dagster.cli import main
from fastdup_dagster.storage import TableStore


def write_film(path: Path, photos: list[Path]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1, (128, 96))
    for photo in photos:
        writer.write(cv2.imread(str(photo)))
    writer.release()


def write_tar(path: Path, photos: list[Path]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for photo in photos:
            archive.add(photo, f"inner/{photo.name}")


def test_a_split_of_archives_and_one_of_videos_are_materialised_whole(project: Any) -> None:
    photos = sorted((project.images / "train").glob("*.jpg"))
    for split in ("packed", "filmed"):
        (project.images / split).mkdir()
    write_tar(project.images / "packed" / "x.tar.gz", photos)
    write_film(project.images / "filmed" / "y.mp4", photos)
    project.register({"num_threads": 2})
    for split, media in (("packed", "member"), ("filmed", "frame")):
        assert project.run(f"pets/{split}").success
        manifest = project.store.read("image_manifest", f"pets/{split}")
        assert manifest["media"].unique().to_list() == [media] and manifest.height == 10
        assert project.store.read("embeddings", f"pets/{split}")["error_code"].count() == 0
    pairs = project.store.read("similarity", "pets/packed")
    assert "identical_bytes" in pairs["kind"].to_list()
    page = (project.home / "store" / "pages" / "pets" / "filmed" / "report.html").read_text()
    assert "at 0:0" in page


@pytest.mark.usefixtures("home")
def test_the_command_takes_an_archive_and_archives_called_like_splits(
    home: Path, tmp_path: Path, photos: Callable[..., list[Path]]
) -> None:
    made = photos(tmp_path / "photos", 8)
    (tmp_path / "sets").mkdir()
    write_tar(tmp_path / "sets" / "train.tar", made[:6])
    write_tar(tmp_path / "sets" / "test.tar", made[4:])
    for given, name, splits in (
        (tmp_path / "sets" / "train.tar", "one", {"all": 6}),
        (tmp_path / "sets", "two", {"train": 6, "test": 4}),
    ):
        result = CliRunner().invoke(main, ["run", str(given), "--name", name, "--num-threads", "2", "--json"])
        assert result.exit_code == 0, result.output
        store = TableStore(home / "store")
        found = {split: store.read("image_manifest", f"{name}/{split}").height for split in splits}
        assert found == splits
    assert sorted(p.name for p in (tmp_path / "sets").iterdir()) == ["test.tar", "train.tar"]
