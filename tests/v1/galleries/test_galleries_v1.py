"""The five V1 galleries: what they show, in which order, with the accessors' numbers; and every argument of theirs."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pandas as pd
import polars as pl
import pytest

from fastdup_dagster.fastdup_galleries import FastdupVisualizer

SCRIPT = "<script>document.title='bad'</script>"
COMMON = "save_path label_col draw_bbox num_images max_width lazy_load"
SEED = {
    "outliers": f"{COMMON} how slice sort_by ascending save_artifacts show",
    "duplicates": f"{COMMON} slice ascending threshold save_artifacts show",
    "similarity": f"{COMMON} slice ascending threshold show",
    "stats": "save_path metric slice label_col lazy_load show",
    "component": f"{COMMON} slice group_by min_items max_items threshold metric sort_by sort_by_reduction ascending "
    "save_artifacts show",
}
GALLERIES = list(SEED)


def make(double: Any, name: str, **more: Any) -> str:
    """The HTML of a gallery."""
    return gallery(double, name, **more).read_text(encoding="utf-8")


def gallery(double: Any, name: str, **more: Any) -> Path:
    return getattr(FastdupVisualizer(double), f"{name}_gallery")(**more)


def items(html: str) -> list[str]:
    return re.findall(r"<article class=\"card.*?</article>", html, flags=re.S)


def scores(html: str) -> list[float]:
    return [float(value) for value in re.findall(r'<dd><data value="([^"]+)"', html)]


def names(html: str) -> list[str]:
    return [unescape(name) for name in re.findall(r'class="name" title="([^"]*)"', html)]


def shown(html: str, count: int = 1) -> list[list[str]]:
    return [names(item)[:count] for item in items(html)]


@pytest.mark.parametrize("name", GALLERIES)
def test_the_arguments_are_the_seeds_in_its_order_and_what_is_added_comes_after(name):
    parameters = inspect.signature(getattr(FastdupVisualizer, f"{name}_gallery")).parameters
    assert list(parameters)[1:][: len(SEED[name].split())] == SEED[name].split()
    defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert defaults["save_path"] is None and defaults["label_col"] == "label" and defaults["num_images"] == 20
    assert defaults["lazy_load"] is False and defaults["show"] is True


def test_outliers_are_the_accessors_rows_lowest_first(double):
    html = make(double, "outliers")
    frame = double.outliers()
    assert [scores(item) for item in items(html)] == [[float(s)] for s in frame["distance"]]
    files = double.tables.manifest["filename"]
    assert shown(html, 2) == [[files[a], files[b]] for a, b in zip(frame["outlier"], frame["nearest"], strict=True)]
    assert [s for item in items(make(double, "outliers", ascending=False)) for s in scores(item)] == sorted(
        map(float, frame["distance"]), reverse=True
    )


def test_outliers_far_from_all_images_are_in_no_pair(double):
    assert shown(make(double, "outliers", how="one")) == [["vanished.png"], ["c.png"], ["e.png"]]
    assert shown(make(double, "outliers", how="all")) == [["vanished.png"], ["c.png"]]
    for end in ("from", "to"):  # with k neighbours each, an edge need not have a reverse
        edges = double.tables.similarity.filter(pl.col(end) == 5)
        one_way = replace(double, tables=replace(double.tables, similarity=edges))
        assert shown(make(one_way, "outliers", how="all")) == [["vanished.png"], ["c.png"]]


def test_outliers_take_a_threshold_a_column_to_sort_by_and_labels(double):
    assert shown(make(double, "outliers", threshold=0.2)) == [["vanished.png"]]
    assert shown(make(double, "outliers", sort_by="label")) == [["c.png"], ["vanished.png"], ["e.png"]]
    assert shown(make(double, "outliers", slice="cat")) == [["vanished.png"], ["e.png"]]
    assert shown(make(double, "outliers", slice="diff")) == [["vanished.png"], ["e.png"]]


def test_duplicates_are_each_unordered_pair_once_with_the_accessors_numbers(double):
    html = make(double, "duplicates")
    assert shown(html, 2) == [
        ["a/x.png", "a/x_copy.png"],
        ["a/x.png", "b/x.png"],
        ["a/x_copy.png", "b/x.png"],
        ["e.png", "e2.png"],
    ]
    frame = double.similarity().drop_duplicates("distance")
    assert [scores(item)[0] for item in items(html)] == [float(s) for s in frame["distance"]]
    assert html.count('class="shot difference"') == 4
    assert "identical bytes" in items(html)[0] and "labels differ" in items(html)[1]
    back = [scores(item)[0] for item in items(make(double, "duplicates", descending=False))]
    assert back == sorted(back) and len(back) == 4


@pytest.mark.parametrize(
    ("part", "pairs"), [("same", 2), ("diff", 2), ("dog", 2), (["cat"], 4), (["dog", "cat"], 4), (SCRIPT, 0)]
)
def test_duplicates_are_chosen_by_how_their_labels_relate_or_by_a_label_of_either(double, part, pairs):
    assert len(items(make(double, "duplicates", slice=part))) == pairs


def test_the_threshold_of_duplicates_is_inclusive(double):
    assert len(items(make(double, "duplicates", threshold=0.97))) == 2
    assert len(items(make(double, "duplicates", threshold=0.9701))) == 1


def test_similarity_shows_each_query_with_its_neighbours_and_who_agrees(double):
    html = make(double, "similarity")
    assert shown(html) == [["a/x.png"], ["a/x_copy.png"], ["b/x.png"], ["e.png"], ["e2.png"]]
    frame = double.similarity()
    for item, query in zip(items(html), (0, 1, 2, 5, 6), strict=True):
        expected = frame[frame["from"] == query]["distance"]
        assert [float(v) for v in re.findall(r'class="similarity" value="([^"]+)"', item)] == [
            float(s) for s in expected
        ]
    agreed = [float(v) for v in re.findall(r'label shared by <data value="([^"]+)"', html)]
    assert agreed == [0.5, 0.5, 0.0, 1.0, 1.0]


def test_similarity_slice_diff_puts_suspicious_labels_first(double):
    assert shown(make(double, "similarity", slice="diff")) == [["b/x.png"], ["a/x.png"], ["a/x_copy.png"]]
    assert shown(make(double, "similarity", slice="same")) == [["e.png"], ["e2.png"]]
    assert shown(make(double, "similarity", slice="dog")) == [["b/x.png"]]
    assert shown(make(double, "similarity", ascending=True))[:2] == [["e.png"], ["e2.png"]]


@pytest.mark.parametrize(
    ("metric", "column", "ascending"),
    [("dark", "mean", True), ("bright", "mean", False), ("blur", "blur", True), ("file_size", "file_size", True)],
)
def test_stats_are_in_the_order_of_the_metric_with_the_accessors_numbers(double, metric, column, ascending):
    page = gallery(double, "stats", metric=metric)
    assert page.name == f"{metric}.html"
    html = page.read_text(encoding="utf-8")
    frame = double.img_stats().sort_values([column, "index"], ascending=[ascending, True])
    assert [scores(item)[0] for item in items(html)] == [float(v) for v in frame[column]]
    assert [n for (n,) in shown(html)] == [double.tables.manifest["filename"][i] for i in frame["index"]]


def test_stats_take_a_strict_threshold_labels_and_another_order(double):
    assert shown(make(double, "stats", metric="dark", threshold=90.0)) == [["dark.png"]]
    assert shown(make(double, "stats", metric="bright", threshold=121.0)) == [["bright.png"]]
    assert shown(make(double, "stats", metric="blur", slice=["dog"], num_images=2)) == [["bright.png"], ["dark.png"]]
    assert shown(make(double, "stats", metric="blur", ascending=False, num_images=1)) == [["a/x.png"]]


def test_components_are_largest_first_with_the_accessors_numbers(double):
    html = make(double, "component")
    frame, info = double.connected_components()
    assert [re.search(r'<data value="(\d+)"', item).group(1) for item in items(html)] == ["3", "2"]
    assert [scores(item) for item in items(html)] == info[
        ["mean_distance", "min_distance", "max_distance"]
    ].to_numpy().tolist()
    assert [len(names(item)) for item in items(html)] == frame.groupby("component_id").size().tolist()
    assert "cat</bdi> 2" in items(html)[0] and "dog</bdi> 1" in items(html)[0]
    assert "Component 1" in items(make(double, "component", ascending=True))[0]


def test_components_take_bounds_a_metric_and_a_column_to_sort_by(make_double):
    double = make_double(extra={"weight": [1.0, 1.0, 1.0, 0, 0, 5.0, 5.0, 0, 0, 0], "kind": list("zzzaaaaaaa")})
    first = {
        (): "Component 0",
        (("min_items", 3),): "Component 0",
        (("threshold", 0.93),): "Component 0",
        (("sort_by", "area"), ("sort_by_reduction", "sum"), ("ascending", True)): "Component 1",
        (("sort_by", "weight"),): "Component 1",
        (("sort_by", "weight"), ("sort_by_reduction", "sum")): "Component 1",
        (("sort_by", "kind"), ("ascending", True)): "Component 1",
        (("metric", "blur"), ("ascending", True)): "Component 1",
        (("slice", "same"),): "Component 1",
        (("slice", "dog"),): "Component 0",
    }
    assert {
        k: re.search(r"Component \d", items(make(double, "component", **dict(k)))[0]).group() for k in first
    } == first
    assert len(items(make(double, "component", min_items=3))) == 1
    assert len(items(make(double, "component", threshold=0.95))) == 1
    cut = items(make(double, "component", max_items=2))[0]
    assert len(names(cut)) == 2 and "and 1 more" in cut
    blur = double.img_stats()["blur"]
    assert scores(items(make(double, "component", metric="blur"))[0])[-1] == pytest.approx(blur[[5, 6]].mean())


def test_components_by_label_group_the_images_that_are_in_any(double):
    html = make(double, "component", group_by="label")
    assert [re.findall(r"Label \w+", item)[0] for item in items(html)] == ["Label cat", "Label dog"]
    assert [len(names(item)) for item in items(html)] == [4, 1]


@pytest.mark.parametrize("name", GALLERIES)
def test_num_images_counts_what_is_shown_and_the_page_says_of_how_many(double, name):
    every, one = len(items(make(double, name))), make(double, name, num_images=1)
    assert len(items(one)) == 1 and every > 1
    assert f"<b data-total>{every}</b>" in one


@pytest.mark.parametrize("name", GALLERIES)
def test_a_folder_or_a_page_is_written_from_any_directory(double, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    into = gallery(double, name, save_path="some folder")
    assert into.is_absolute() and into.parent == tmp_path / "some folder" and into.suffix == ".html"
    assert gallery(double, name, save_path="new/my page.html") == tmp_path / "new" / "my page.html"
    assert gallery(double, name).parent == double.work_dir / "galleries"


@pytest.mark.parametrize("name", GALLERIES)
def test_lazy_pictures_are_files_beside_the_page_and_others_inside_it(double, name, tmp_path):
    lazy, inlined = make(double, name, save_path=tmp_path / "lazy", lazy_load=True), make(double, name)
    links = [unquote(link) for link in re.findall(r'<img src="([^"]+)"', lazy)]
    assert links and all(re.fullmatch(r"images/\w+\.jpg", link) for link in links)
    assert all((tmp_path / "lazy" / link).is_file() for link in links)
    assert lazy.count("<img") == lazy.count('loading="lazy"') and "data:image/jpeg" not in lazy
    assert "images/" not in inlined and inlined.count("data:image/jpeg") == len(re.findall('<img src="', inlined))
    assert not re.search(r"(?:src|href|url\(|@import)[=\s\"'(]*(?:https?:)?//", lazy + inlined)


@pytest.mark.parametrize("name", GALLERIES)
def test_names_and_labels_are_text(double, name):
    html = make(double, name)
    assert html.count("<script") == 1
    if name in ("outliers", "stats"):
        assert "label <bdi>&lt;script&gt;document.title" in html


def test_an_image_that_is_gone_is_a_box_with_the_reason(double):
    assert "MISSING_FILE" in items(make(double, "outliers"))[0]


def test_max_width_is_the_width_of_the_pictures(double, tmp_path):
    gallery(double, "component", save_path=tmp_path, lazy_load=True, max_width=50)
    widths = [cv2.imread(str(path)).shape[1] for path in (tmp_path / "images").iterdir()]
    assert max(widths) == 50 and min(widths) == 48


def test_boxes_are_drawn_on_the_whole_image_or_cut_out(make_double, tmp_path):
    turned = [60.0, 10.0, 80.0, 30.0, 60.0, 50.0, 40.0, 30.0]
    double = make_double(boxes=[[10, 8, 40, 20], [10, 8, 40, 20], None, turned, *[None] * 6])
    html = make(double, "duplicates", save_path=tmp_path / "drawn", lazy_load=True)
    assert '<polygon points="10,8 50,8 50,28 10,28"/>' in items(html)[0] and 'viewBox="0 0 96 64"' in items(html)[0]
    cut = make(double, "duplicates", save_path=tmp_path / "cut", lazy_load=True, draw_bbox=False, num_images=1)
    assert "<polygon" not in cut
    (crop,) = (tmp_path / "cut" / "images").iterdir()
    shape = cv2.imread(str(crop)).shape
    assert shape == (20, 40, 3)
    assert f"images/{crop.name}" in html  # the difference is of the boxes alone
    gallery(double, "stats", save_path=tmp_path / "turned", lazy_load=True, draw_bbox=False, slice=SCRIPT)
    (upright,) = (tmp_path / "turned" / "images").iterdir()
    assert cv2.imread(str(upright)).shape[:2] == (28, 28)


def test_a_callers_functions_see_the_accessors_names(double, tmp_path):
    files = double.annotations()["filename"]
    asked = []
    html = make(double, "outliers", get_extra_col_func=lambda file: asked.append(file) or {"<i>ratio</i>": 0.25})
    assert set(asked) == {files[i] for i in (9, 7, 3, 4, 5)}
    assert "&lt;i&gt;ratio&lt;/i&gt; <bdi>0.25</bdi>" in html
    assert "extra <bdi>42</bdi>" in make(double, "duplicates", get_extra_col_func={files[0]: 42})
    assert "label <bdi>owl" in make(double, "stats", get_label_func={files[3]: "owl"}, slice="owl")
    assert names(make(double, "stats", get_reformat_filename_func=lambda file: Path(file).stem))[0] == "dark"
    boxed = make(double, "stats", get_bounding_box_func={files[7]: [[1, 2, 11, 12]]})
    assert '<polygon points="1,2 11,2 11,12 1,12"/>' in boxed


def test_artifacts_are_the_rows_and_the_images_with_equal_names_kept_apart(double, tmp_path):
    page = gallery(double, "duplicates", save_path=tmp_path, save_artifacts=True, num_images=2)
    folder = tmp_path / "duplicates_artifacts"
    table = pd.read_csv(folder / "duplicates.csv")
    assert page == tmp_path / "duplicates.html"
    assert table[["from", "to"]].to_numpy().tolist() == [[0, 1], [0, 2]]
    np.testing.assert_allclose(table["distance"], [1.0, 0.97], atol=1e-6)
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["0_x.png", "1_x_copy.png", "2_x.png"]
    original = double.input_dir / "b" / "x.png"
    assert (folder / table["to_file"][1]).read_bytes() == original.read_bytes()
    gallery(double, "component", save_path=tmp_path, save_artifacts=True)
    assert (tmp_path / "components_artifacts" / "images" / "6_e2.png").is_file()


def test_foreign_files_beside_a_page_stay(double, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.jpg").write_bytes(b"mine")
    gallery(double, "duplicates", save_path=tmp_path, lazy_load=True, save_artifacts=True)
    assert (tmp_path / "images" / "0.jpg").read_bytes() == b"mine"


def test_labels_may_be_numbers_with_gaps_and_another_column(make_double):
    double = make_double(extra={"grade": [1, 1, 2.0, None, 3, 1, 1, 2, 2, 2]})
    assert len(items(make(double, "duplicates", label_col="grade", slice=2))) == 2
    assert "label <bdi>2</bdi>" in make(double, "duplicates", label_col="grade")
    assert "label <bdi>" not in make(double, "duplicates", label_col=None)


def test_a_grey_flag_makes_grey_pictures(double, tmp_path):
    visualizer = FastdupVisualizer(double, {"cv2_imread_flag": cv2.IMREAD_GRAYSCALE})
    visualizer.stats_gallery(tmp_path, "dark", lazy_load=True)
    read = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim for path in (tmp_path / "images").iterdir()]
    assert set(read) == {2}


BAD = [
    ("outliers", {"num_imags": 3}, TypeError, "'num_imags'; did you mean 'num_images'"),
    ("duplicates", {"treshold": 0.3}, TypeError, "did you mean 'threshold'"),
    ("outliers", {"num_images": 0}, ValueError, "num_images=0"),
    ("duplicates", {"num_images": 2.5}, TypeError, "num_images=2.5"),
    ("duplicates", {"num_images": True}, TypeError, "num_images=True"),
    ("similarity", {"max_width": -4}, ValueError, "max_width=-4"),
    ("similarity", {"threshold": 90}, ValueError, "threshold=90"),
    ("similarity", {"threshold": "high"}, TypeError, "threshold='high'"),
    ("component", {"threshold": float("nan")}, ValueError, "threshold=nan"),
    ("outliers", {"how": "any"}, ValueError, "how='any'"),
    ("outliers", {"sort_by": "distnce"}, ValueError, "sort_by='distnce': did you mean 'distance'"),
    ("outliers", {"lazy_load": "yes"}, TypeError, "lazy_load='yes'"),
    ("duplicates", {"slice": "cta"}, ValueError, "slice='cta': .*did you mean 'cat'"),
    ("duplicates", {"slice": []}, ValueError, r"slice=\[\]"),
    ("stats", {"slice": "diff"}, ValueError, "slice='diff'"),
    ("stats", {"metric": "blurr"}, ValueError, "metric='blurr': did you mean 'blur'"),
    ("stats", {"metric": 3}, TypeError, "metric=3"),
    ("stats", {"label_col": "lable"}, ValueError, "label_col='lable': .*did you mean 'label'"),
    ("stats", {"label_col": 3}, TypeError, "label_col=3"),
    ("stats", {"label_col": None, "slice": "cat"}, ValueError, "slice='cat' needs labels"),
    ("component", {"group_by": "colour"}, ValueError, "group_by='colour'"),
    ("component", {"min_items": 0}, ValueError, "min_items=0"),
    ("component", {"max_items": "two"}, TypeError, "max_items='two'"),
    ("component", {"metric": "sharp"}, ValueError, "metric='sharp'"),
    ("component", {"sort_by": "aera"}, ValueError, "sort_by='aera': did you mean 'area'"),
    ("component", {"sort_by_reduction": "max"}, ValueError, "sort_by_reduction='max'"),
    ("component", {"sort_by": "label", "sort_by_reduction": "sum"}, ValueError, "sort_by='label'"),
    ("component", {"get_extra_col_func": 3}, TypeError, "get_extra_col_func=3"),
    ("component", {"save_path": 5}, TypeError, "save_path=5"),
]


@pytest.mark.parametrize(("name", "given", "error", "words"), BAD, ids=[f"{n}-{next(iter(g))}" for n, g, *_ in BAD])
def test_a_value_that_is_refused_is_named(double, name, given, error, words):
    with pytest.raises(error, match=words):
        gallery(double, name, **given)
    assert not (double.work_dir / "galleries").exists()


def test_a_file_that_is_no_page_and_an_unknown_configuration_are_refused(double, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        gallery(double, "outliers", save_path=tmp_path / "notes.txt")
    with pytest.raises(TypeError, match="cv2_flag"):
        FastdupVisualizer(double, {"cv2_flag": 0})
    with pytest.raises(ValueError, match="cv2_imread_flag=77"):
        FastdupVisualizer(double, {"cv2_imread_flag": 77})


@pytest.mark.parametrize("name", GALLERIES)
def test_a_run_without_any_result_gives_a_page_that_says_so(make_double, name):
    double = make_double()
    for table in ("similarity", "outliers", "components", "img_stats", "knn_graph"):
        object.__setattr__(double.tables, table, getattr(double.tables, table).clear())
    html = make(double, name)
    assert items(html) == [] and 'class="empty"' in html


@pytest.mark.parametrize(("shell", "times"), [("IPKernelApp", 1), ("TerminalIPythonApp", 0)])
@pytest.mark.parametrize("lazy", [True, False])
def test_a_page_is_shown_in_jupyter_only(double, monkeypatch, shell, times, lazy):
    seen: list[str] = []
    display = SimpleNamespace(HTML=str, display=seen.append)
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(config={shell: {}}), display=display)
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    gallery(double, "duplicates", lazy_load=lazy)
    assert len(seen) == times and all(("srcdoc=" in text) != lazy for text in seen)
    gallery(double, "duplicates", show=False)
    assert len(seen) == times
