"""The report of a work_dir lists every gallery that was made of its results, before it or after it."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest

import fastdup_dagster as fastdup
from fastdup_dagster.fastdup_galleries import FastdupVisualizer
from fastdup_dagster.outputs import PAGES, MadePages
from fastdup_dagster.stages.made_pages import add_gallery

GALLERIES = ("outliers", "duplicates", "similarity", "component", "stats")


def listed(report: Path) -> dict[str, tuple[str, str]]:
    """Of each link in the list: the file, what it is called, and how much it shows."""
    _, _, html = report.read_text(encoding="utf-8").partition('<section id="made"')
    rows = re.findall(
        r'<li><a href="([^"]+)">(.*?)</a> <span class="soft">(.*?)</span>', html.partition("</section>")[0]
    )
    return {unquote(href): (heading, items) for href, heading, items in rows}


@pytest.mark.parametrize("first", ["report", "galleries"])
def test_all_galleries_are_linked_whether_they_or_the_report_were_made_first(double, tmp_path, first):
    vis = FastdupVisualizer(double)
    if first == "report":
        report = vis.report()
        assert listed(report) == {} and "None yet" in report.read_text(encoding="utf-8")
    made = [getattr(vis, f"{name}_gallery")() for name in GALLERIES]
    made.append(vis.duplicates_gallery(tmp_path / "else where #1", num_images=1, lazy_load=True))
    report = vis.report() if first == "galleries" else report
    links = listed(report)
    assert {Path(os.path.normpath(report.parent / link)) for link in links} == set(made)
    assert not any(Path(link).is_absolute() for link in links)
    assert links["duplicates.html"] == ("Duplicates", "4 of 4")
    assert links["../../else where #1/duplicates.html"] == ("Duplicates", "1 of 4")
    assert links["outliers.html"] == ("Outliers", "3 of 3")


def test_a_gallery_made_again_is_listed_once_and_one_that_is_gone_no_more(double):
    vis = FastdupVisualizer(double)
    report, page = vis.report(), vis.outliers_gallery()
    vis.outliers_gallery(num_images=2)
    assert listed(report) == {"outliers.html": ("Outliers", "2 of 3")}
    page.unlink()
    vis.duplicates_gallery()
    assert list(listed(report)) == ["duplicates.html"]


def test_every_report_is_kept_up_to_date_and_nothing_else_in_it_changes(double, tmp_path):
    vis = FastdupVisualizer(double)
    reports = [vis.report(), vis.report(tmp_path / "mine.html")]
    before = [report.read_text(encoding="utf-8") for report in reports]
    vis.duplicates_gallery().unlink()
    vis.outliers_gallery()
    assert [len(listed(report)) for report in reports] == [1, 1]
    for report, text in zip(reports, before, strict=True):
        for part in (0, 2):
            around = re.split(r"<!-- (?:end of )?galleries made -->", text)
            assert (
                re.split(r"<!-- (?:end of )?galleries made -->", report.read_text(encoding="utf-8"))[part]
                == around[part]
            )


def test_a_page_that_took_the_place_of_a_report_is_left_alone(double):
    vis = FastdupVisualizer(double)
    report = vis.report()
    report.write_text("my own notes", encoding="utf-8")
    vis.outliers_gallery()
    assert report.read_text(encoding="utf-8") == "my own notes"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"path": 1}]', "\x00"])
def test_a_broken_record_is_as_none(double, text):
    vis = FastdupVisualizer(double)
    (double.work_dir / PAGES).parent.mkdir(exist_ok=True)
    (double.work_dir / PAGES).write_text(text)
    page = vis.outliers_gallery()
    assert list(listed(vis.report())) == [page.name]


def test_another_run_starts_with_an_empty_list_and_a_moved_work_dir_keeps_its_own(tmp_path, photos):
    photos(tmp_path / "images", 5)
    fd = fastdup.create(tmp_path / "work", tmp_path / "images")
    fd.run(print_summary=False, num_threads=2)
    fd.vis.outliers_gallery(show=False)
    shutil.copytree(tmp_path / "work", tmp_path / "moved")
    assert list(listed(fastdup.create(tmp_path / "moved").vis.report())) == ["outliers.html"]
    fd.run(threshold=0.5, print_summary=False, num_threads=2)
    assert MadePages(tmp_path / "work").found() == []
    assert listed(fd.vis.report()) == {}


def test_a_name_that_is_no_utf8_can_be_linked(double, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    vis = FastdupVisualizer(double)
    vis.outliers_gallery(folder)
    html = vis.report().read_text(encoding="utf-8")
    assert 'href="../../caf%E9/outliers.html"' in html


def _add(work_dir: Path, number: int) -> None:
    page = work_dir / f"page-{number}.html"
    page.write_text("made")
    add_gallery(work_dir, page, f"Page {number}", 1, 1)


def test_galleries_that_several_make_at_once_are_all_listed(double):
    report = FastdupVisualizer(double).report()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _add(double.work_dir, number), range(40)))
    assert len(MadePages(double.work_dir).found()) == 41
    assert len(listed(report)) == 40
