"""The lines of `summary()`: counts and percent of what a run found."""

from __future__ import annotations

import math
from collections.abc import Callable

import polars as pl

from fastdup_dagster.results import Results


def summary_lines(
    results: Results, blur_threshold: float, brightness_threshold: float, darkness_threshold: float
) -> list[str]:
    """What was found, a line each.

    Args:
        results: a finished run.
        blur_threshold: blurry is blur under it.
        brightness_threshold: bright is mean over it.
        darkness_threshold: dark is mean under it.

    Raises:
        ValueError: for a threshold that is no number.
    """
    thresholds = {
        "blur_threshold": blur_threshold,
        "brightness_threshold": brightness_threshold,
        "darkness_threshold": darkness_threshold,
    }
    for name, value in thresholds.items():
        if isinstance(value, bool | str) or value is None or not math.isfinite(value):
            raise ValueError(f"{name}={value!r}: expected a finite number")
    total = len(results.annotations)
    invalid = len(results.invalid)
    what = "bounding boxes" if results.manifest["box"].count() else "images"

    def share(count: int) -> str:
        return f"{100 * count / total:.2f}% ({count:,})"

    lines = [
        f"Dataset contains {total:,} {what}",
        f"Valid {what} are {share(total - invalid)} of the data, invalid are {share(invalid)} of the data",
    ]
    if invalid:
        lines.append("For a detailed analysis, use `.invalid_instances()`.")
    lines += _component_lines(results, what, share)
    lines += _outlier_lines(results, what, share)
    statistics = results.statistics()
    for name, found, how in (
        ("Blurry", pl.col("blur") < blur_threshold, f"blur under {blur_threshold:g}"),
        ("Bright", pl.col("mean") > brightness_threshold, f"mean over {brightness_threshold:g}"),
        ("Dark", pl.col("mean") < darkness_threshold, f"mean under {darkness_threshold:g}"),
    ):
        if statistics["mean"].count():
            lines.append(f"{name}: {share(len(statistics.filter(found)))} of {what}, {how}.")
    return lines


def _component_lines(results: Results, what: str, share: Callable[[int], str]) -> list[str]:
    settings = results.run.settings
    if not settings.run_cc:
        return ["Components: not computed, run_cc=False."]
    members = results.components()
    lines = [
        f"Components: {share(len(members))} of {what} are in {members['component_id'].n_unique():,} "
        f"components of two or more, at a similarity of {settings.cc_threshold:g} or higher."
    ]
    if len(members):
        largest = int(members["count"].max())  # type: ignore[arg-type]
        lines.append(f"Largest component: {share(largest)} of {what}.")
        lines.append("For a detailed analysis, use `.connected_components()`.")
    return lines


def _outlier_lines(results: Results, what: str, share: Callable[[int], str]) -> list[str]:
    found = len(results.outliers())
    percentile = 100 * results.run.settings.outlier_percentile
    line = (
        f"Outliers: {share(found)} of {what} are possible outliers, and fall in the bottom {percentile:.2f}% of "
        "similarity values."
    )
    return [line, "For a detailed list of outliers, use `.outliers()`."] if found else [line]
