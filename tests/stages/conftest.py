"""Hand-made tables of a split whose every number is known, and a headless Chromium, for the tests of the pages."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.stages.summary import SplitTables

SCRIPT_NAME = "<script>document.title='bad'<b>\"'&#%?.png"
SCRIPT_LABEL = "<script>document.title='bad'</script>"
NEWLINE_NAME = "new\nline\u202egnp.exe.png"
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Split:
    """A split's tables, its folder of images, a reader of thumbnails, and what the reader was asked for."""

    tables: SplitTables
    folder: Path
    asked: list[str] = field(default_factory=list)

    def read(self, uri: str, max_side: int) -> bytes:
        self.asked.append(uri)
        path = unquote(uri.removeprefix("file://"))
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        scale = min(1.0, max_side / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        done, data = cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        assert done
        return bytes(data)


def _photo(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def _pictures() -> dict[str, np.ndarray]:
    """Names and pixels; the index of each in the tables is its position here."""
    first, second = _photo(1), _photo(2)
    return {
        "a.png": first,
        "a_copy.png": first,
        "sub/a_copy_2.png": first,
        "a_as.bmp": first,
        "a_resized.png": cv2.resize(first, (40, 30)),
        "b.png": second,
        "b_mirrored.png": second[:, ::-1],
        SCRIPT_NAME: _photo(3),
        NEWLINE_NAME: _photo(4, 30, 90),
        "blurred.png": _photo(5),
        "dark.png": np.full((48, 64, 3), 2, np.uint8),
        "bright.png": np.full((48, 64, 3), 254, np.uint8),
        "vanished.png": _photo(6),
    }


# blur and mean by index; every other image is sharp and of middle brightness
_BLUR = {9: 20.0, 10: 0.5, 11: 0.0}
_MEAN = {10: 2.0, 11: 254.0}
_INVALID = [
    ("broken.jpg", "CORRUPT_IMAGE", "begins with <b>text</b>", b"text"),
    ("empty.jpg", "ZERO_SIZE_FILE", "the file has no bytes", b""),
    ("empty_2.jpg", "ZERO_SIZE_FILE", "the file has no bytes", b""),
    ("gone.jpg", "MISSING_FILE", "no such file", None),
]
# from, to, distance, kind, verified score; 1.0000001 is what float32 makes of the cosine of equal vectors
_EDGES = [
    (0, 1, 1.0, "identical_bytes", 1.0),
    (1, 0, 1.0, "identical_bytes", 1.0),
    (2, 0, 0.99999994, "identical_bytes", 1.0),
    (3, 0, 1.0000001, "identical_pixels", 1.0),
    (4, 0, 0.97, "near_duplicate", 0.88),
    (0, 4, 0.97, "near_duplicate", 0.88),
    (5, 6, 0.93, "similar", None),
    (6, 5, 0.93, "similar", None),
]
_WEAK_EDGES = [(7, 8, 0.31), (8, 7, 0.31), (9, 10, 0.25), (10, 11, 0.85), (11, 10, 0.85), (12, 7, 0.2)]


def _rows(columns: list[str], rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def _manifest_and_stats(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    manifest: list[dict[str, Any]] = []
    stats: list[dict[str, Any]] = []

    def add(name: str, data: bytes | None, code: str | None = None, error: str | None = None, **values: Any) -> None:
        index, path = len(manifest), folder / f"file_{len(manifest)}"
        if data is not None:
            path.write_bytes(data)
        size = None if data is None else len(data)
        listed = {"error_code": code, "error": error} if data is None else {}
        common = {"index": index, "file_size": size}
        entry = {"instance_id": f"{index:032x}", "filename": name, "uri": path.as_uri(), "media": "image"}
        manifest.append(common | entry | {"label": SCRIPT_LABEL if index == 7 else None} | listed)
        digest = None if data is None else hashlib.md5(data, usedforsecurity=False).hexdigest()
        stats.append(common | {"content_hash": digest, "source_key": "k", "error_code": code, "error": error} | values)

    for index, (name, pixels) in enumerate(_pictures().items()):
        done, data = cv2.imencode(Path(name).suffix, pixels)
        assert done
        blur, mean = _BLUR.get(index, 900.0 + index), _MEAN.get(index, 120.0)
        add(
            name,
            bytes(data),
            pixel_hash=hashlib.md5(pixels.tobytes(), usedforsecurity=False).hexdigest(),
            img_w=pixels.shape[1],
            img_h=pixels.shape[0],
            blur=blur,
            mean=mean,
            is_blurry=blur < 150,
            is_dark=mean < 4,
            is_bright=mean > 253,
        )
    for name, code, error, data in _INVALID:
        add(name, data, code, error)
    (folder / "file_12").unlink()  # vanished.png goes away after it was analysed
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (manifest, stats))
    listed, measured = frames
    return schemas.IMAGE_MANIFEST.frame(listed), schemas.IMG_STATS.frame(measured)


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[[str], Split]:
    """Makes a split of 17 files, 4 of them invalid. `make_split("train")`."""

    def make(name: str = "split") -> Split:
        folder = tmp_path / f"images of {name}"
        folder.mkdir()
        manifest, stats = _manifest_and_stats(folder)
        graph = [(a, b, 1, s) for a, b, s, *_ in _EDGES] + [(a, b, 1, s) for a, b, s in _WEAK_EDGES]
        similar = sorted(_EDGES, key=lambda edge: -edge[2])
        outliers = [(12, 7, 0.2, 1), (9, 10, 0.25, 2), (7, 8, 0.31, 3)]
        components = [(i, 0, 5, 0.9875, 0.97, 1.0) for i in range(5)] + [(i, 1, 2, 0.93, 0.93, 0.93) for i in (5, 6)]
        tables = SplitTables(
            manifest=manifest,
            img_stats=stats,
            knn_graph=schemas.KNN_GRAPH.frame(_rows(["from", "to", "rank", "distance"], graph)),
            similarity=schemas.SIMILARITY.frame(_rows(schemas.SIMILARITY.names, similar)),
            outliers=schemas.OUTLIERS.frame(_rows(schemas.OUTLIERS.names, outliers)),
            components=schemas.COMPONENTS.frame(_rows(schemas.COMPONENTS.names, components)),
        )
        return Split(tables, folder)

    return make


@pytest.fixture
def split(make_split: Callable[[str], Split]) -> Split:
    """One hand-made split."""
    return make_split("split")


@pytest.fixture(scope="session")
def empty_tables() -> SplitTables:
    """The tables of a split without any image."""
    names = ("image_manifest", "img_stats", "knn_graph", "similarity", "outliers", "components")
    return SplitTables(*(schemas.TABLES[name].frame() for name in names))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium (playwright's Browser); skips where there is none.

    Of one module: playwright's synchronous interface runs once at a time, and other tests use it too.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    path = os.environ.get("CHROMIUM") or next(filter(None, found), None)
    if path is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium, or set CHROMIUM to its path)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()
