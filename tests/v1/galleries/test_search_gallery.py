"""`create_duplicates_gallery` for search results, and the report that ties the galleries together."""

from __future__ import annotations

import os
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.fastdup_galleries import FastdupVisualizer, create_duplicates_gallery
from fastdup_dagster.stages.summary import summarise
from fastdup_dagster.storage import TableStore
from fastdup_dagster.work_dir import KEY


@pytest.fixture
def found(double) -> pd.DataFrame:
    """A search for a/x.png: a copy, another size, and something else."""
    query = str(double.input_dir / "a" / "x.png")
    return pd.DataFrame({"from": [query] * 3, "to": ["a/x_copy.png", "b/x.png", "e.png"], "distance": [1.0, 0.97, 0.4]})


def items(page: Path) -> list[str]:
    return re.findall(r"<article class=\"card.*?</article>", page.read_text(encoding="utf-8"), flags=re.S)


def scores(page: Path) -> list[float]:
    return [float(re.search(r'<dd><data value="([^"]+)"', item).group(1)) for item in items(page)]


def test_each_result_is_beside_its_query_most_alike_first(double, found, tmp_path):
    page = create_duplicates_gallery(found, tmp_path / "found", input_dir=double.input_dir)
    assert page == tmp_path / "found" / "duplicates.html"
    assert scores(page) == [1.0, 0.97, 0.4]
    assert [item.count("data:image/jpeg") for item in items(page)] == [2, 2, 2]
    tags = re.findall(r'class="tag">(\w+)<.*?title="([^"]+)"', items(page)[1], flags=re.S)
    assert [(tag, unescape(name)) for tag, name in tags] == [("from", found["from"][0]), ("to", "b/x.png")]
    assert "similar</span>" not in page.read_text()  # a search says nothing about the kind


def test_the_current_directory_and_an_order_threshold_and_number(double, found, tmp_path, monkeypatch):
    monkeypatch.chdir(double.input_dir)
    page = create_duplicates_gallery(found, ".", num_images=1, descending=False, threshold=0.5, lazy_load=True)
    assert page == double.input_dir / "duplicates.html" and scores(page) == [0.97]
    links = re.findall(r'<img src="([^"]+)"', page.read_text())
    assert len(links) == 4 and all((page.parent / link).is_file() for link in links)


def test_an_unordered_pair_is_shown_once_however_its_files_are_spelled(double, found, tmp_path):
    back = pd.DataFrame({"from": ["b/x.png"], "to": ["a/x.png"], "distance": [0.97]})
    page = create_duplicates_gallery(pd.concat([found, back]), tmp_path / "p.html", input_dir=[double.input_dir])
    assert len(items(page)) == 3


def test_polars_frames_csv_files_and_nothing_found(double, found, tmp_path):
    found.to_csv(tmp_path / "found.csv", index=False)
    for df in (pl.from_pandas(found), tmp_path / "found.csv"):
        assert len(items(create_duplicates_gallery(df, tmp_path, input_dir=double.input_dir))) == 3
    page = create_duplicates_gallery(found.head(0), tmp_path, input_dir=double.input_dir)
    assert items(page) == [] and "Nothing was found." in page.read_text()


def test_a_query_without_a_file_is_a_box_with_the_reason(double, tmp_path):
    df = pd.DataFrame({"from": ["query_vector"], "to": ["e.png"], "distance": [0.8]})
    assert "MISSING_FILE" in items(create_duplicates_gallery(df, tmp_path, input_dir=double.input_dir))[0]


def test_labels_come_from_a_function_and_choose(double, found, tmp_path):
    def label(path: str) -> str:
        return Path(path).parent.name

    page = create_duplicates_gallery(found, tmp_path, input_dir=double.input_dir, get_label_func=label, slice="b")
    assert scores(page) == [0.97] and "label <bdi>b</bdi>" in items(page)[0]
    assert scores(
        create_duplicates_gallery(found, tmp_path, input_dir=double.input_dir, get_label_func=label, slice="same")
    ) == [1.0]


