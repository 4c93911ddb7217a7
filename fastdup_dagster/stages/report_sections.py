"""What the report of a split and the report of a data set have in common: tiles, previews, charts, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from pydantic import BaseModel

from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.caption_pages import caption_items
from fastdup_dagster.stages.charts import Chart, chart
from fastdup_dagster.stages.gallery_items import PairItem, Selection
from fastdup_dagster.stages.gallery_pages import TITLES, Between, Frame
from fastdup_dagster.stages.made_pages import MadeLink
from fastdup_dagster.stages.pages import count, number, percent, render, visible
from fastdup_dagster.stages.pictures import Picture
from fastdup_dagster.stages.summary import KINDS, MEASURES, Measure, SplitSummary, SplitTables, invalid_instances

PREVIEW_ITEMS: dict[str, int] = {"duplicates": 4, "outliers": 8, "clusters": 2, "blurry": 4, "dark": 4, "bright": 4}
"""Items that a report shows of each gallery."""
PREVIEW_CAPTIONS = 4
_CLUSTER_PREVIEW = 4
TABLE_ROWS = 200
"""Rows that a report shows of a table that has no end, such as the invalid files."""


@dataclass(frozen=True)
class Group:
    """Pictures that belong together in a preview, and their number."""

    pictures: list[Picture]
    words: str


@dataclass(frozen=True)
class Preview:
    """A gallery in small: its worst items and the link to it (None if it was not made)."""

    kind: str
    title: str
    total: int | None
    href: str | None
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class Tile:
    """One number at the head of a report."""

    measure: Measure
    value: int | None
    note: str
    href: str | None

    @property
    def tone(self) -> str:
        """`quiet` for a count of nothing, `plain` for the number of images, `found` for what wants a look."""
        return "plain" if self.measure.field == "images" else "found" if self.value else "quiet"


@dataclass(frozen=True)
class SplitSection:
    """What a report says about one split; `summary` is None if a gate stopped the split before
    there was anything to count; `missing` are the tables that one kept from being published later on. `why` says what
    it was, if it was no gate.
    """

    name: str
    summary: SplitSummary | None
    previews: list[Preview] = field(default_factory=list)
    invalid: pl.DataFrame | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    why: str = ""

    def href(self, kind: str | None) -> str | None:
        """Link to the split's gallery of this kind, if it was made."""
        return self.links.get(kind) if kind else None


@dataclass(frozen=True)
class CheckOutcome:
    """The result of one check on one partition.

    `observed` and `limit` are what was compared; a check that is not `blocking` is a warning. `bad_rows` are the
    rows that broke it, with any columns. `evidence` is what the validator itself gave, for pages of its own, and
    `data_docs` where such a page is.
    """

    asset: str
    check: str
    partition: str
    passed: bool
    blocking: bool = True
    observed: object = None
    limit: object = None
    description: str = ""
    bad_rows: pl.DataFrame | None = None
    evidence: Sequence[object] = field(default=(), compare=False, repr=False)
    data_docs: str | None = None

    @property
    def outcome(self) -> str:
        """`passed`, `failed`, or `warning` for a failed check that does not block."""
        return "passed" if self.passed else "failed" if self.blocking else "warning"

    @property
    def bad_table(self) -> tuple[list[str], list[tuple[object, ...]], int]:
        """Column names, the first rows, and the number of all bad rows."""
        rows = pl.DataFrame() if self.bad_rows is None else self.bad_rows
        return rows.columns, rows.head(TABLE_ROWS).rows(), rows.height


@dataclass(frozen=True)
class Status:
    """The banner of a data set's report: `state` is passed, warning, failed, incomplete or unchecked."""

    state: str
    title: str
    text: str
    failures: list[CheckOutcome] = field(default_factory=list)


@dataclass(frozen=True)
class LeakSection:
    """Leaks between the splits: what there is between every two, the first pairs, and the link to their page."""

    table: Sequence[Between]
    pairs: list[PairItem]
    total: int
    counted: int
    href: str | None


