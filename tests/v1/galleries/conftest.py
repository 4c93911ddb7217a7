"""A small double of a controller, its every number known, with images on disk; and a headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.summary import SplitTables

SCRIPT = "<script>document.title='bad'</script>"
CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def picture(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


# name, pixels, label; the index is the position here
FILES: list[tuple[str, np.ndarray, str | None]] = [
    ("a/x.png", picture(1), "cat"),
    ("a/x_copy.png", picture(1), "cat"),
    ("b/x.png", cv2.resize(picture(1), (48, 32)), "dog"),
    ("c.png", picture(3), SCRIPT),
    ("<script>document.title='bad'<b>\"'&#% ?.png".replace("</", ""), picture(4), None),
    ("e.png", picture(5, 60, 90), "cat"),
    ("e2.png", picture(6, 60, 90), "cat"),
    ("dark.png", np.full((64, 96, 3), 2, np.uint8), "dog"),
    ("bright.png", np.full((64, 96, 3), 254, np.uint8), "dog"),
    ("vanished.png", picture(9), "cat"),
]
EDGES = [(0, 1, 1.0), (1, 0, 1.0), (0, 2, 0.97), (2, 0, 0.97), (1, 2, 0.965), (2, 1, 0.965), (5, 6, 0.93), (6, 5, 0.93)]
WEAK = [(3, 4, 0.25), (4, 3, 0.25), (7, 8, 0.5), (8, 7, 0.5), (9, 7, 0.2), (5, 3, 0.3)]
OUTLIERS = [(9, 7, 0.2, 1), (3, 4, 0.25, 2), (5, 3, 0.3, 3)]
BLUR = [900.0, 900.0, 700.0, 500.0, 480.0, 300.0, 310.0, 0.5, 0.0, 450.0]
MEAN = [120.0, 120.0, 121.0, 110.0, 90.0, 100.0, 105.0, 2.0, 254.0, 99.5]


@dataclass
class Double:
    """What the galleries need of a finished `FastdupController`."""

    work_dir: Path
    tables: SplitTables
    labels: list[Any]
    input_dir: Path
    settings: Settings = field(default_factory=lambda: Settings(num_threads=2))
    extra: dict[str, list[Any]] = field(default_factory=dict)

    def annotations(self, valid_only: bool = True) -> pd.DataFrame:
        names = [str(self.input_dir / name) for name in self.tables.manifest["filename"]]
        return pd.DataFrame({"label": self.labels, **self.extra, "index": range(len(names)), "filename": names})

    def similarity(self) -> pd.DataFrame:
        return self.tables.similarity.select("from", "to", "distance").to_pandas()

    def outliers(self) -> pd.DataFrame:
        frame = self.tables.outliers.select("outlier", "nearest", "distance").to_pandas()
        return frame.assign(label_outlier=[self.labels[i] for i in frame["outlier"]])

    def img_stats(self) -> pd.DataFrame:
        columns = ["index", "img_w", "img_h", "blur", "mean", "file_size"]
        return self.tables.img_stats.select(columns).to_pandas()

    def connected_components(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        frame = self.tables.components.to_pandas()
        return frame, frame.drop_duplicates("component_id")


def write_files(folder: Path) -> list[Path]:
    paths = []
    for name, pixels, _ in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        done, data = cv2.imencode(".png", pixels)
        assert done
        path.write_bytes(bytes(data))
        paths.append(path)
    return paths


def make_tables(paths: list[Path], boxes: list[list[float] | None] | None = None) -> SplitTables:
    n = len(paths)
    sizes = [(pixels.shape[1], pixels.shape[0]) for _, pixels, _ in FILES]
    common = {"index": range(n), "file_size": [path.stat().st_size for path in paths]}
    manifest = {
        "instance_id": [f"{i:032x}" for i in range(n)],
        "filename": [name for name, _, _ in FILES],
        "uri": [path.as_uri() for path in paths],
        "media": ["image" if boxes is None else "crop"] * n,
        "box": pl.Series(boxes or [None] * n, dtype=pl.List(pl.Float64)),
    }
    stats = {
        "source_key": ["k"] * n,
        "content_hash": [f"{i}" for i in range(n)],
        "pixel_hash": [f"{i}" for i in range(n)],
    }
    stats |= {"img_w": [w for w, _ in sizes], "img_h": [h for _, h in sizes], "blur": BLUR, "mean": MEAN}
    stats |= {
        "is_blurry": [v < 150 for v in BLUR],
        "is_dark": [v < 4 for v in MEAN],
        "is_bright": [v > 253 for v in MEAN],
    }
    similar = [(a, b, s, "near_duplicate" if s < 1 else "identical_bytes", 0.9) for a, b, s in EDGES]
    graph = [(a, b, 1, s) for a, b, s in EDGES + WEAK]
    components = [(i, 0, 3, 0.978, 0.965, 1.0) for i in range(3)] + [(i, 1, 2, 0.93, 0.93, 0.93) for i in (5, 6)]
    return SplitTables(
        manifest=schemas.IMAGE_MANIFEST.frame({**common, **manifest}),
        img_stats=schemas.IMG_STATS.frame({**common, **stats}),
        knn_graph=schemas.KNN_GRAPH.frame(pl.DataFrame(graph, schemas.KNN_GRAPH.names, orient="row")),
        similarity=schemas.SIMILARITY.frame(
            pl.DataFrame(sorted(similar, key=lambda e: -e[2]), schemas.SIMILARITY.names, orient="row")
        ),
        outliers=schemas.OUTLIERS.frame(pl.DataFrame(OUTLIERS, schemas.OUTLIERS.names, orient="row")),
        components=schemas.COMPONENTS.frame(pl.DataFrame(components, schemas.COMPONENTS.names, orient="row")),
    )


@pytest.fixture
def make_double(tmp_path: Path) -> Callable[..., Double]:
    """Makes a double; `boxes` makes every instance a box of its image."""

    def make(boxes: list[list[float] | None] | None = None, **changes: Any) -> Double:
        folder = tmp_path / "photos & co"
        paths = write_files(folder)
        tables = make_tables(paths, boxes)
        paths[9].unlink()  # goes away after it was analysed
        labels = changes.pop("labels", [label for _, _, label in FILES])
        return Double(tmp_path / "work dir", tables, labels, folder, **changes)

    return make


@pytest.fixture
def double(make_double: Callable[..., Double]) -> Double:
    return make_double()


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
