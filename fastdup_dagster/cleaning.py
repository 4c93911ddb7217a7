"""What a cleaned copy of a data set leaves out, and why: rules on the tables of its splits.

Of several instances that are the same, one stays. The other rules go first, so that it is one that stays for good:
of those that are left, the one that is listed first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import polars as pl

from fastdup_dagster.stages.components import smallest_members
from fastdup_dagster.stages.summary import SplitTables, invalid_instances

REASONS: dict[str, str] = {
    "invalid": "what cannot be used: broken or missing files, boxes outside their image or too small",
    "blurry": "under blur_threshold",
    "dark": "under darkness_threshold",
    "bright": "over brightness_threshold",
    "outliers": "the table outliers",
    "leaks": "what stands in another split too; the smaller one of the two splits keeps it",
    "duplicates": "same bytes or same pixels as an instance of the split that stays",
    "near_duplicates": "near duplicate of an instance of the split that stays, also by way of others",
}
"""Why an instance may be left out, in the order in which the rules are applied."""

_FLAGS = {"blurry": "is_blurry", "dark": "is_dark", "bright": "is_bright"}
_NO_BOX = "MISSING_ANNOTATION"
_DROPPED = {
    "split": pl.String, "index": pl.Int64, "filename": pl.String, "reason": pl.String,
    "detail": pl.String, "kept_split": pl.String, "kept": pl.String,
}  # fmt: skip


def dropped(
    splits: Mapping[str, SplitTables], reasons: Collection[str], leakage: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What is left out, by split and index; an instance with several reasons has a row for each.

    Args:
        splits: tables of each split.
        reasons: out of `REASONS`.
        leakage: the table `split_leakage`; needed for `leaks`.

    Returns:
        `split, index, filename, reason`; `detail`, what is wrong with an invalid one; and `kept_split, kept`, the
        file that stays in its place.

    Raises:
        ValueError: for an unknown reason, or one whose table is missing.
    """
    if unknown := [reason for reason in reasons if reason not in REASONS]:
        raise ValueError(f"unknown reason {unknown[0]!r}; there are: {', '.join(REASONS)}")
    _check_there(splits, reasons, leakage)
    blocks = [
        _alone(split, tables, reason) for split, tables in splits.items() for reason in REASONS if reason in reasons
    ]
    found = pl.concat([pl.DataFrame(schema=_DROPPED), *blocks])
    if "leaks" in reasons and leakage is not None:
        found = pl.concat([found, _leaks(splits, leakage, found)])
    for reason in ("duplicates", "near_duplicates"):
        if reason in reasons:
            blocks = [_copies(split, tables, reason, found) for split, tables in splits.items()]
            found = pl.concat([found, *blocks])
    order = {split: place for place, split in enumerate(splits)}
    place = pl.col("split").replace_strict(order, return_dtype=pl.Int64)
    return found.sort(place, "index", maintain_order=True)


def _check_there(splits: Mapping[str, SplitTables], reasons: Collection[str], leakage: pl.DataFrame | None) -> None:
    if "leaks" in reasons and leakage is None:
        raise ValueError(
            "leaks: the splits were not compared as they are now, or there is only one; run the data set again"
        )
    for split, tables in splits.items():
        for reason, table in (("outliers", "outliers"), ("near_duplicates", "similarity")):
            if reason in reasons and table in tables.missing:
                raise ValueError(f"{reason}: the table {table} of {split!r} is not published; run it first")
        for reason, flag in _FLAGS.items():
            valid = tables.img_stats.filter(pl.col("error_code").is_null())
            if reason in reasons and valid.height and valid[flag].null_count() == valid.height:
                raise ValueError(f"{reason}: {split!r} was run without statistics (run_stats)")


