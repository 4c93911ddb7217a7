"""What the V1 galleries say about themselves."""

from __future__ import annotations

from collections.abc import Mapping

from fastdup_dagster.stages.gallery_items import STAT_PAGES
from fastdup_dagster.stages.gallery_pages import Words
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, Slice

_NAMES = {"dark": "dark", "bright": "bright", "blur": "blurry"}


def outlier_words(how: str, sort_by: str, part: Slice, options: GalleryOptions) -> Words:
    """Of the outliers gallery."""
    rule = " None of them is in a pair over the threshold." if how == "all" else ""
    up, down = ("least alike first", "most alike first") if sort_by == "distance" else ("lowest", "highest")
    order = up if options.ascending else down
    return Words(
        f"Images with the weakest matches of all, each beside the image of that match.{rule}{_limits(part, options)}",
        order if sort_by == "distance" else f"{order} {sort_by} first",
        "No outliers.",
        "twos",
    )


def duplicate_words(part: Slice, options: GalleryOptions) -> Words:
    """Of the duplicates gallery."""
    return Words(
        f"Pairs that are alike. The third picture is their difference: black where equal.{_limits(part, options)}",
        "least alike first" if options.ascending else "most alike first",
        "No pairs.",
        "pairs",
    )


def search_words(part: Slice, options: GalleryOptions) -> Words:
    """Of the gallery of search results."""
    return Words(
        "Each image beside one that it was found to resemble. The third picture is their difference: black where they "
        f"are equal.{_limits(part, options)}",
        "least alike first" if options.ascending else "most alike first",
        "Nothing was found.",
        "pairs",
    )


def similarity_words(part: Slice, options: GalleryOptions) -> Words:
    """Of the similarity gallery."""
    order = "least alike first" if options.ascending else "most alike first"
    return Words(
        f"Images with those that they resemble, most alike first.{_limits(part, options)}",
        f"fewest shared labels first, then {order}" if part.relation == "diff" else order,
        "No image resembles another.",
        "queries",
    )


def stat_words(metric: str, column: str, part: Slice, options: GalleryOptions) -> Words:
    """Of the gallery of a statistic."""
    ascending = options.ascending
    name = next((page.name for page in STAT_PAGES if page.kind == _NAMES.get(metric)), column)
    limit = "" if options.threshold is None else f" {'Under' if ascending else 'Over'} {options.threshold:g}."
    return Words(
        f"Images by {name}.{limit}{_limits(part)}",
        "lowest first" if ascending else "highest first",
        "No images.",
        "ones",
        f"There are no values of {column}: were the statistics switched off (run_stats=False)?"
        if options.threshold is None and part.labels is None
        else None,
        value_name=name,
    )


def stat_heading(metric: str) -> str:
    """What the gallery of a statistic is called."""
    return _NAMES.get(metric, metric).capitalize()


def group_names(group_by: str, metric: str | None, sort_by: str, reduction: str | None) -> dict[str, str]:
    """What the component gallery calls a group, and its numbers by their column in `component_rows`."""
    names = {"group": "Component" if group_by == "visual" else "Label", "mean_distance": "mean similarity"}
    names |= {"min_distance": "lowest", "max_distance": "highest"}
    if metric is not None:
        names["metric"] = f"mean {metric}"
    if sort_by != "comp_size":
        names["value"] = f"{reduction or 'mean'} {sort_by}"
    return names


def component_words(
    group_by: str, names: Mapping[str, str], part: Slice, options: GalleryOptions, computed: bool
) -> Words:
    """Of the component gallery; `computed` says whether the run looked for components."""
    what = "Images that are joined by pairs" if group_by == "visual" else "Images of a cluster, grouped by their label"
    by = names.get("value") or names.get("metric")
    low, high = ("smallest", "largest") if by is None else (f"lowest {by}", f"highest {by}")
    order = f"{low if options.ascending else high} first"
    return Words(
        f"{what}.{_limits(part, options)}",
        order,
        "No two images are joined." if computed else "No components.",
        "clusters",
        None if computed else "They were switched off (run_cc=False).",
    )


def _limits(part: Slice, options: GalleryOptions | None = None) -> str:
    said = []
    if options is not None and options.threshold is not None:
        said.append(f"Similarity threshold {options.threshold:g}.")
    if part.relation:
        said.append(f"Only where the labels {'differ' if part.relation == 'diff' else 'are the same'}.")
    if part.labels is not None:
        said.append(f"Only {'label' if len(part.labels) == 1 else 'labels'} {', '.join(sorted(part.labels))}.")
    return "".join(f" {text}" for text in said)
