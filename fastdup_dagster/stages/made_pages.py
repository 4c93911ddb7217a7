"""The list of a run's galleries in its reports, also of those that are made after a report."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastdup_dagster.names import shown_name
from fastdup_dagster.outputs import MadePages
from fastdup_dagster.stages.pages import link_between, render, write_page

_BEGIN, _END = "<!-- galleries made -->", "<!-- end of galleries made -->"


@dataclass(frozen=True)
class MadeLink:
    """A gallery as a report lists it; `place` is its path as seen from the report."""

    heading: str
    href: str
    place: str
    shown: int
    total: int


def made_links(report: Path, pages: MadePages) -> list[MadeLink]:
    """The galleries that are there, linked relative to `report`."""
    return [
        MadeLink(made.heading, link_between(report, path), shown_name(os.fsencode(made.path)), made.shown, made.total)
        for path, made in pages.found()
        if not made.is_report
    ]


def add_report(work_dir: Path, page: Path, images: int) -> None:
    """Notes a report, and lists in it what was made while it was."""
    pages = MadePages(work_dir)
    with pages.lock():
        pages.add(page, "Report", images, images, is_report=True)
        _list_anew(page, made_links(page, pages))


def add_gallery(work_dir: Path, page: Path, heading: str, shown: int, total: int) -> None:
    """Notes a gallery, and lists it in the reports that there are of the same results."""
    pages = MadePages(work_dir)
    with pages.lock():
        pages.add(page, heading, shown, total)
        for report, made in pages.found():
            if made.is_report:
                _list_anew(report, made_links(report, pages))


def _list_anew(report: Path, links: list[MadeLink]) -> None:
    """Replaces the list in a report; a page that has none by now is no report of ours, and stays as it is."""
    before, found, rest = report.read_text(encoding="utf-8").partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if found and ended:
        write_page(report, before + render("made.html", made=links).strip() + after)
