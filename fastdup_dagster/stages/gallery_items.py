"""What each gallery shows, chosen from the tables: which items, in which order, how many of how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from fastdup_dagster.stages.pictures import Picture
from fastdup_dagster.stages.summary import KINDS, SplitTables, unordered_pairs, valid_stats

CLUSTER_MEMBERS = 12
"""Members that a cluster shows; its count says how many there are."""


@dataclass(frozen=True)
class Selection:
    """The rows of a gallery: the shown ones in order, and how many there are in all.

    The columns of `rows` depend on the gallery; `ids` names those that hold ids (int64, or a list of them).
    """

    rows: pl.DataFrame
    total: int
    ids: tuple[str, ...]

    @property
    def indices(self) -> set[int]:
        """Every image that the gallery shows."""
        return {i for name in self.ids for i in self.rows[name].explode().drop_nulls().to_list()}

    def first(self, count: int) -> Selection:
        """The first `count` rows, with the same total."""
        return Selection(self.rows.head(count), self.total, self.ids)


@dataclass(frozen=True)
class PairItem:
    """Two images that are alike; `group` is what a page of several groups is filtered by."""

    first: Picture
    second: Picture
    distance: float
    kind: str
    verified_score: float | None
    tags: tuple[str, str] = ("A", "B")
    group: str = ""

    @property
    def kind_name(self) -> str:
        """The kind for people."""
        return KINDS.get(self.kind, self.kind)

    @property
    def labels_differ(self) -> bool:
        """Whether both images have a label, and not the same one."""
        labels = {self.first.label, self.second.label}
        return len(labels) == 2 and None not in labels


@dataclass(frozen=True)
class OutlierItem:
    """An image that resembles no other, and the one that it resembles most."""

    picture: Picture
    nearest: Picture
    distance: float


@dataclass(frozen=True)
class ClusterItem:
    """A connected component: its first members and its numbers."""

    component_id: int
    count: int
    mean_distance: float
    min_distance: float
    max_distance: float
    members: list[Picture] = field(default_factory=list)

    @property
    def more(self) -> int:
        """Members that are not shown."""
        return self.count - len(self.members)


@dataclass(frozen=True)
class StatItem:
    """An image and the statistic that it stands out by."""

    picture: Picture
    value: float
    digits: int = 2


@dataclass(frozen=True)
class StatPage:
    """A gallery of one statistic: which flag selects, which column is shown, and whether the worst is the highest."""

    kind: str
    flag: str
    column: str
    setting: str
    worst_is_high: bool
    name: str
    rule: str


STAT_PAGES: tuple[StatPage, ...] = (
    StatPage("blurry", "is_blurry", "blur", "blur_threshold", False, "sharpness", "under"),
    StatPage("dark", "is_dark", "mean", "darkness_threshold", False, "mean brightness", "under"),
    StatPage("bright", "is_bright", "mean", "brightness_threshold", True, "mean brightness", "over"),
)


def select_pairs(similarity: pl.DataFrame) -> Selection:
    """Duplicates: each unordered pair of `similarity` once, most alike first."""
    pairs = unordered_pairs(similarity)
    return Selection(pairs, pairs.height, ("from", "to"))


def select_outliers(outliers: pl.DataFrame) -> Selection:
    """Outliers: lowest similarity first, by the table's rank."""
    return Selection(outliers.sort("rank"), outliers.height, ("outlier", "nearest"))


def select_clusters(components: pl.DataFrame) -> Selection:
    """Clusters: largest first, then by id; `members` holds the first `CLUSTER_MEMBERS` ids of each."""
    clusters = (
        components.sort("index")
        .group_by("component_id")
        .agg(
            pl.col("count", "mean_distance", "min_distance", "max_distance").first(),
            pl.col("index").head(CLUSTER_MEMBERS).alias("members"),
        )
        .sort("count", "component_id", descending=[True, False])
    )
    return Selection(clusters, clusters.height, ("members",))


def select_stat(valid: pl.DataFrame, page: StatPage) -> Selection:
    """Blurry, dark or bright: the flagged rows of `valid_stats`, worst first, then by id; columns `index, value`."""
    rows = (
        valid.filter(pl.col(page.flag))
        .select("index", pl.col(page.column).alias("value"))
        .sort("value", "index", descending=[page.worst_is_high, False])
    )
    return Selection(rows, rows.height, ("index",))


def most_extreme(valid: pl.DataFrame, page: StatPage) -> float | None:
    """The worst value that any valid image has, for the page that has nothing to show."""
    values = valid[page.column].drop_nulls()
    worst = values.max() if page.worst_is_high else values.min()
    return worst if isinstance(worst, float) else None


def select_all(tables: SplitTables, shown: int) -> dict[str, Selection]:
    """What every gallery of a split shows, by kind, at most `shown` items each."""
    valid = valid_stats(tables)
    chosen = {
        "duplicates": select_pairs(tables.similarity),
        "outliers": select_outliers(tables.outliers),
        "clusters": select_clusters(tables.components),
    } | {page.kind: select_stat(valid, page) for page in STAT_PAGES}
    return {kind: selection.first(shown) for kind, selection in chosen.items()}


def pair_item(
    row: Mapping[str, Any],
    first: Mapping[int, Picture],
    second: Mapping[int, Picture],
    tags: tuple[str, str] = ("A", "B"),
    group: str = "",
) -> PairItem:
    """The item of a row of `similarity` or `split_leakage`; `tags` name its ends, which may be in two splits."""
    ends = first[row["from"]], second[row["to"]]
    return PairItem(*ends, row["distance"], row["kind"], row["verified_score"], tags, group)


def items(kind: str, selection: Selection, pictures: Mapping[int, Picture]) -> Sequence[object]:
    """The items of a split's gallery, in order."""
    rows = list(selection.rows.iter_rows(named=True))
    if kind == "duplicates":
        return [pair_item(row, pictures, pictures) for row in rows]
    if kind == "outliers":
        return [OutlierItem(pictures[r["outlier"]], pictures[r["nearest"]], r["distance"]) for r in rows]
    if kind == "clusters":
        return [ClusterItem(**{**r, "members": [pictures[i] for i in r["members"]]}) for r in rows]
    return [StatItem(pictures[r["index"]], r["value"]) for r in rows]