def _alone(split: str, tables: SplitTables, reason: str) -> pl.DataFrame:
    """What a rule says of single instances."""
    if reason == "invalid":
        bad = invalid_instances(tables).filter(pl.col("error_code") != _NO_BOX)
        said = pl.concat_str("error_code", pl.lit(": "), "error", ignore_nulls=True)
        return _rows(split, tables, bad.select("index", said.alias("detail")), reason)
    if reason in _FLAGS:
        return _rows(split, tables, tables.img_stats.filter(pl.col(_FLAGS[reason])).select("index"), reason)
    if reason == "outliers":
        return _rows(split, tables, tables.outliers.select(pl.col("outlier").alias("index")).unique(), reason)
    return pl.DataFrame(schema=_DROPPED)


def _leaks(splits: Mapping[str, SplitTables], leakage: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """Of each pair whose images are both still there: the one in the split of more images, or in the first by name.

    Pairs with an image of the smallest split come first: what is kept is never left out for another one later.
    """
    larger_first = sorted(splits, key=lambda split: (-splits[split].manifest.height, split))
    rank = {split: place for place, split in enumerate(larger_first)}
    gone_before = {(split, index) for split, index in gone.select("split", "index").iter_rows()}
    pairs = leakage.filter((pl.col("kind") != "similar") & pl.col("split_from").is_in(list(splits)))
    pairs = pairs.filter(pl.col("split_to").is_in(list(splits)))
    names = {split: dict(tables.manifest.select("index", "filename").iter_rows()) for split, tables in splits.items()}
    lost: dict[tuple[str, int], tuple[str, int]] = {}
    ends = [
        sorted([(one, int(first)), (other, int(second))], key=lambda end: rank[end[0]])
        for one, first, other, second in pairs.select("split_from", "from", "split_to", "to").iter_rows()
    ]
    for loser, kept in sorted(ends, key=lambda pair: (-rank[pair[1][0]], pair[1][1], rank[pair[0][0]], pair[0][1])):
        if not {loser, kept} & (gone_before | lost.keys()):
            lost[loser] = kept
    rows = [
        (split, index, names[split][index], "leaks", None, kept[0], names[kept[0]][kept[1]])
        for (split, index), kept in lost.items()
    ]
    return pl.DataFrame(rows, schema=_DROPPED, orient="row")


def _copies(split: str, tables: SplitTables, reason: str, gone: pl.DataFrame) -> pl.DataFrame:
    """All but the first of each group of instances that are the same, of those that are still there."""
    lost = gone.filter(pl.col("split") == split)["index"].unique()
    valid = tables.img_stats.join(invalid_instances(tables), on="index", how="anti")
    here = valid.filter(~pl.col("index").is_in(lost.implode())).sort("index").select("index", "pixel_hash")
    first = here.drop_nulls("pixel_hash").with_columns(pl.col("index").first().over("pixel_hash").alias("to"))
    edges = first.select(pl.col("index").alias("from"), "to")
    if reason == "near_duplicates":
        alike = tables.similarity.filter(pl.col("kind") != "similar").select("from", "to")
        there = here["index"].implode()
        edges = pl.concat([edges, alike.filter(pl.col("from").is_in(there) & pl.col("to").is_in(there))])
    members, ends = np.unique(edges.to_numpy(), return_inverse=True)
    kept = members[smallest_members(len(members), ends.reshape(-1, 2))] if len(members) else members
    pairs = pl.DataFrame({"index": members, "other": kept}, schema={"index": pl.Int64, "other": pl.Int64})
    return _rows(split, tables, pairs.filter(pl.col("index") != pl.col("other")), reason)


def _rows(split: str, tables: SplitTables, found: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Rows of `dropped` of these ids, with `detail` and `other`, the id of what stays, where there are any."""
    names = tables.manifest.select("index", "filename")
    given = found.join(names, on="index", how="inner", maintain_order="left")
    if "other" in found.columns:
        stays = names.rename({"index": "other", "filename": "kept"})
        given = given.join(stays, on="other", how="left").with_columns(pl.lit(split).alias("kept_split"))
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in _DROPPED if name not in given.columns]
    told = given.with_columns(missing).with_columns(pl.lit(split).alias("split"), pl.lit(reason).alias("reason"))
    return told.select(pl.col(name).cast(dtype) for name, dtype in _DROPPED.items())
