"""One gallery page: its items, and what it says about itself, also when it has nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def gallery_page(kind: str, shown: Sequence[object], total: int, words: Words, frame: Frame) -> str:
    """The HTML of one gallery.

    Args:
        kind: duplicates, outliers, clusters, blurry, dark, bright, leaks or captions.
        shown: its items, in order (`gallery_items`).
        total: how many there are in all.
        words: what it says.
        frame: what surrounds it.
    """
    stat = {page.kind: "stat.html" for page in STAT_PAGES}
    templates = {"duplicates": "pairs.html", "leaks": "pairs.html"} | stat
    kinds = [item.kind for item in shown if isinstance(item, PairItem)]
    return render(
        templates.get(kind, f"{kind}.html"),
        kind=kind,
        heading=TITLES[kind],
        items=shown,
        total=total,
        kinds=[(k, name, kinds.count(k)) for k, name in KINDS.items() if k in kinds],
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
