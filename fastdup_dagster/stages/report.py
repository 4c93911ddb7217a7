"""report.html of a data set: what its checks say, what is wrong with each split, and where to look closer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.caption_pages import select_captions
from fastdup_dagster.stages.galleries import leak_items, leak_pictures, shown_leaks
from fastdup_dagster.stages.gallery_items import select_all
from fastdup_dagster.stages.gallery_pages import Frame, Tab, leak_table
from fastdup_dagster.stages.made_pages import MadeLink
from fastdup_dagster.stages.pages import link_between, write_page
from fastdup_dagster.stages.pictures import ReadThumbnail, pictures_of, thumbnail_jpeg, with_inline_thumbnails
from fastdup_dagster.stages.report_sections import (
    PREVIEW_CAPTIONS,
    PREVIEW_ITEMS,
    CheckOutcome,
    LeakSection,
    ReportPage,
    SplitSection,
    Status,
    caption_preview,
    charts,
    links_of,
    previewed,
    report_page,
    setting_rows,
    split_section,
    tiles,
)
from fastdup_dagster.stages.summary import (
    SplitSummary,
    SplitTables,
    add_up,
    leaked_images,
    summarise,
)

__all__ = ["CheckOutcome", "DatasetReport", "SplitTables", "dataset_summaries", "render_dataset_report"]

_LEAK_PAIRS = 6


@dataclass(frozen=True)
class DatasetReport:
    """What a data set's report is made from.

    Attributes:
        name: of the data set.
        splits: the tables of each split; None for one that a gate stopped.
        settings: of the run.
        model: name@sha256.
        version: of this program.
        created: when; an aware datetime.
        checks: every result.
        leakage: SPLIT_LEAKAGE; None if leaks were not looked for.
        leak_rates: what `split_leakage.leak_rates` gives.
        galleries: the folder of each split's pages, where there are any.
        leaks_page: leaks.html, if there is one.
        captions: the table `captions` of each split that was captioned.
        caption_pages: captions.html of each of them.
        data_docs: the validator's own page of the checks of a partition and asset, where there is one.
        notes: what was left out of the listing and why, for people.
        errors: what broke, apart from failed checks.
        why: why a split has no results, or not all, where that was no gate.
        gated: whether checks are a part of such a run; without them the report says nothing of any.
        made: galleries that a user made of these results; None where there is no such thing.
    """

    name: str
    splits: Mapping[str, SplitTables | None]
    settings: Settings
    model: str
    version: str
    created: datetime
    checks: Sequence[CheckOutcome] = ()
    leakage: pl.DataFrame | None = None
    leak_rates: pl.DataFrame | None = None
    galleries: Mapping[str, Path] = field(default_factory=dict)
    leaks_page: Path | None = None
    captions: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    caption_pages: Mapping[str, Path] = field(default_factory=dict)
    data_docs: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    notes: Sequence[str] = ()
    errors: Sequence[str] = ()
    why: Mapping[str, str] = field(default_factory=dict)
    gated: bool = True
    made: Sequence[MadeLink] | None = None

    @property
    def finished(self) -> dict[str, SplitTables]:
        """The splits that have their tables."""
        return {split: tables for split, tables in self.splits.items() if tables is not None}


def dataset_summaries(report: DatasetReport) -> tuple[dict[str, SplitSummary], SplitSummary]:
    """The numbers of each finished split, and of all of them together."""
    leaked = None if report.leakage is None else leaked_images(report.leakage)
    summaries = {
        split: summarise(tables, None if leaked is None else leaked.get(split, 0), clustered=report.settings.run_cc)
        for split, tables in report.finished.items()
    }
    return summaries, add_up(summaries.values())


def render_dataset_report(path: Path, report: DatasetReport, read: ReadThumbnail = thumbnail_jpeg) -> Path:
    """Writes the report of a data set: one file that stands alone, with links to the galleries.

    Args:
        path: of the HTML file; it is replaced whole or not at all.
        report: what to say.
        read: makes a preview; an image it fails on is shown as a box with the reason.

    Returns:
        `path`.
    """
    summaries, total = dataset_summaries(report)
    sections = [_section(path, split, report, summaries.get(split), read) for split in report.splits]
    # a link in the total's tiles is only unambiguous with one split
    links = dict(sections[0].links) if len(sections) == 1 else {}
    if report.leaks_page is not None:
        links["leaks"] = link_between(path, report.leaks_page)
    page = ReportPage(
        heading=report.name,
        sections=sections,
        total=total,
        tiles=tiles(total, report.settings, links),
        charts=charts(report.finished, report.settings),
        settings=setting_rows(report.settings),
        threshold=report.settings.threshold,
        status=status_of(report) if report.gated else None,
        facts=_facts(report),
        notes=[*report.notes, *report.errors, *_left_out(report)],
        checks=sorted(report.checks, key=lambda c: ("failed", "warning", "passed").index(c.outcome)),
        data_docs={of: link_between(path, page) for of, page in report.data_docs.items()},
        leaks=_leaks(report, links.get("leaks"), read),
        made=report.made,
    )
    write_page(path, report_page(page, Frame(report.name, _anchors(page), version=report.version)))
    return path


def status_of(report: DatasetReport) -> Status:
    """The banner: did every gate pass?"""
    failed = [check for check in report.checks if check.outcome == "failed"]
    warnings = [check for check in report.checks if check.outcome == "warning"]
    stopped = [split for split, tables in report.splits.items() if tables is None or tables.missing]
    if failed:
        several = f"{len(failed)} of {len(report.checks)} checks"
        title = f"FAILED: {several if len(failed) > 1 else f'{failed[0].check} on {failed[0].partition}'}"
        text = "What a failed check guards is not published." + (f" Stopped: {', '.join(stopped)}." if stopped else "")
        return Status("failed", title, text, failed + warnings)
    if stopped or report.errors:
        missing = [f"No results for {', '.join(stopped)}."] if stopped else []
        return Status("incomplete", "Not finished", " ".join([*missing, *report.errors]), warnings)
    if warnings:
        return Status(
            "warning",
            f"Passed, with {len(warnings)} warning{'s' if len(warnings) > 1 else ''}",
            "Every gate is open.",
            warnings,
        )
    if report.checks:
        return Status(
            "passed",
            f"All {len(report.checks)} checks passed" if len(report.checks) > 1 else "The only check passed",
            "Every gate is open.",
        )
    return Status("unchecked", "No checks were run", "Nothing is known about the gates.")


def _section(
    path: Path, split: str, report: DatasetReport, summary: SplitSummary | None, read: ReadThumbnail
) -> SplitSection:
    tables = report.splits[split]
    if tables is None or summary is None:
        return SplitSection(split, None, why=report.why.get(split, ""))
    selections = previewed(select_all(tables, max(PREVIEW_ITEMS.values())))
    folder = report.galleries.get(split)
    links = links_of(["report", *selections], link_between(path, folder)) if folder is not None else {}
    said = select_captions(report.captions[split], PREVIEW_CAPTIONS) if split in report.captions else None
    wanted = {i for selection in selections.values() for i in selection.indices}
    wanted |= set() if said is None else set(said["index"])
    found = pictures_of(tables.manifest, tables.img_stats, wanted).values()
    pictures = with_inline_thumbnails(found, read, report.settings.threads)
    section = replace(split_section(split, tables, summary, selections, pictures, links), why=report.why.get(split, ""))
    if said is None:
        return section
    count = report.captions[split]["caption"].count()
    href = link_between(path, report.caption_pages[split])
    return replace(section, previews=[*section.previews, caption_preview(said, count, href, pictures)])


def _leaks(report: DatasetReport, href: str | None, read: ReadThumbnail) -> LeakSection | None:
    if report.leakage is None:
        return None
    rows = shown_leaks(report.leakage, _LEAK_PAIRS)
    pictures = {
        split: with_inline_thumbnails(
            leak_pictures(rows, split, tables.manifest, tables.img_stats).values(), read, report.settings.threads
        )
        for split, tables in report.finished.items()
    }
    counted = report.leakage.filter(pl.col("kind") != "similar").height
    rates = pl.DataFrame() if report.leak_rates is None else report.leak_rates
    table = leak_table(report.leakage, rates, rows)
    return LeakSection(table, leak_items(rows, pictures), report.leakage.height, counted, href)


def _facts(report: DatasetReport) -> list[tuple[str, str]]:
    name, _, digest = report.model.partition("@")
    return [
        ("made", report.created.strftime("%d %B %Y, %H:%M %Z").strip()),
        ("model", f"{name} @{digest[:12]}" if digest else name),
        ("fastdup-dagster", report.version),
    ]


def _left_out(report: DatasetReport) -> list[str]:
    stopped = [split for split, tables in report.splits.items() if tables is None]
    partly = {split: ", ".join(sorted(tables.missing)) for split, tables in report.finished.items() if tables.missing}
    said = [f"The numbers of all splits are without {', '.join(stopped)}, which has no results."] if stopped else []
    return said + [
        f"{split} is without {missing}: {report.why[split]}"
        if report.why.get(split)
        else f"{split} was stopped: {missing} of this run were not published."
        for split, missing in partly.items()
    ]


def _anchors(page: ReportPage) -> list[Tab]:
    tabs = [Tab("Summary", "#summary"), Tab("Galleries", "#galleries")]
    tabs += [Tab("Your galleries", "#made")] if page.made is not None else []
    tabs += [Tab("Leaks", "#leaks", page.leaks.counted)] if page.leaks else []
    if page.finished:
        tabs += [Tab("Distributions", "#distributions"), Tab("Thresholds", "#thresholds")]
        tabs += [Tab("Invalid files", "#invalid", page.total.invalid)]
    tabs += [Tab("Checks", "#checks", len(page.checks))] if page.checks else []
    return [*tabs, Tab("How to read this", "#reading")]
