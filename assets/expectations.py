"""What each table must hold before it is published, as Great Expectations suites: the checks `checks.STRUCTURE`.

The functions make a suite when a run needs it. `embeddings` has array checks besides, in `array_checks`: vectors never
go to pandas. What the data should be like, and may be limited by settings, is in `quality`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastdup_dagster.resources.great_expectations import imported
from fastdup_dagster.schemas import ADVANCED_STATISTICS, ERROR_CODES
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.outliers import outlier_edges
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.stages.summary import KINDS

_ROUNDING = 1e-5  # float32 cosines of equal vectors reach 1.0000002


def _gx() -> Any:
    return imported().expectations


def _about(check: str, limit: str) -> dict[str, Any]:
    return {"meta": {"check": check}, "description": limit}


def _there(column: str, check: str) -> Any:
    """An expectation of its own, since all the others pass over a null and over NaN."""
    return _gx().ExpectColumnValuesToNotBeNull(column=column, **_about(check, f"{column} is a value"))


def _known(check: str, of: str = "valid images of the split") -> Any:
    return _gx().ExpectColumnValuesToBeInSet(column="known", value_set=[True], **_about(check, f"ids of {of}"))


def _apart(check: str, limit: str) -> Any:
    """Two columns differ. Great Expectations compares them row by row in Python: a second for 28,000 rows."""
    return _gx().ExpectColumnValuesToBeInSet(column="apart", value_set=[True], **_about(check, limit))


def _similarities(check: str, settings: Settings, column: str = "distance") -> list[Any]:
    low = -1.0 if settings.distance == "cosine" else 0.0
    limit = f"{low:g} <= {column} <= 1"
    between = _gx().ExpectColumnValuesToBeBetween(
        column=column, min_value=low - _ROUNDING, max_value=1 + _ROUNDING, **_about(check, limit)
    )
    return [_there(column, check), between]


def image_manifest(crops: bool = False) -> list[Any]:
    """Suite of the listing; `crops`: rows are boxes, of annotations or of a detector, several of one file."""
    gxe = _gx()
    unique = [
        gxe.ExpectColumnValuesToBeUnique(column=column, **_about("unique_ids", f"each {column} once"))
        for column in ("index", "instance_id", *(() if crops else ("filename",)))
    ]
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, **_about("has_rows", "at least 1 row")),
        *unique,
        *(_there(column, "unique_ids") for column in ("index", "instance_id", "filename")),
        gxe.ExpectColumnValuesToBeInSet(
            column="error_code", value_set=list(ERROR_CODES), **_about("known_error_codes", "codes of ERROR_CODES")
        ),
    ]


def nothing_found(partition: str, error: Exception) -> CheckOutcome:
    """What an empty listing leads to: the same as a table without rows, with the reason."""
    limit = "at least 1 row"
    return CheckOutcome("image_manifest", "has_rows", partition, passed=False, observed=str(error), limit=limit)


def lists_of_detections() -> list[Any]:
    """Suite of `array_checks.lists_of_detections`."""
    equal = _about("lists_of_equal_length", "as many boxes as labels and confidences")
    return [_gx().ExpectColumnValuesToBeInSet(column="equal", value_set=[True], **equal)]


def each_detection() -> list[Any]:
    """Suite of `array_checks.each_detection`."""
    gxe = _gx()
    said = "labels_and_confidences"
    between = gxe.ExpectColumnValuesToBeBetween(
        column="confidence", min_value=0, max_value=1, **_about(said, "0 <= confidence <= 1")
    )
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="inside", value_set=[True], **_about("boxes_in_image", "boxes of positive size within their image")
        ),
        _there("label", said),
        _there("confidence", said),
        between,
    ]


def captions() -> list[Any]:
    """Suite of `array_checks.captions_against_manifest`."""
    either = _about("caption_or_error", "a caption, or an error instead")
    return [
        *one_row_per_image(),
        _gx().ExpectColumnValuesToBeInSet(column="either", value_set=[True], **either),
    ]


def one_row_per_image() -> list[Any]:
    """Suite of `array_checks.against_manifest`: a table of images and the listing have the same rows."""
    gxe = _gx()
    about = _about("one_row_per_image", "one row per row of the manifest")
    return [
        gxe.ExpectColumnValuesToNotBeNull(column="index", **about),
        gxe.ExpectColumnValuesToNotBeNull(column="image", **about),
        gxe.ExpectColumnValuesToBeUnique(column="index", **about),
    ]


def img_stats() -> list[Any]:
    """Suite of the statistics; those of invalid images, and those not asked for, are null and not looked at."""
    gxe = _gx()
    ranges: dict[str, tuple[float, float | None]] = {
        "img_w": (1, None),
        "img_h": (1, None),
        "unique": (1, 256),
        "blur": (0, None),
        "mean": (0, 255),
        "min": (0, 255),
        "max": (0, 255),
        "stdv": (0, 127.5),
        "contrast": (0, 1),
    }
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=low,
            max_value=None if high is None else high + _ROUNDING,
            **_about("values_in_range", f"{low:g} <= {column}" + ("" if high is None else f" <= {high:g}")),
        )
        for column, (low, high) in ranges.items()
    ]


def complete_img_stats(settings: Settings) -> list[Any]:
    """Suite of `array_checks.of_valid_images`: what no valid image may lack."""
    there = ["content_hash", "pixel_hash", "format", "img_w", "img_h", "file_size"]
    if settings.run_stats:
        there += ["unique", "blur", "mean", "min", "max", "stdv", "contrast", "is_blurry", "is_dark", "is_bright"]
        there += [column.name for column in ADVANCED_STATISTICS] if settings.run_advanced_stats else []
    check = "values_present"
    thumbnail = _gx().ExpectColumnValuesToBeInSet(
        column="has_thumbnail", value_set=[True], **_about(check, "thumbnail is a value")
    )
    return [*(_there(column, check) for column in there), thumbnail]


def knn_graph(images: int, settings: Settings) -> list[Any]:
    """Suite of the graph over `images` valid images, with the columns of `array_checks.with_known` and `with_apart`."""
    gxe = _gx()
    each = max(0, min(settings.nearest_neighbors_k, images - 1))
    count = _about("edge_count", f"{images:,} images with {each} edges each: {images * each:,} edges")
    return [
        gxe.ExpectTableRowCountToEqual(value=images * each, **count),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["from", "rank"], **count),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["from", "to"], **count),
        gxe.ExpectColumnValuesToBeBetween(column="rank", min_value=1, max_value=max(1, each), **count),
        _apart("no_self_edges", "from differs from to"),
        _there("rank", "edge_count"),
        _known("known_images"),
        *_similarities("similarity_range", settings),
    ]


def similarity(settings: Settings) -> list[Any]:
    """Suite of the pairs over the threshold, with the columns of `array_checks.with_known` and `with_apart`."""
    gxe = _gx()
    threshold = settings.threshold
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="distance",
            min_value=threshold,
            strict_min=True,
            max_value=1 + _ROUNDING,
            **_about("over_threshold", f"{threshold:g} < distance <= 1"),
        ),
        _there("distance", "over_threshold"),
        gxe.ExpectColumnValuesToBeDecreasing(column="distance", **_about("sorted", "distance never rises")),
        _apart("known_pairs", "from differs from to"),
        _known("known_pairs"),
        *_kinds("known_pairs"),
    ]


def _kinds(check: str) -> list[Any]:
    among = _gx().ExpectColumnValuesToBeInSet(
        column="kind", value_set=list(KINDS), **_about(check, f"kind is one of {', '.join(KINDS)}")
    )
    return [_there("kind", check), among]


def outliers(edges: int, settings: Settings) -> list[Any]:
    """Suite of the outliers of a graph with that many edges; `row` counts from 1, `known` is of `with_known`."""
    gxe = _gx()
    most = outlier_edges(edges, settings)
    order, once = "least_alike_first", "one_row_per_outlier"
    return [
        gxe.ExpectColumnValuesToBeIncreasing(column="distance", **_about(order, "distance never falls")),
        *_similarities(order, settings),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="rank", column_B="row", **_about(order, "rank 1, 2, 3, …")),
        gxe.ExpectColumnValuesToBeUnique(column="outlier", **_about(once, "each image once")),
        gxe.ExpectTableRowCountToBeBetween(min_value=0, max_value=most, **_about(once, f"at most {most:,} rows")),
        _known("known_images"),
    ]


def components(settings: Settings) -> list[Any]:
    """Suite of the components; `members`: rows of the same component, `known` is of `array_checks.with_known`."""
    gxe = _gx()
    sizes, values = "sizes_add_up", "similarity_range"
    return [
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="count", column_B="members", **_about(sizes, "count equals the component's rows")
        ),
        gxe.ExpectColumnValuesToBeBetween(column="count", min_value=2, **_about(sizes, "2 or more images a component")),
        gxe.ExpectColumnValuesToBeUnique(column="index", **_about("one_component_per_image", "each image once")),
        _known("known_images"),
        *(e for name in ("min", "mean", "max") for e in _similarities(values, settings, f"{name}_distance")),
    ]


def galleries() -> list[Any]:
    """Suite of the pages, with columns `bytes` (size of the file, 0 if there is none) and `expected` (true total)."""
    gxe = _gx()
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="bytes", min_value=1, **_about("pages_exist", "a page of 1 byte or more")
        ),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="total",
            column_B="expected",
            ignore_row_if="either_value_is_missing",
            **_about("numbers_agree", "total equals that of the tables"),
        ),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="total", column_B="items", or_equal=True, **_about("numbers_agree", "items <= total")
        ),
    ]


def split_leakage(splits: Sequence[str], settings: Settings) -> list[Any]:
    """Suite of the pairs across the given splits; `known`: both images are in their splits, `apart`: in two of them."""
    gxe = _gx()
    cross = "pairs_cross_splits"
    named = f"a published split: {', '.join(splits)}"
    return [
        _apart(cross, "split_from differs from split_to"),
        gxe.ExpectColumnValuesToBeInSet(column="split_from", value_set=list(splits), **_about(cross, named)),
        gxe.ExpectColumnValuesToBeInSet(column="split_to", value_set=list(splits), **_about(cross, named)),
        _known(cross, "valid images"),
        *_kinds(cross),
        gxe.ExpectColumnValuesToBeDecreasing(column="distance", **_about("similarity_range", "distance never rises")),
        *_similarities("similarity_range", settings),
    ]
