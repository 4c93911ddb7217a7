"""Runs of the V1 face that several tests look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

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


def write_small_model(path: Path, width: int, channels_last: bool) -> str:
    """A model that pools an image to its mean colours and tiles them to `width` numbers."""
    shape = ["n", 32, 32, 3] if channels_last else ["n", 3, 32, 32]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if channels_last else [2, 3])
    repeats = helper.make_tensor("repeats", TensorProto.INT64, [2], [1, width // 3])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("Tile", ["m", "repeats"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [axes, repeats],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return str(path)


@pytest.fixture(scope="session")
def small_model() -> Callable[[Path, int, bool], str]:
    """Writes a model: `small_model(path, width, channels_last)`."""
    return write_small_model
