"""The galleries on results of the engine itself: numbers equal the accessors', boxes are drawn, odd runs give pages."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest

import fastdup_dagster as fastdup

GALLERIES = ["outliers", "duplicates", "similarity", "stats", "component"]


def items(page: Path) -> list[str]:
    return re.findall(r"<article class=\"card.*?</article>", page.read_text(encoding="utf-8"), flags=re.S)


def scores(page: Path) -> list[float]:
    return [float(re.search(r'<dd><data value="([^"]+)"', item).group(1)) for item in items(page)]


@pytest.fixture
def ran(photos: Any, tmp_path: Path) -> Any:
    """Ten photos of two labels, two of them copied; analysed with annotations."""
    paths = photos(tmp_path / "images", 10)
    for number in (0, 1):
        shutil.copy(paths[number], tmp_path / "images" / f"copy-{number}.jpg")
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    labels = ["cat" if name[-5] in "02468" else "dog" for name in names]
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    annotations = pd.DataFrame({"filename": names, "label": labels, "grade": range(len(names))})
    fd.run(annotations=annotations, threshold=0.6, print_summary=False, num_threads=2)
    return fd


def test_the_numbers_are_those_of_the_accessors(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outliers, similar = ran.outliers(), ran.similarity()
    assert scores(ran.vis.outliers_gallery(num_images=1000)) == outliers["distance"].tolist()
    page = ran.vis.duplicates_gallery("pages", num_images=1000, lazy_load=True)
    unordered = similar[["from", "to"]].apply(frozenset, axis=1)
    assert page == tmp_path / "pages" / "duplicates.html"
    assert scores(page) == similar[~unordered.duplicated()]["distance"].tolist()
    values = re.findall(r'class="similarity" value="([^"]+)"', ran.vis.similarity_gallery().read_text())
    assert sorted(map(float, values)) == sorted(similar["distance"])
    assert scores(ran.vis.stats_gallery(metric="contrast")) == sorted(ran.img_stats()["contrast"])
    frame, info = ran.connected_components()
    assert scores(ran.vis.component_gallery()) == info["mean"].tolist() and len(frame) >= 4
    assert ran.vis.report().name == "report.html"
    by_grade = items(ran.vis.component_gallery(sort_by="grade", sort_by_reduction="mean"))
    means = frame.groupby("component_id")["grade"].mean().sort_values(ascending=False)
    assert [re.search(r"Component (\d+)", item).group(1) for item in by_grade] == [str(i) for i in means.index]


def test_search_results_have_their_gallery(ran, tmp_path):
    ran.init_search(2)
    found = ran.search(str(tmp_path / "images" / "photo-0000.jpg"))
    page = fastdup.create_duplicates_gallery(found, tmp_path / "found", input_dir=tmp_path / "images")
    assert scores(page) == found["distance"].tolist() and all(i.count("data:image") == 2 for i in items(page))


def test_boxes_of_a_run_are_drawn_where_they_are(photos, tmp_path):
    photos(tmp_path / "images", 3)
    boxes = pd.DataFrame({"filename": [f"photo-{i:04}.jpg" for i in (0, 0, 1, 2)], "label": list("abab")})
    boxes = boxes.assign(col_x=[5, 40, 5, 60], row_y=[6, 30, 6, 20], width=[40, 60, 40, 50], height=[30, 50, 30, 40])
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    fd.run(annotations=boxes, data_type="bbox", print_summary=False, num_threads=2)
    drawn = items(fd.vis.stats_gallery(metric="blur"))
    assert len(drawn) == 4 and any('points="40,30 100,30 100,80 40,80"' in item for item in drawn)
    fd.vis.stats_gallery(tmp_path / "cut", metric="blur", draw_bbox=False, lazy_load=True)
    sizes = [cv2.imread(str(path)).shape[1::-1] for path in (tmp_path / "cut" / "images").iterdir()]
    assert sorted(sizes) == [(40, 30), (40, 30), (50, 40), (60, 50)]
    assert fd.vis.report(tmp_path / "report").is_file()


def test_odd_runs_and_odd_names_give_pages(photos, tmp_path):
    images = os.fsencode(tmp_path / "images")
    (first, second) = photos(tmp_path / "images", 2)
    for name in (b"new\nline.jpg", b'50% #1, "it\'s" <b>.jpg', b"\xff\xfe.jpg", b"x" * 240 + b".jpg"):
        shutil.copy(first, os.fsdecode(images + b"/" + name))
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    fd.run(print_summary=False, num_threads=2)
    for name in GALLERIES:
        page = getattr(fd.vis, f"{name}_gallery")(tmp_path / "pages", lazy_load=True, save_artifacts=True)
        assert "No picture" not in page.read_text(encoding="utf-8")
    copies = list((tmp_path / "pages" / "duplicates_artifacts" / "images").iterdir())
    assert len(copies) == 5 and {path.read_bytes() for path in copies} == {first.read_bytes()}
    assert second.is_file()


def test_one_image_gives_pages_with_nothing_to_show(photos, tmp_path):
    photos(tmp_path / "images", 1)
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    with pytest.raises(RuntimeError, match="run"):
        fd.vis.outliers_gallery()
    fd.run(print_summary=False, num_threads=1)
    shown = {name: len(items(getattr(fd.vis, f"{name}_gallery")())) for name in GALLERIES}
    assert shown == {"outliers": 0, "duplicates": 0, "similarity": 0, "stats": 1, "component": 0}
    assert fd.vis.report().is_file()


def component_order(fd: Any, **arguments: Any) -> list[int]:
    page = fd.vis.component_gallery(show=False, **arguments)
    return [int(re.search(r"Component (\d+)", item).group(1)) for item in items(page)]


def test_the_worst_component_of_a_metric_comes_first(ran):
    frame, _ = ran.connected_components()
    means = frame.merge(ran.img_stats(data=False), on="index").groupby("component_id")[["blur", "mean"]].mean()
    assert len(means) >= 2
    for metric, column, lowest in (("dark", "mean", True), ("bright", "mean", False), ("blur", "blur", True)):
        expected = means[column].sort_values(ascending=lowest).index.tolist()
        assert component_order(ran, metric=metric) == expected
        assert component_order(ran, metric=metric, ascending=True) == means[column].sort_values().index.tolist()
        assert component_order(ran, metric=metric, descending=True) == means[column].sort_values().index.tolist()[::-1]
        assert component_order(ran, metric=metric, sort_by="grade") == component_order(ran, sort_by="grade")


def test_components_are_sorted_by_columns_of_any_kind(ran):
    frame = ran.annotations()
    frame["when"] = pd.Timestamp("2024-05-01") - pd.to_timedelta(frame["grade"], unit="D")
    frame["day"] = frame["when"].dt.date
    frame["tags"] = [[1, 2]] * len(frame)
    frame["maybe"] = pd.Series([1, None] * (len(frame) // 2), dtype="Int64")
    ran.run(annotations=frame, threshold=0.6, print_summary=False)
    first = ran.connected_components()[0].groupby("component_id")["when"].first()
    latest = first.sort_values(ascending=False, kind="stable").index.tolist()
    assert component_order(ran, sort_by="when") == component_order(ran, sort_by="day") == latest
    assert component_order(ran, sort_by="when", ascending=True) == latest[::-1]
    assert len(component_order(ran, sort_by="maybe")) == len(latest)
    with pytest.raises(ValueError, match="sort_by='tags': its values are lists"):
        component_order(ran, sort_by="tags")
    with pytest.raises(ValueError, match=r"sort_by='when'.*mean"):
        component_order(ran, sort_by="when", sort_by_reduction="mean")


def test_the_report_names_the_model_that_made_the_vectors(ran):
    text = ran.vis.report(show=False).read_text()
    assert ran.config["model"]["name"] in text
