"""Results with one row per cluster, or per file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from fastdup_dagster.constants import ANNOT_IMG_H, ANNOT_IMG_W, ANNOT_LABEL, ANNOT_SPLIT
from fastdup_dagster.results import STATISTICS, Results
from fastdup_dagster.schemas import ADVANCED_STATISTICS

BY_SIZE = "comp_size"
_IMAGE_LEVEL = (ANNOT_IMG_H, ANNOT_IMG_W, ANNOT_SPLIT)


def grouped_by_component(
    results: Results, sort_by: str, ascending: bool, metric: str | None, files: Mapping[int, str] | None = None
) -> pl.DataFrame:
    """One row per component: `files, files_ids, component_id, distance, len`, then `label` and `metric` if any.

    `distance` is the lowest similarity of the component's edges, as in V1.

    Args:
        results: a finished run.
        sort_by: `comp_size` or a column of the result.
        ascending: for `comp_size` the largest first, as V1 documents it; otherwise the lowest first.
        metric: a statistic whose mean over the members is added.
        files: names to show instead, by id.

    Raises:
        ValueError: for an unknown metric or column.
    """
    labelled = [ANNOT_LABEL] if ANNOT_LABEL in results.user_columns else []
    known = results.annotations.select("index", "filename", *labelled)
    members = results.components().join(known, on="index", how="left", maintain_order="left")
    if files is not None:
        members = members.with_columns(
            pl.col("index").replace_strict(dict(files), return_dtype=pl.String).alias("filename")
        )
    columns = [
        pl.col("filename").alias("files"),
        pl.col("index").alias("files_ids"),
        pl.col("min_distance").first().alias("distance"),
        pl.col("count").first().alias("len"),
        *map(pl.col, labelled),
    ]
    if metric is not None:
        statistics = results.statistics()
        if not isinstance(metric, str) or metric not in statistics.columns or metric == "index":
            possible = [*STATISTICS, *(c.name for c in ADVANCED_STATISTICS)]
            raise ValueError(f"metric={metric!r}: expected one of {', '.join(possible)}, and computed in this run")
        members = members.join(statistics.select("index", metric), on="index", how="left", maintain_order="left")
        columns.append(pl.col(metric).mean())
    grouped = members.group_by("component_id", maintain_order=True).agg(columns)
    grouped = grouped.select("files", "files_ids", "component_id", pl.exclude("files", "files_ids", "component_id"))
    if sort_by == BY_SIZE:
        return grouped.sort("len", "component_id", descending=[ascending, False])
    sortable = [name for name, dtype in grouped.schema.items() if not dtype.is_nested()]
    if sort_by not in sortable:
        raise ValueError(f"sort_by={sort_by!r}: expected {BY_SIZE} or one of {', '.join(sortable)}")
    return grouped.sort(sort_by, "component_id", descending=[not ascending, False])


def grouped_by_image(results: Results, image_level_columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The annotations with one row per file. In box mode, columns that are not of the image come as lists.

    Args:
        results: a finished run.
        image_level_columns: columns with one value per file; by default size and split.

    Raises:
        ValueError: for a column that is not there.
    """
    frame = results.annotations
    for name in image_level_columns or ():
        if name not in frame.columns:
            raise ValueError(f"image_level_columns: no column {name!r}; there are {', '.join(frame.columns)}")
    if not results.manifest["box"].count():
        return frame.select("filename", pl.exclude("filename"))
    once = _IMAGE_LEVEL if image_level_columns is None else tuple(image_level_columns)
    parts = [pl.col(n).first() if n in once else pl.col(n) for n in frame.columns if n != "filename"]
    return frame.group_by("filename", maintain_order=True).agg(parts)