@dataclass(frozen=True)
class SettingRow:
    """One setting of the run."""

    name: str
    value: object
    changed: bool
    description: str


@dataclass(frozen=True)
class ReportPage:
    """Everything that a report says, about one split or about a data set."""

    heading: str
    sections: list[SplitSection]
    total: SplitSummary
    tiles: list[Tile]
    charts: list[Chart]
    settings: list[SettingRow]
    threshold: float
    status: Status | None = None
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    checks: Sequence[CheckOutcome] = ()
    data_docs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    leaks: LeakSection | None = None
    made: Sequence[MadeLink] | None = None

    @property
    def finished(self) -> bool:
        """Whether any split has results."""
        return any(section.summary is not None for section in self.sections)

    @property
    def invalid(self) -> pl.DataFrame:
        """The invalid files of all splits: `split, index, file, code, reason`."""
        return invalid_rows(self.sections)


def report_page(report: ReportPage, frame: Frame) -> str:
    """The HTML of a report."""
    invalid = report.invalid if len(report.sections) > 1 else report.invalid.drop("split")
    shown = (invalid.columns, invalid.head(TABLE_ROWS).rows(), invalid.height)
    return render("report.html", report=report, frame=frame, invalid=shown, measures=MEASURES, heading=TITLES["report"])


def split_section(
    name: str,
    tables: SplitTables,
    summary: SplitSummary,
    selections: Mapping[str, Selection],
    pictures: Mapping[int, Picture],
    links: Mapping[str, str],
) -> SplitSection:
    """The section of a split that has its tables.

    Args:
        name: of the split.
        tables: of the split.
        summary: of the tables.
        selections: `previewed(select_all(...))`.
        pictures: every image of the selections, with thumbnails.
        links: of the split's galleries, by kind.
    """
    counted = {"duplicates": summary.pairs, "clusters": summary.clusters, "outliers": summary.outliers}
    counted |= {"blurry": summary.blurry, "dark": summary.dark, "bright": summary.bright}
    previews = [
        Preview(
            kind,
            TITLES[kind],
            selection.total if counted[kind] is not None else None,
            links.get(kind),
            [_group(kind, row, pictures) for row in selection.rows.iter_rows(named=True)],
        )
        for kind, selection in selections.items()
    ]
    return SplitSection(name, summary, previews, invalid_instances(tables), links, sorted(tables.missing))


def caption_preview(rows: pl.DataFrame, total: int, href: str, pictures: Mapping[int, Picture]) -> Preview:
    """The captions in small: these rows of the table, how many captions there are, and the link to their page."""
    items = caption_items(rows, pictures)
    groups = [Group([item.picture], visible(item.error if item.text is None else item.text)) for item in items]
    return Preview("captions", TITLES["captions"], total, href, groups)


def previewed(selections: Mapping[str, Selection]) -> dict[str, Selection]:
    """The first items of each gallery, and of each cluster's members the first few."""
    first = {kind: selection.first(PREVIEW_ITEMS[kind]) for kind, selection in selections.items()}
    clusters = first["clusters"]
    members = clusters.rows.with_columns(pl.col("members").list.head(_CLUSTER_PREVIEW))
    return first | {"clusters": Selection(members, clusters.total, clusters.ids)}


def _group(kind: str, row: Mapping[str, object], pictures: Mapping[int, Picture]) -> Group:
    def of(*columns: str) -> list[Picture]:
        return [pictures[row[column]] for column in columns]  # type: ignore[index]

    if kind == "duplicates":
        return Group(of("from", "to"), f"{number(row['distance'])} {KINDS[str(row['kind'])]}")  # type: ignore[arg-type]
    if kind == "outliers":
        return Group(of("outlier"), number(row["distance"]))  # type: ignore[arg-type]
    if kind == "clusters":
        return Group([pictures[i] for i in row["members"]], f"{row['count']:,} images")  # type: ignore[attr-defined]
    return Group(of("index"), number(row["value"], 1))  # type: ignore[arg-type]


