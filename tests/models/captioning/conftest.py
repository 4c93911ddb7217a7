"""The tiny models of the fixtures, and the pictures that their expected texts were made of."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastdup_dagster.images import Decoded

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"


def _picture() -> Callable[[int], NDArray[np.uint8]]:
    spec = importlib.util.spec_from_file_location("pictures", HERE / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.picture


picture_of = _picture()


@pytest.fixture(scope="session")
def decoded() -> Callable[[int], Decoded]:
    """The picture of a seed as the decoder gives it."""

    def make(seed: int) -> Decoded:
        pixels = picture_of(seed)
        height, width = pixels.shape[:2]
        return Decoded(pixels=pixels, width=width, height=height, format="png", has_alpha=False, is_truncated=False)

    return make


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of the tiny models: vit-gpt2, blip, blip-vqa, vilt, age. Look, do not touch."""
    return FIXTURES


@pytest.fixture(scope="session")
def expected() -> Callable[[str], list[dict[str, Any]]]:
    """What transformers makes of the pictures with a model: `expected("blip")`."""

    def read(name: str) -> list[dict[str, Any]]:
        return json.loads((FIXTURES / name / "expected.json").read_text())["cases"]

    return read


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model's folder without some of its files: `copy_of("blip", "tokenizer.json")`."""

    def make(name: str, *without: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(FIXTURES / name, folder)
        for file in without:
            (folder / file).unlink()
        return folder

    return make