def test_ids_are_looked_up_in_their_work_dir(double, tmp_path):
    TableStore(double.work_dir).write(schemas.IMAGE_MANIFEST, KEY, double.tables.manifest)
    df = pd.DataFrame({"from": [str(double.input_dir / "a" / "x.png")] * 2, "to": [1, 2], "distance": [1.0, 0.97]})
    page = create_duplicates_gallery(df, tmp_path, work_dir=double.work_dir)
    assert scores(page) == [1.0, 0.97] and all(item.count("data:image/jpeg") == 2 for item in items(page))
    with pytest.raises(ValueError, match="holds 77: no such id"):
        create_duplicates_gallery(df.assign(to=[1, 77]), tmp_path, work_dir=double.work_dir)


def test_a_name_that_is_not_utf8_is_found_by_its_escaped_spelling(double, tmp_path):
    folder = os.fsencode(double.input_dir)
    try:
        os.rename(folder + b"/e.png", folder + b"/e\xff.png")  # noqa: PTH104 bytes
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    df = pd.DataFrame({"from": ["a/x.png"], "to": ["e\\xff.png"], "distance": [0.5]})
    assert items(create_duplicates_gallery(df, tmp_path, input_dir=double.input_dir))[0].count("data:image/jpeg") == 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"df": 3}, TypeError, "df=3"),
        ({"df": pd.DataFrame({"from": ["a"], "to": ["b"]})}, ValueError, "no column 'distance'; it has from, to"),
        ({"df": pd.DataFrame({"from": [4], "to": [5], "distance": [1.0]})}, ValueError, "holds 4: ids need"),
        ({"df": pd.DataFrame({"from": ["a"], "to": ["b"], "distance": ["x"]})}, ValueError, "'distance'.* holds 'x'"),
        ({"num_image": 3}, TypeError, "'num_image'; did you mean 'num_images'"),
        ({"num_images": -1}, ValueError, "num_images=-1"),
        ({"input_dir": 7}, TypeError, "input_dir=7"),
        ({"slice": "cat"}, ValueError, "slice='cat' needs labels"),
        ({"get_extra_col_func": "f"}, TypeError, "get_extra_col_func='f'"),
    ],
)
def test_a_value_that_is_refused_is_named(found, tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        create_duplicates_gallery(**{"df": found, "save_path": tmp_path / "new", **change})
    assert not (tmp_path / "new").exists()


def test_the_report_ties_everything_together(double, tmp_path):
    page = FastdupVisualizer(double).report(tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    html = page.read_text(encoding="utf-8")
    summary = summarise(double.tables)
    tiles = dict(re.findall(r'data-measure="(\w+)".*?<data class="value" value="(\d*)"', html, flags=re.S))
    assert {name: int(value) for name, value in tiles.items()} == {name: getattr(summary, name) for name in tiles}
    assert len(tiles) == 10
    pairs = dict(re.findall(r'data-threshold="([\d.]+)".*?class="num total">(\d+)<', html, flags=re.S))
    assert {float(t): int(n) for t, n in pairs.items()} == summary.pairs_at
    assert "Similarity to the nearest image" in html and "Sharpness" in html
    assert "No checks were run" not in html
    links = [unquote(urlsplit(link).path) for link in re.findall(r'<h4><a href="([^"]+)"', html)]
    assert len(links) == 6 and all((page.parent / link).is_file() for link in links)
    inner = (page.parent / "report_pages" / "duplicates.html").read_text(encoding="utf-8")
    assert 'href="../report.html"' in inner


def test_the_report_takes_a_number_and_refuses_what_is_none(double, tmp_path):
    page = FastdupVisualizer(double).report(num_images=1)
    assert page == double.work_dir / "galleries" / "report.html"
    assert len(items(page.parent / "report_pages" / "outliers.html")) == 1
    with pytest.raises(ValueError, match="num_images=0"):
        FastdupVisualizer(double).report(num_images=0)
