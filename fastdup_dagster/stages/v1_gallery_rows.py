"""What each V1 gallery shows: which rows of the accessors' frames, and in which order. Numbers stay as they are.

Frames are pandas', as the accessors give them: a user's columns may hold anything. `labels` holds the label of every
labelled instance by its id.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fastdup_dagster.checks import choice
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, Slice, similarity_score

Labels = Mapping[int, str]

METRICS: dict[str, tuple[str, bool]] = {"dark": ("mean", True), "bright": ("mean", False), "blur": ("blur", True)}
"""The galleries of a statistic that have a name of their own: its column, and whether the lowest come first."""


def outlier_rows(
    outliers: pd.DataFrame,
    similar: pd.DataFrame,
    labels: Labels,
    part: Slice,
    options: GalleryOptions,
    how: str = "one",
    sort_by: str = "distance",
) -> pd.DataFrame:
    """The rows of `outliers` to show, in order.

    Args:
        outliers: `outlier, nearest, distance`, and annotation columns ending in `_outlier`.
        similar: `from, to, distance`; with how='all', an image that is in any pair of it is left out.
        labels: of the instances.
        part: labels of the outliers to take, or how they relate to those of their nearest.
        options: `threshold` keeps scores up to it.
        how: one or all.
        sort_by: a column, `_outlier` at its end may be left out.

    Raises:
        ValueError: for a `how` or a column that there is not.
    """
    rows = outliers
    if choice("how", how, ("one", "all")) == "all":
        rows = rows[~rows["outlier"].isin(similar["from"]) & ~rows["outlier"].isin(similar["to"])]
    if (limit := similarity_score("threshold", options.threshold)) is not None:
        rows = rows[rows["distance"].round(6) <= limit]
    rows = _related(rows, "outlier", "nearest", labels, part, either=False)
    names = {str(column).removesuffix("_outlier"): column for column in rows.columns[::-1]}
    column = sort_by if sort_by in rows.columns else names[choice("sort_by", sort_by, names)]
    return _ordered(rows, column, options.ascending, "sort_by")


def duplicate_rows(
    similar: pd.DataFrame, labels: Labels, part: Slice, options: GalleryOptions, order_ends: bool = True
) -> pd.DataFrame:
    """Each unordered pair of `similar` once: `from, to, distance`, most alike first.

    Args:
        similar: `from, to, distance`.
        labels: of the instances.
        part: labels of which one end has to have one, or how the two relate.
        options: `threshold` keeps scores from it on; `ascending` turns the order.
        order_ends: the smaller id comes into `from`; else the ends stay as they are.
    """
    rows = _over(similar, options)[["from", "to", "distance"]]
    # an edge and its reverse may differ in the last bit: the higher one counts, as in the accessor's order
    rows = rows.sort_values("distance", ascending=False, kind="stable")
    ends = pd.DataFrame({"from": rows[["from", "to"]].min(axis=1), "to": rows[["from", "to"]].max(axis=1)})
    first = ~ends.duplicated()
    rows = rows.assign(**{"from": ends["from"], "to": ends["to"]})[first] if order_ends else rows[first]
    rows = _related(rows, "from", "to", labels, part, either=True)
    return rows.sort_values("distance", kind="stable") if options.ascending else rows


def neighbour_rows(similar: pd.DataFrame, labels: Labels, part: Slice, options: GalleryOptions) -> pd.DataFrame:
    """A row per image that has neighbours: `from`, `to` and `distance` (lists, most alike first), `labelled`, `agree`.

    `labelled` counts the neighbours that have a label, `agree` those with the query's; both 0 where the query has none.
    The order is by the most alike neighbour; with `diff`, by the share that agrees, lowest first, before that.

    Args:
        similar: `from, to, distance`.
        labels: of the instances.
        part: labels of the queries to take; `diff` takes those with a neighbour that disagrees, `same` those without.
        options: `threshold` keeps neighbours from it on; `ascending` turns the order of the queries.
    """
    rows = _over(similar, options)[["from", "to", "distance"]].sort_values("distance", ascending=False, kind="stable")
    own, other = (rows[end].map(labels) for end in ("from", "to"))
    both = own.notna() & other.notna()
    rows = rows.assign(labelled=both, agree=both & (own == other))
    groups = rows.groupby("from", sort=False)
    counts = groups.agg(best=("distance", "max"), labelled=("labelled", "sum"), agree=("agree", "sum"))
    share = counts["agree"] / counts["labelled"].where(counts["labelled"] > 0)
    counts = counts.assign(share=share.astype(float))
    if part.relation:
        counts = counts[counts["share"] < 1] if part.relation == "diff" else counts[counts["share"] == 1]
    elif part.labels is not None:
        counts = counts[counts.index.map(labels).isin(part.labels)]
    by, upward = (["share"], [True]) if part.relation == "diff" else ([], [])
    counts = counts.sort_values([*by, "best"], ascending=[*upward, options.ascending], kind="stable")
    lists = rows[rows["from"].isin(counts.index)].groupby("from", sort=False)[["to", "distance"]].agg(list)
    return counts.join(lists).reset_index(names="from")


def stat_rows(stats: pd.DataFrame, labels: Labels, part: Slice, options: GalleryOptions, column: str) -> pd.DataFrame:
    """The rows of `stats` to show, in order: `index, value`.

    Args:
        stats: `index` and columns of numbers.
        labels: of the instances.
        part: labels to take.
        options: `threshold` keeps values strictly under it where the lowest come first, else strictly over it.
        column: of numbers (`stat_column`).
    """
    upward = options.ascending
    rows = stats[["index"]].assign(value=stats[column].astype(float)).dropna()
    if options.threshold is not None:
        rows = rows[rows["value"] < options.threshold] if upward else rows[rows["value"] > options.threshold]
    if part.labels is not None:
        rows = rows[rows["index"].map(labels).isin(part.labels)]
    return rows.sort_values(["value", "index"], ascending=[upward, True], kind="stable")


def stat_column(stats: pd.DataFrame, argument: str, metric: object) -> tuple[str, bool]:
    """The column of a metric, and whether its lowest values are the ones to look at first.

    Raises:
        ValueError: for a metric that there is not, or whose column does not hold numbers.
    """
    numbers = [str(c) for c in stats.columns if c != "index" and pd.api.types.is_numeric_dtype(stats[c])]
    numbers = [c for c in numbers if not pd.api.types.is_bool_dtype(stats[c])]
    if isinstance(metric, str) and metric in stats.columns and metric not in numbers:
        raise ValueError(f"{argument}={metric!r}: this column does not hold numbers")
    name = choice(argument, metric, [*METRICS, *numbers])
    return METRICS.get(name, (name, True))


def _over(similar: pd.DataFrame, options: GalleryOptions) -> pd.DataFrame:
    limit = similarity_score("threshold", options.threshold)
    # to 6 decimals, as everywhere: a similarity of 0.9 is 0.89999998 in float32
    return similar if limit is None else similar[similar["distance"].round(6) >= limit]


def _related(rows: pd.DataFrame, one: str, two: str, labels: Labels, part: Slice, either: bool) -> pd.DataFrame:
    first, second = rows[one].map(labels), rows[two].map(labels)
    if part.relation:
        both = first.notna() & second.notna()
        return rows[both & ((first == second) == (part.relation == "same"))]
    if part.labels is None:
        return rows
    return rows[first.isin(part.labels) | (second.isin(part.labels) & either)]


def _ordered(rows: pd.DataFrame, column: str, ascending: bool, argument: str) -> pd.DataFrame:
    try:
        return rows.sort_values(column, ascending=ascending, kind="stable")
    except TypeError as error:
        raise ValueError(f"{argument}={column!r}: its values cannot be put in order ({error})") from error
