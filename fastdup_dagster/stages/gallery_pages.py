"""One gallery page: its items, and what it says about itself, also when it has nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.gallery_items import STAT_PAGES, PairItem, StatPage, most_extreme
from fastdup_dagster.stages.pages import render
from fastdup_dagster.stages.summary import KINDS, SplitSummary, SplitTables, valid_stats

TITLES: dict[str, str] = {
    "report": "Report",
    "duplicates": "Duplicates",
    "outliers": "Outliers",
    "clusters": "Clusters",
    "blurry": "Blurry",
    "dark": "Dark",
    "bright": "Bright",
    "leaks": "Leaks",
    "captions": "Captions",
}
"""Kinds of page in the order of the navigation, and their names."""


@dataclass(frozen=True)
class Tab:
    """A link in the navigation at the top of a page."""

    title: str
    href: str
    total: int | None = None
    current: bool = False


@dataclass(frozen=True)
class Words:
    """What a gallery says: above its items, about their order, and in place of them when there are none."""

    intro: str
    order: str
    empty: str
    layout: str
    empty_note: str | None = None
    value_name: str = ""


@dataclass(frozen=True)
class Frame:
    """What surrounds every page: the title, the navigation, the link to the data set's report, the version."""

    title: str
    tabs: Sequence[Tab]
    home: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Between:
    """What leaked between two splits, as the page of leaks lists it; `shown` are the pairs on the page."""

    splits: tuple[str, str]
    pairs: int
    similar: int
    leaked: tuple[int, int]
    shares: tuple[float, float]
    shown: int

    @property
    def group(self) -> str:
        """What the items of these two splits are marked with, for the filter of the page."""
        return between(*self.splits)


def between(one: str, other: str) -> str:
    """Two splits in words, in this order."""
    return f"{one} and {other}"


def leak_table(leakage: pl.DataFrame, rates: pl.DataFrame, shown: pl.DataFrame) -> list[Between]:
    """A row for every two splits, those first of which the largest share leaked.

    Args:
        leakage: SPLIT_LEAKAGE.
        rates: what `split_leakage.leak_rates` gives.
        shown: the rows of `leakage` that are on the page.
    """

    def count(rows: pl.DataFrame) -> dict[tuple[str, str], int]:
        return {(one, other): n for one, other, n in rows.group_by("split_from", "split_to").len().iter_rows()}

    similar, here = count(leakage.filter(pl.col("kind") == "similar")), count(shown)
    table = []
    for row in rates.iter_rows(named=True):
        splits = row["split_from"], row["split_to"]
        leaked, shares = (row["leaked_from"], row["leaked_to"]), (row["rate_from"], row["rate_to"])
        table.append(Between(splits, row["pairs"], similar.get(splits, 0), leaked, shares, here.get(splits, 0)))
    return sorted(table, key=lambda entry: max(entry.shares), reverse=True)


def gallery_page(
    kind: str, shown: Sequence[object], total: int, words: Words, frame: Frame, table: Sequence[Between] = ()
) -> str:
    """The HTML of one gallery.

    Args:
        kind: duplicates, outliers, clusters, blurry, dark, bright, leaks or captions.
        shown: its items, in order (`gallery_items`).
        total: how many there are in all.
        words: what it says.
        frame: what surrounds it.
        table: of leaks, what there is between every two splits.
    """
    stat = {page.kind: "stat.html" for page in STAT_PAGES}
    templates = {"duplicates": "pairs.html"} | stat
    kinds = [item.kind for item in shown if isinstance(item, PairItem)]
    return render(
        templates.get(kind, f"{kind}.html"),
        kind=kind,
        heading=TITLES[kind],
        items=shown,
        total=total,
        kinds=[(k, name, kinds.count(k)) for k, name in KINDS.items() if k in kinds],
        groups=[(entry.group, entry.shown) for entry in table if entry.shown],
        table=table,
        words=words,
        frame=frame,
    )


def words_for(kind: str, tables: SplitTables, summary: SplitSummary, settings: Settings) -> Words:
    """What a split's gallery of this kind says."""
    if kind == "duplicates":
        return Words(
            f"Pairs with similarity over {settings.threshold:g}. The third picture is their difference: "
            "black where they are equal.",
            "most alike first",
            f"No pair is over {settings.threshold:g}.",
            "pairs",
        )
    if kind == "outliers":
        return Words(
            "Images whose best matches are the weakest of all, each beside the image it resembles.",
            "least alike first",
            "No outliers: with fewer than two images there is nothing to compare.",
            "twos",
        )
    if kind == "clusters":
        return Words(
            f"Images joined by pairs with similarity of at least {settings.cc_threshold:g}.",
            "largest first",
            f"No two images are joined at {settings.cc_threshold:g}." if settings.run_cc else "No clusters.",
            "clusters",
            None if settings.run_cc else "They were switched off (run_cc=False).",
        )
    page = next(page for page in STAT_PAGES if page.kind == kind)
    return _stat_words(page, tables, getattr(summary, kind) is not None, settings)


def _stat_words(page: StatPage, tables: SplitTables, computed: bool, settings: Settings) -> Words:
    limit = getattr(settings, page.setting)
    end = "highest" if page.worst_is_high else "lowest"
    extreme = most_extreme(valid_stats(tables), page)
    return Words(
        f"Images with {page.name} {page.rule} {limit:g}.",
        f"{end} first",
        f"No image is {page.rule} {limit:g}." if computed else "The statistics were not computed (run_stats=False).",
        "ones",
        None if extreme is None else f"The {end} {page.name} is {extreme:,.1f}.",
        page.name,
    )


def leak_words(left_out: Sequence[str] = ()) -> Words:
    """What the page of leaks says; splits that were not compared are named."""
    missing = f" Not compared: {', '.join(left_out)}, without results that fit the files." if left_out else ""
    return Words(
        "The same picture in two splits: a model is then tested on what it was trained on. Pairs marked ‘similar’ are "
        f"alike, but not taken for the same picture: they do not count as leaked.{missing}",
        "most alike first",
        "No image of one split resembles an image of another.",
        "pairs",
    )
