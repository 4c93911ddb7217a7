"""Scripts as users of fastdup write them: one analysis after another, in one folder, from one process or several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastdup_dagster as fastdup


@pytest.fixture
def shop(tmp_path: Path, photos, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: images/, and annotations.csv with labels and splits."""
    monkeypatch.chdir(tmp_path)
    names = [path.name for path in photos(tmp_path / "images", 8)]
    (tmp_path / "images" / "zz.jpg").write_bytes((tmp_path / "images" / names[0]).read_bytes())
    names.append("zz.jpg")
    frame = pd.DataFrame(
        {"filename": names, "label": ["cat", "dog"] * 4 + ["dog"], "split": ["train"] * 5 + ["test"] * 4}
    )
    frame.to_csv("annotations.csv", index=False)
    return tmp_path


def test_thresholds_are_tried_one_after_another_and_the_work_dir_is_opened_elsewhere(shop: Path) -> None:
    fd = fastdup.create(work_dir="work", input_dir="images")
    counts = []
    for threshold in (0.95, 0.5, -1.0):
        fd.run(annotations=pd.read_csv("annotations.csv"), threshold=threshold, print_summary=False)
        counts.append(len(fd.similarity()))
    assert counts == sorted(counts) and counts[0] == 2 and counts[-1] == 18
    code = "import fastdup_dagster as f; fd = f.create('../work'); print(len(fd.similarity()), fd[0]['label'])"
    (shop / "elsewhere").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd="elsewhere", capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["18", "cat"]


def test_annotations_are_the_same_from_csv_pandas_and_polars(shop: Path) -> None:
    given = ["annotations.csv", pd.read_csv("annotations.csv"), pl.read_csv("annotations.csv")]
    frames = []
    for one in given:
        fd = fastdup.create("work", "images")
        fd.run(annotations=one, print_summary=False)
        frames.append(fd.annotations())
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[2])


def test_embeddings_are_reused_and_searched(shop: Path) -> None:
    fd = fastdup.create("work", "images")
    fd.run(print_summary=False)
    files, vectors = fd.embeddings()
    again = fastdup.create("other")
    again.run(annotations=pd.DataFrame({"filename": files}), embeddings=vectors, print_summary=False)
    pd.testing.assert_frame_equal(again.similarity(data=False), fd.similarity(data=False))
    again.init_search(2)
    assert set(again.vector_search(vec=vectors[0])["to"]) == {files[0], files[8]}
    np.testing.assert_array_equal(again.embeddings()[1], vectors)


def test_galleries_of_slices_and_the_report_go_where_they_are_told(shop: Path) -> None:
    fd = fastdup.create("work", "images")
    fd.run(annotations="annotations.csv", threshold=0.3, print_summary=False)
    pages = [
        fd.vis.duplicates_gallery("html/pairs.html", slice="diff", save_artifacts=True, show=False),
        fd.vis.outliers_gallery("html", slice=["cat"], lazy_load=True),
        fd.vis.component_gallery("html", label_col="split"),
        fd.vis.similarity_gallery(slice="dog", get_extra_col_func=lambda name: Path(name).stat().st_size),
    ]
    assert all(page.is_file() for page in pages) and pages[0] == shop / "html" / "pairs.html"
    report = fd.vis.report().read_text(encoding="utf-8")
    assert all(
        link in report for link in ("../../html/pairs.html", "../../html/outliers.html", 'href="similarity.html"')
    )
    assert (shop / "html" / "pairs_artifacts").is_dir()


def test_switched_off_components_are_not_called_none(shop: Path) -> None:
    fd = fastdup.create("work", "images")
    fd.run(run_cc=False, print_summary=False)
    assert "run_cc=False" in fd.vis.component_gallery().read_text(encoding="utf-8")
    assert "not computed" in " ".join(fd.summary(verbose=False))
