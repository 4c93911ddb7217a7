"""The page of a V1 gallery: its items made from the chosen rows and their pictures, and the HTML."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

from fastdup_dagster.stages.gallery_items import OutlierItem, PairItem, StatItem
from fastdup_dagster.stages.gallery_pages import Frame, Tab, Words
from fastdup_dagster.stages.pages import render
from fastdup_dagster.stages.pictures import Picture
from fastdup_dagster.stages.summary import KINDS

Pictures = Mapping[int, Picture]
Edges = Mapping[tuple[int, int], tuple[str, float | None]]
"""Kind and verified score of a pair, by its two ids, smaller first."""

MEMBERS = 12
"""Neighbours or members that an item shows, unless `max_items` says otherwise."""
_LABELS = 4
HEADINGS = {
    "outliers": "Outliers",
    "duplicates": "Duplicates",
    "similarity": "Similar images",
    "components": "Components",
    "stats": "Statistics",
}


@dataclass(frozen=True)
class Neighbour:
    """One of the images that a query resembles; `agrees` is None where one of the two has no label."""

    picture: Picture
    distance: float
    agrees: bool | None


@dataclass(frozen=True)
class QueryItem:
    """An image and its neighbours, most alike first."""

    query: Picture
    total: int
    labelled: int
    agree: int
    neighbours: list[Neighbour]

    @property
    def more(self) -> int:
        """Neighbours that are not shown."""
        return self.total - len(self.neighbours)


@dataclass(frozen=True)
class Score:
    """A number of an item and its name."""

    name: str
    value: float
    digits: int = 4


@dataclass(frozen=True)
class GroupItem:
    """A group of images: its number of members, the first of them, and its most frequent labels."""

    title: str
    count: int
    scores: list[Score]
    members: list[Picture]
    labels: list[tuple[str, int]] = field(default_factory=list)

    @property
    def more(self) -> int:
        """Members that are not shown."""
        return self.count - len(self.members)


def pair_items(
    rows: pd.DataFrame, pictures: Pictures, edges: Edges | None, tags: tuple[str, str] = ("A", "B")
) -> list[PairItem]:
    """The pairs of `from, to, distance`; without `edges` nothing is said of their kind."""
    made = []
    unknown = ("", None) if edges is None else ("similar", None)
    for first, second, distance in rows[["from", "to", "distance"]].itertuples(index=False):
        kind, verified = (edges or {}).get((min(first, second), max(first, second)), unknown)
        made.append(PairItem(pictures[first], pictures[second], float(distance), kind, verified, tags))
    return made


def outlier_items(rows: pd.DataFrame, pictures: Pictures) -> list[OutlierItem]:
    """The outliers of `outlier, nearest, distance`."""
    columns = rows[["outlier", "nearest", "distance"]].itertuples(index=False)
    return [OutlierItem(pictures[a], pictures[b], float(distance)) for a, b, distance in columns]


def query_items(rows: pd.DataFrame, pictures: Pictures) -> list[QueryItem]:
    """The queries of `neighbour_rows`."""
    made = []
    for row in rows.to_dict("records"):
        query = pictures[row["from"]]
        neighbours = []
        for other, distance in list(zip(row["to"], row["distance"], strict=True))[:MEMBERS]:
            labels = query.label, pictures[other].label
            agrees = None if None in labels else labels[0] == labels[1]
            neighbours.append(Neighbour(pictures[other], float(distance), agrees))
        made.append(QueryItem(query, len(row["to"]), int(row["labelled"]), int(row["agree"]), neighbours))
    return made


def stat_items(rows: pd.DataFrame, pictures: Pictures) -> list[StatItem]:
    """The images of `index, value`."""
    digits = 2 if rows["value"].abs().max() >= 10 else 4
    return [
        StatItem(pictures[i], float(value), digits) for i, value in rows[["index", "value"]].itertuples(index=False)
    ]


def group_items(
    rows: pd.DataFrame, pictures: Pictures, labels: Mapping[int, str], shown: int, names: Mapping[str, str]
) -> list[GroupItem]:
    """The groups of `component_rows`.

    Args:
        rows: the groups to show.
        pictures: of the first `shown` members of each.
        labels: of the instances.
        shown: members that a group shows.
        names: what to call a group, under `group`, and the columns that are shown as numbers.
    """
    made = []
    for row in rows.to_dict("records"):
        scores = [
            Score(name, float(row[column]), 4 if "distance" in column else 2)
            for column, name in names.items()
            if column != "group" and isinstance(row[column], int | float) and not pd.isna(row[column])
        ]
        counts = Counter(labels[i] for i in row["members"] if i in labels)
        members = [pictures[i] for i in row["members"][:shown]]
        title = f"{names['group']} {row['group']}"
        made.append(GroupItem(title, int(row["count"]), scores, members, counts.most_common(_LABELS)))
    return made


def v1_page(
    kind: str, heading: str, items: Sequence[object], total: int, words: Words, title: str, natural: bool
) -> str:
    """The HTML of a V1 gallery.

    Args:
        kind: a key of `HEADINGS`.
        heading: of the page.
        items: what it shows, in order.
        total: how many there are in all.
        words: what it says.
        title: whose gallery it is.
        natural: no picture is shown larger than it is.
    """
    templates = {"duplicates": "pairs", "similarity": "queries", "components": "groups", "stats": "stat"}
    kinds = [item.kind for item in items if isinstance(item, PairItem)]
    return render(
        f"{templates.get(kind, kind)}.html",
        kind=kind,
        heading=heading,
        items=items,
        total=total,
        kinds=[(k, name, kinds.count(k)) for k, name in KINDS.items() if k in kinds],
        words=words,
        frame=Frame(title, [Tab(heading, "#content", total, current=True)]),
        natural=natural,
    )


def show_in_notebook(page: Path, inlined: bool) -> bool:
    """Shows a page under the cell of a Jupyter notebook; elsewhere it does nothing and gives False."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or "IPKernelApp" not in shell.config:
        return False
    display = importlib.import_module("IPython.display")
    if inlined:
        source = f'srcdoc="{escape(page.read_text(encoding="utf-8"))}"'
    else:
        source = f'src="{escape(Path(os.path.relpath(page)).as_posix())}"'
    frame = f'<iframe {source} width="100%" height="800" title="{escape(page.stem)}" frameborder="0"></iframe>'
    display.display(display.HTML(frame))
    return True