def tiles(summary: SplitSummary, settings: Settings, links: Mapping[str, str]) -> list[Tile]:
    """The numbers at the head of a report, each with what it is a part of."""
    s = summary
    notes = {
        "images": f"{s.valid:,} analysed",
        "invalid": percent(s.invalid, s.images),
        "truncated": "end early, analysed as far as they go",
        "exact_duplicates": f"{percent(s.exact_duplicates, s.valid)} of the valid",
        "near_duplicate_pairs": f"of {count(s.pairs)} pairs over {settings.threshold:g}",
        "clusters": f"{count(s.images_in_clusters)} images, largest {count(s.largest_cluster)}"
        if settings.run_cc
        else "not computed (run_cc=False)",
        "outliers": "–" if s.outliers is None else percent(s.outliers, s.valid),
        "blurry": f"sharpness under {settings.blur_threshold:g}",
        "dark": f"mean under {settings.darkness_threshold:g}",
        "bright": f"mean over {settings.brightness_threshold:g}",
        "leaked": "also in another split" if s.leaked is not None else "not looked at",
    }
    shown = [m for m in MEASURES if m.field != "leaked" or s.leaked is not None]
    return [Tile(m, getattr(s, m.field), notes[m.field], links.get(m.page or "")) for m in shown]


def charts(tables: Mapping[str, SplitTables], settings: Settings) -> list[Chart]:
    """Histograms of the quantities that the thresholds cut, and of the image sizes; one row per split."""

    def stat(column: str) -> dict[str, pl.Series]:
        return {split: t.img_stats.filter(pl.col("error_code").is_null())[column] for split, t in tables.items()}

    nearest = {split: t.knn_graph.filter(pl.col("rank") == 1)["distance"] for split, t in tables.items()}
    sides = {
        split: t.img_stats.filter(pl.col("error_code").is_null())
        .select(pl.max_horizontal("img_w", "img_h"))
        .to_series()
        for split, t in tables.items()
    }
    return [
        chart("Similarity to the nearest image", "A peak at 1 is copies; a tail to the left is outliers.", nearest,
              {"pairs over": settings.threshold, "clusters from": settings.cc_threshold}),
        chart("Sharpness", "Variance of the Laplacian; blurry is left of the line.", stat("blur"),
              {"blurry": settings.blur_threshold}, log=True),
        chart("Mean brightness", "0 is black, 255 white.", stat("mean"),
              {"dark": settings.darkness_threshold, "bright": settings.brightness_threshold}, ends=(0.0, 255.0)),
        chart("Longer side, pixels", "Size of the images as they are.", sides, log=True),
    ]  # fmt: skip


def setting_rows(settings: Settings) -> list[SettingRow]:
    """Every setting with its value, changed ones first; nested ones as `limits.name`."""
    rows = []
    owners = {
        "": settings,
        "limits.": settings.limits,
        "limits.severity.": settings.limits.severity,
        "captions.": settings.captions,
    }
    for prefix, owner in owners.items():
        for name, info in type(owner).model_fields.items():
            value = getattr(owner, name)
            if not isinstance(value, BaseModel):
                changed = value != info.get_default(call_default_factory=True)
                rows.append(SettingRow(prefix + name, value, changed, info.description or ""))
    return sorted(rows, key=lambda row: not row.changed)


def invalid_rows(sections: Sequence[SplitSection]) -> pl.DataFrame:
    """The invalid files of all splits: `split, index, file, code, reason`."""
    columns = ("split", "index", "file", "code", "reason")
    parts = [
        s.invalid.select(
            pl.lit(s.name).alias("split"),
            "index",
            pl.col("filename").alias("file"),
            pl.col("error_code").alias("code"),
            pl.col("error").alias("reason"),
        )
        for s in sections
        if s.invalid is not None
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def links_of(kinds: Iterable[str], folder: str = "") -> dict[str, str]:
    """Links to the pages of a split, by kind; `folder` is the relative link to where they are."""
    return {kind: f"{folder}/{kind}.html" if folder else f"{kind}.html" for kind in kinds}
