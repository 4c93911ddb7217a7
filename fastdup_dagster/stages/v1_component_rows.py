"""What the V1 component gallery shows: which groups of images, in which order, with which numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fastdup_dagster.checks import choice, whole
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, Slice, similarity_score
from fastdup_dagster.stages.v1_gallery_rows import METRICS, Labels, stat_column

REDUCTIONS = ("mean", "sum")


def component_rows(
    components: pd.DataFrame,
    attributes: pd.DataFrame,
    labels: Labels,
    part: Slice,
    options: GalleryOptions,
    group_by: str = "visual",
    min_items: int | None = None,
    metric: str | None = None,
    sort_by: str = "comp_size",
    sort_by_reduction: str | None = None,
) -> pd.DataFrame:
    """A row per group: its key in `group`, `count`, `members` (ids), `mean_distance`, `min_distance`, `max_distance`
    (nulls for labels), `metric` (mean over the members), `value` (what the groups are sorted by); largest first.

    Args:
        components: `index, component_id, count, mean_distance, min_distance, max_distance`.
        attributes: one row per instance, the id in `index`: `area`, statistics, annotation columns.
        labels: of the instances.
        part: takes groups with a member that has one of the labels; `same` those of one label, `diff` of several.
        options: `threshold` keeps groups all of whose edges are from it on; `ascending` puts the smallest first.
        group_by: visual (components), or label (the images that are in any component, by their label).
        min_items: smallest group to show.
        metric: dark, bright, blur or a statistic; it is shown, and sorts unless `sort_by` names something else.
        sort_by: comp_size, area, or a column of `attributes`.
        sort_by_reduction: mean or sum over the members; None is the mean, and for text the first member's.

    Raises:
        ValueError: naming the value that there is not, or that cannot be used so.
    """
    least = whole("min_items", min_items, 1, optional=True) or 0
    reduction = None if sort_by_reduction is None else choice("sort_by_reduction", sort_by_reduction, REDUCTIONS)
    groups = _groups(components, labels, choice("group_by", group_by, ("visual", "label")), part, options)
    groups = groups[groups["count"] >= least]
    value = groups["count"]
    if metric is not None:
        column, _ = stat_column(attributes, "metric", metric)
        groups = groups.assign(metric=_reduced(groups, attributes, column, "mean", "metric"))
        value = groups["metric"]
    if sort_by != "comp_size":
        known = [str(column) for column in attributes.columns if column != "index"]
        value = _reduced(groups, attributes, choice("sort_by", sort_by, ["comp_size", *known]), reduction, "sort_by")
    try:
        return groups.assign(value=value).sort_values("value", ascending=options.ascending, kind="stable")
    except TypeError as error:
        raise ValueError(f"sort_by={sort_by!r}: its values cannot be put in order ({error})") from error


def lowest_first(metric: object, sort_by: object) -> bool:
    """Whether the lowest are what a caller wants to see first who does not say: of dark and blur; else the largest."""
    return sort_by == "comp_size" and isinstance(metric, str) and METRICS.get(metric, ("", False))[1]


def _groups(
    components: pd.DataFrame, labels: Labels, group_by: str, part: Slice, options: GalleryOptions
) -> pd.DataFrame:
    limit = similarity_score("threshold", options.threshold)
    rows = components.sort_values("index", kind="stable")
    rows = rows.assign(label=rows["index"].map(labels))
    if limit is not None:
        rows = rows[rows["min_distance"].round(6) >= limit]
    key = "component_id" if group_by == "visual" else "label"
    grouped = rows.groupby(key, sort=True)
    distances = {name: (name, "first") for name in ("mean_distance", "min_distance", "max_distance")}
    groups = grouped.agg(count=("count", "first"), members=("index", list), **distances)
    if group_by == "label":
        groups = groups.assign(count=grouped.size(), **dict.fromkeys(distances, float("nan")))
    kinds = grouped["label"].nunique()
    if part.relation:
        groups = groups[kinds > 1] if part.relation == "diff" else groups[kinds == 1]
    elif part.labels is not None:
        wanted = rows.loc[rows["label"].isin(part.labels), key]
        groups = groups[groups.index.isin(wanted)]
    return groups.reset_index(names="group")


def _reduced(
    groups: pd.DataFrame, attributes: pd.DataFrame, column: str, reduction: str | None, argument: str
) -> pd.Series:
    members = groups["members"].explode().astype("int64")
    values = members.map(attributes.set_index("index")[column])
    if values.map(lambda value: isinstance(value, list | dict | np.ndarray)).any():
        raise ValueError(f"{argument}={column!r}: its values are lists, which have no order")
    if not pd.api.types.is_numeric_dtype(values):
        if reduction is not None:
            raise ValueError(f"{argument}={column!r}: the {reduction} of a column that does not hold numbers")
        return values.groupby(level=0).first()
    return values.groupby(level=0).agg(reduction or "mean")
