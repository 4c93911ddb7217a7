"""Runs of the V1 face that several tests look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import fastdup_dagster as fastdup

MakePhotos = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, photos: MakePhotos) -> Path:
    """Twelve photos, two copies of one of them, a text named .jpg. Look, do not touch."""
    folder = tmp_path_factory.mktemp("v1") / "images"
    made = photos(folder, 12)
    for name in ("copy-a.jpg", "copy-b.jpg"):
        shutil.copy(made[3], folder / name)
    (folder / "broken.jpg").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def annotated(images: Path) -> pd.DataFrame:
    """Label, split and a note for all but two of the images, and a file that is not there."""
    names = sorted(path.name for path in images.iterdir())
    kept = [name for name in names if name not in ("photo-0010.jpg", "photo-0011.jpg")]
    rows = {
        "filename": [*kept, "gone.jpg"],
        "label": ["cat" if number % 2 else "dog" for number in range(len(kept) + 1)],
        "split": ["train" if number % 3 else "test" for number in range(len(kept) + 1)],
        "weight": range(len(kept) + 1),
    }
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path, annotated: pd.DataFrame) -> fastdup.Fastdup:
    """A finished run with annotations. Look, do not touch."""
    fd = fastdup.create(tmp_path_factory.mktemp("finished"), images)
    fd.run(annotations=annotated, threshold=0.2, cc_threshold=0.5, print_summary=False, num_threads=2)
    return fd


@pytest.fixture
def fd(tmp_path: Path, images: Path) -> fastdup.Fastdup:
    """A fresh object on the images, nothing run yet."""
    return fastdup.create(tmp_path / "work", images)
