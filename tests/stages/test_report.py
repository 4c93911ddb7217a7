"""report.html of a data set: what it says is what the tables and the checks say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.galleries import render_galleries, render_leaks
from fastdup_dagster.stages.report import (
    CheckOutcome,
    DatasetReport,
    dataset_summaries,
    render_dataset_report,
    status_of,
)
from fastdup_dagster.stages.report_sections import setting_rows
from fastdup_dagster.stages.summary import MEASURES

SETTINGS = Settings(num_threads=2, threshold=0.91)
PASSED = CheckOutcome("img_stats", "share_of_invalid", "photos/train", True, True, 0.01, 0.05, "broken files")
BAD_ROWS = pl.DataFrame({"index": [3, 4], "filename": ["x<i>.jpg", "y.jpg"], "error": ["cut\noff", None]})
FAILED = replace(PASSED, partition="photos/val", passed=False, observed=0.3, bad_rows=BAD_ROWS)
WARNING = CheckOutcome("split_leakage", "leak_share", "photos", False, False, 0.07, 0.05)


@pytest.fixture
def splits(make_split):
    return {name: make_split(name) for name in ("test", "train")}


@pytest.fixture
def report(splits):
    leakage = schemas.SPLIT_LEAKAGE.frame(
        {
            "split_from": ["test"] * 3,
            "from": [5, 0, 1],
            "split_to": ["train"] * 3,
            "to": [6, 1, 1],
            "distance": [0.93, 1.0, 1.0],
            "kind": ["similar", "identical_bytes", "identical_bytes"],
            "verified_score": [None, 1.0, 1.0],
        }
    )
    rates = {"split_from": "test", "split_to": "train", "pairs": 2, "leaked_from": 2, "leaked_to": 1}
    return DatasetReport(
        name="photos",
        splits={name: split.tables for name, split in splits.items()},
        settings=SETTINGS,
        model="efficientnet@" + "ab" * 32,
        version="0.1.0",
        created=datetime(2025, 11, 22, 10, 33, tzinfo=UTC),
        checks=[PASSED],
        leakage=leakage,
        leak_rates=pl.DataFrame([rates | {"rate_from": 2 / 17, "rate_to": 1 / 17}]),
        notes=["2 files were left out: <notes>.txt, b.csv"],
    )


def _html(tmp_path, report, splits):
    path = tmp_path / "pages" / "photos" / "report.html"
    assert render_dataset_report(path, report, read=splits["train"].read) == path
    return path.read_text(encoding="utf-8")


def _tiles(html):
    found = re.findall(
        r'<li class="tile \w+" data-measure="(\w+)".*?<data class="value" value="(\d*)"', html, flags=re.S
    )
    return {name: int(value) for name, value in found}


def _summary_table(html):
    body = html[html.index('<table class="summary">') :]
    rows = re.findall(r'<tr data-measure="(\w+)">(.*?)</tr>', body[: body.index("</table>")], flags=re.S)
    return {name: re.findall(r'<td class="num[^"]*">(?:<a [^>]*>)?([\d,–]+)', row) for name, row in rows}


def test_the_numbers_on_the_page_are_those_of_the_tables(tmp_path, report, splits):
    summaries, total = dataset_summaries(report)
    html = _html(tmp_path, report, splits)
    assert (summaries["test"].leaked, summaries["train"].leaked, total.leaked) == (2, 1, 3)
    assert _tiles(html) == {m.field: getattr(total, m.field) for m in MEASURES}
    assert _summary_table(html) == {
        m.field: [str(getattr(s, m.field)) for s in (summaries["test"], summaries["train"], total)] for m in MEASURES
    }


def test_pairs_at_each_threshold_are_those_of_the_graphs(tmp_path, report, splits):
    _, total = dataset_summaries(report)
    html = _html(tmp_path, report, splits)
    rows = re.findall(r'<tr data-threshold="([\d.]+)">.*?<td class="num total">(\d+)</td>', html, flags=re.S)
    assert {float(t): int(n) for t, n in rows} == total.pairs_at
    assert "This run took pairs over 0.91" in html


def test_every_value_of_a_histogram_is_drawn(tmp_path, report, splits):
    html = _html(tmp_path, report, splits)
    expected = {"Similarity to the nearest image": 2 * 14, "Sharpness": 26, "Mean brightness": 26, "Longer side": 26}
    charts = re.findall(r'<figure class="card chart" data-chart="([^",]+).*?</figure>', html, flags=re.S)
    bodies = re.findall(r'<figure class="card chart".*?</figure>', html, flags=re.S)
    drawn = {
        name: sum(map(int, re.findall(r'data-count="(\d+)"', body))) for name, body in zip(charts, bodies, strict=True)
    }
    assert drawn == expected


def test_invalid_files_are_listed_with_their_reason(tmp_path, report, splits):
    html = _html(tmp_path, report, splits)
    section = html[html.index('<section id="invalid"') : html.index('<section id="checks"')]
    assert section.count("<tr>") == 1 + 8
    assert "begins with &lt;b&gt;text&lt;/b&gt;" in section
    assert "ZERO_SIZE_FILE 4" in section


def test_links_lead_to_the_galleries_that_were_made(tmp_path, report, splits):
    root = tmp_path / "pages" / "photos"
    for name, split in splits.items():
        render_galleries(split.tables, root / name, f"photos/{name}", SETTINGS, read=split.read)
    tables = {name: split.tables for name, split in splits.items()}
    manifests = {name: t.manifest for name, t in tables.items()}
    stats = {name: t.img_stats for name, t in tables.items()}
    render_leaks(
        report.leakage,
        report.leak_rates,
        manifests,
        stats,
        root / "_leaks",
        "photos",
        SETTINGS,
        read=splits["train"].read,
    )
    folders = {name: root / name for name in splits}
    html = _html(tmp_path, replace(report, galleries=folders, leaks_page=root / "_leaks" / "leaks.html"), splits)
    links = set(re.findall(r'<a [^>]*href="([^"#]+)"', html))
    assert {"test/report.html", "train/duplicates.html", "train/bright.html", "_leaks/leaks.html"} <= links
    assert all((root / unquote(link)).is_file() for link in links)


def test_a_report_without_galleries_stands_alone(tmp_path, report, splits):
    html = _html(tmp_path, report, splits)
    assert not re.findall(r'<a [^>]*href="([^"#]+)"', html)
    sources = re.findall(r'<img src="([^"]{0,40})', html)
    assert len(sources) > 20
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "FileNotFoundError" in html  # vanished.png is a box with the reason


def test_leaks_show_first_the_most_alike_and_count_only_real_ones(tmp_path, report, splits):
    html = _html(tmp_path, report, splits)
    section = html[html.index('<section id="leaks"') : html.index('<section id="distributions"')]
    assert "<b>2</b> pairs of the same picture" in section and "and 1 that are only similar" in section
    assert re.findall(r'badge (\w+)">', section) == ["identical_bytes", "identical_bytes", "similar"]
    assert re.findall(r'class="tag">(\w+)<', section) == ["test", "train"] * 3
    assert "(11.8 %)" in section and "(5.9 %)" in section


def test_all_gates_passed(tmp_path, report, splits):
    passed = replace(report, checks=[PASSED, replace(PASSED, partition="photos/test")])
    assert status_of(passed).state == "passed"
    assert "All 2 checks passed" in _html(tmp_path, passed, splits)


def test_a_failed_gate_shows_check_partition_observed_limit_and_bad_rows(tmp_path, report, splits):
    failed = replace(report, splits={**report.splits, "val": None}, checks=[PASSED, FAILED, WARNING])
    html = _html(tmp_path, failed, splits)
    banner = html[html.index('<section class="banner failed"') : html.index('<section id="summary"')]
    assert "FAILED: share_of_invalid on photos/val" in banner
    assert "<dt>observed</dt><dd>0.3</dd>" in banner and "<dt>limit</dt><dd>0.05</dd>" in banner
    assert "2 bad rows" in banner and "x&lt;i&gt;.jpg" in banner and "cut\\noff" in banner
    assert "leak_share" in banner and "warning" in banner
    assert _tiles(html)["images"] == 34
    assert html.count(">stopped</span>") == len(MEASURES)
    assert re.findall(r'data-outcome="(\w+)"', html) == ["failed", "warning", "passed"]
    assert "without val, which has no results" in html


def test_every_split_stopped_still_gives_a_report(tmp_path, report, splits):
    nothing = replace(report, splits={"val": None}, checks=[FAILED], leakage=None, leak_rates=None)
    html = _html(tmp_path, nothing, splits)
    assert "No split has results." in html and "Stopped by a gate." in html and "FAILED" in html
    assert "could be read" not in html


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"checks": []}, "unchecked"),
        ({"checks": [PASSED, WARNING]}, "warning"),
        ({"checks": [PASSED], "splits": {"val": None}}, "incomplete"),
        ({"checks": [PASSED, WARNING, FAILED], "splits": {"val": None}}, "failed"),
    ],
)
def test_the_banner_tells_failed_stopped_warned_and_unchecked_apart(report, changes, state):
    assert status_of(replace(report, **changes)).state == state


def test_one_split_needs_no_table_by_split_and_its_tiles_lead_to_the_galleries(tmp_path, report, splits):
    folder = tmp_path / "pages" / "photos" / "train"
    render_galleries(splits["train"].tables, folder, "photos/train", SETTINGS, read=splits["train"].read)
    one = replace(report, splits={"train": splits["train"].tables}, leakage=None, leak_rates=None)
    html = _html(tmp_path, replace(one, galleries={"train": folder}), splits)
    assert '<table class="summary">' not in html
    assert "leaked" not in _tiles(html)
    assert re.search(r'data-measure="outliers"[^>]*>\s*<a href="train/outliers.html">', html)


def test_names_of_splits_checks_and_data_sets_are_text(tmp_path, report, splits):
    evil = "<script>alert(1)</script>"
    tables = report.splits["train"]
    hostile = replace(
        report,
        name=evil,
        splits={evil: tables},
        checks=[replace(FAILED, check=evil, partition=evil, description=evil, observed=evil)],
        notes=[evil],
        model=evil,
        leakage=None,
        leak_rates=None,
    )
    html = _html(tmp_path, hostile, splits)
    assert html.count("<script>") == 1
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


def test_settings_that_were_changed_come_first_and_every_setting_is_there():
    rows = setting_rows(Settings(threshold=0.8, limits={"max_invalid_share": 0.1}))
    assert [row.name for row in rows if row.changed] == ["threshold", "limits.max_invalid_share"]
    assert [row.name for row in rows[:2]] == ["threshold", "limits.max_invalid_share"]
    assert {row.name for row in rows} >= set(Settings.model_fields) - {"limits", "captions"} | {"captions.model"}
    assert all(row.description for row in rows)
