"""What the data of each table should be like: the checks `checks.QUALITY`, as Great Expectations suites.

Each has a limit in the settings, and a severity: one that warns is shown and stops nothing, one that blocks keeps the
table from being published. Great Expectations decides; the stages `quality` and `drift` count and name the worst cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl

from fastdup_dagster.limits import LIMIT_OF
from fastdup_dagster.resources.great_expectations import MAX_BAD_ROWS, GreatExpectationsResource, flat
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages import drift as drifts
from fastdup_dagster.stages import quality as stage
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.storage import StagedTable, TableStore

_SHARE_ROUNDING = 1e-9  # 1 - 0.41 is a little over 59 of 100


def _gx() -> Any:
    import great_expectations.expectations as gxe

    return gxe


def _limit(settings: Settings, rule: str) -> float | None:
    limit: float | None = getattr(settings.limits, LIMIT_OF[rule])
    return limit


def _about(check: str, rule: str, settings: Settings, words: str) -> dict[str, Any]:
    """What an expectation says of itself: its check, the limit in words, and whether it blocks.

    Args:
        check: name of the check.
        rule: name of the limit in `limits.severity`.
        settings: of the partition.
        words: the limit, if there is one.
    """
    name = f"limits.{LIMIT_OF[rule]}"
    blocks = getattr(settings.limits.severity, rule) == "block"
    return {
        "meta": {"check": check},
        "description": f"{words} ({name})" if _limit(settings, rule) is not None else f"no limit ({name} is not set)",
        "severity": "critical" if blocks else "warning",
    }


def _mostly(settings: Settings, rule: str) -> float:
    """Share of the rows that must be as expected."""
    limit = _limit(settings, rule)
    return 0.0 if limit is None else max(0.0, 1 - limit - _SHARE_ROUNDING)


def failed(column: str, check: str, settings: Settings) -> list[Any]:
    """Suite of a column with a reason where an image failed: for as many images as the settings accept."""
    words = f"at most {settings.limits.max_invalid_share:.1%} of the images"
    about = _about(check, "invalid", settings, words)
    return [_gx().ExpectColumnValuesToBeNull(column=column, mostly=_mostly(settings, "invalid"), **about)]


def flagged(column: str, check: str, rule: str, settings: Settings) -> list[Any]:
    """Suite of a column that is true for what should be rare among the valid images."""
    about = _about(check, rule, settings, f"at most {_limit(settings, rule) or 0:.1%} of the valid images")
    unset = _gx().ExpectColumnValuesToBeInSet(column=column, value_set=[False], mostly=_mostly(settings, rule), **about)
    return [unset]


def at_most(column: str, check: str, rule: str, settings: Settings, least: float = 0.0) -> list[Any]:
    """Suite of a column whose values are from `least` up to the limit, if there is one."""
    limit = _limit(settings, rule)
    about = _about(check, rule, settings, f"at most {limit:g}" if limit is not None else "")
    highest = None if limit is None else limit + _SHARE_ROUNDING
    return [
        _gx().ExpectColumnValuesToBeBetween(column=column, min_value=least, max_value=highest, **about),
        _gx().ExpectColumnValuesToNotBeNull(column=column, **about),
    ]


def leak_rates(settings: Settings) -> list[Any]:
    """Suite of the leak rates per pair of splits."""
    share = settings.limits.max_leak_share
    about = _about("share_of_leaked", "leaks", settings, f"at most {share:.1%} of a split")
    sides = ("rate_from", "rate_to")
    within = [
        _gx().ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=share + _SHARE_ROUNDING, **about)
        for column in sides
    ]
    return [*within, *(_gx().ExpectColumnValuesToNotBeNull(column=column, **about) for column in sides)]


def of_labels(gx: GreatExpectationsResource, manifest: pl.DataFrame, key: str, settings: Settings) -> CheckOutcome:
    """Whether the classes of a listing are about equally large.

    Args:
        gx: decides.
        manifest: the table `image_manifest`.
        key: of the partition.
        settings: of the partition.
    """
    classes = stage.class_counts(manifest)
    suite = at_most("imbalance", "label_balance", "label_imbalance", settings, least=1.0)
    [outcome] = gx.check(classes, "image_manifest", key, suite)
    if classes.is_empty():
        return replace(outcome, observed="no labels")
    rarest, largest = classes.row(0, named=True), classes.row(-1, named=True)
    said = (
        f"{rarest['imbalance']:.4g}: {largest['images']:,} {largest['label']}, {rarest['images']:,} {rarest['label']}"
    )
    return replace(outcome, observed=f"{said}, of {classes.height:,} classes")


def of_statistics(
    gx: GreatExpectationsResource,
    staged: StagedTable,
    store: TableStore,
    manifest: pl.DataFrame,
    key: str,
    settings: Settings,
) -> list[CheckOutcome]:
    """Copies, truncated, blurry, dark and bright images, and how far the statistics moved.

    Args:
        gx: decides.
        staged: the table `img_stats`, not yet published.
        store: holds the published one.
        manifest: the table `image_manifest`.
        key: of the partition.
        settings: of the partition.
    """
    images = stage.flagged_images(staged.scan(), manifest)
    suite = [e for rule, flag in stage.FLAGS.items() for e in flagged(flag.column, rule, rule, settings)]
    outcomes = []
    for outcome in gx.check(images, "img_stats", key, suite):
        flag = stage.FLAGS[outcome.check]
        if images.height and images[flag.column].null_count() == images.height:
            outcome = replace(outcome, observed="not computed")
        worst = None if outcome.passed else flat(stage.worst_flagged(images, flag))
        outcomes.append(replace(outcome, bad_rows=worst))
    moved = drifts.statistics_drift(staged, store, key)
    return [*outcomes, _drifted(gx, moved, "img_stats", key, settings, manifest, drifts.most_extreme, staged)]


def of_vectors(
    gx: GreatExpectationsResource,
    staged: StagedTable,
    store: TableStore,
    manifest: pl.DataFrame,
    key: str,
    settings: Settings,
) -> CheckOutcome:
    """How far the mean vector moved; the arguments are as for `of_statistics`, the table is `embeddings`."""
    moved = drifts.embedding_drift(staged, store, key)
    return _drifted(gx, moved, "embeddings", key, settings, manifest, drifts.furthest_along, staged)


_DRIFTS = {"img_stats": "statistics_drift", "embeddings": "embedding_drift"}


def _drifted(
    gx: GreatExpectationsResource,
    moved: drifts.Drift,
    table: str,
    key: str,
    settings: Settings,
    manifest: pl.DataFrame,
    worst: Callable[[StagedTable, drifts.Drift, int], pl.DataFrame],
    staged: StagedTable,
) -> CheckOutcome:
    rule = _DRIFTS[table]
    [outcome] = gx.check(moved.rows, table, key, at_most("drift", rule, rule, settings))
    if moved.note:
        return replace(outcome, observed=f"0: {moved.note}" if moved.note == drifts.UNCHANGED else moved.note)
    first = moved.rows.row(0, named=True)
    said = (
        f"{first['drift']:.3g} ({first['what']}), {first['images']:,} images, {first['published_images']:,} published"
    )
    if outcome.passed:
        return replace(outcome, observed=said)
    images = worst(staged, moved, MAX_BAD_ROWS).join(
        manifest.select("index", "filename"), on="index", how="left", maintain_order="left"
    )
    named = images.select("index", "filename", pl.exclude("index", "filename"))
    return replace(outcome, observed=said, bad_rows=flat(named))


def of_pairs(
    gx: GreatExpectationsResource,
    similarity: pl.DataFrame,
    images: pl.Series,
    names: Callable[[], pl.DataFrame],
    key: str,
    settings: Settings,
) -> CheckOutcome:
    """How many images are near duplicates or copies of earlier ones.

    Args:
        gx: decides.
        similarity: the table, not yet published.
        images: ids of the valid images, with repetitions.
        names: gives `index, filename` of the listing, if the worst cases have to be named.
        key: of the partition.
        settings: of the partition.
    """
    copies = stage.near_copies(similarity)
    ids = images.unique().sort().to_frame("index")
    marked = ids.with_columns(pl.col("index").is_in(copies["index"].implode()).alias("is_near_copy"))
    suite = flagged("is_near_copy", "near_duplicates", "near_duplicates", settings)
    [outcome] = gx.check(marked, "similarity", key, suite)
    if outcome.passed:
        return outcome
    listing = names()
    named = (
        copies.head(MAX_BAD_ROWS)
        .join(listing, on="index", how="left", maintain_order="left")
        .join(listing.rename({"index": "first", "filename": "copy_of"}), on="first", how="left", maintain_order="left")
    )
    return replace(outcome, bad_rows=flat(named.select("index", "filename", "copy_of", "kind", "distance")))
