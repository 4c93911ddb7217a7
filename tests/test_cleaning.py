"""What a cleaned copy leaves out: every rule by itself, and which of several that are the same stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from fastdup_dagster.cleaning import REASONS, dropped
from fastdup_dagster.schemas import IMAGE_MANIFEST, IMG_STATS, OUTLIERS, SIMILARITY, SPLIT_LEAKAGE
from fastdup_dagster.stages.summary import SplitTables


def split(
    pixels: str,
    flags: Mapping[int, str] | None = None,
    errors: Mapping[int, str] | None = None,
    pairs: Sequence[tuple[int, int, str]] = (),
    outliers: Sequence[int] = (),
    missing: Sequence[str] = (),
) -> SplitTables:
    """A split with an image per letter; equal letters are equal pixels."""
    ids = list(range(len(pixels)))
    codes = [(errors or {}).get(i) for i in ids]
    stats: dict[str, Any] = {
        "index": ids, "pixel_hash": list(pixels), "error_code": codes, "error": codes, "source_key": [""] * len(ids),
        **{name: [(flags or {}).get(i) == name for i in ids] for name in ("is_blurry", "is_dark", "is_bright")},
    }  # fmt: skip
    names = [c.name for c in IMAGE_MANIFEST.columns if not c.nullable and c.name != "index"]
    manifest = {"index": ids, **{name: [f"{name}-{i}" for i in ids] for name in names}}
    return SplitTables(
        manifest=IMAGE_MANIFEST.frame(
            pl.DataFrame(manifest).with_columns(pl.Series("filename", [f"{i}.jpg" for i in ids]))
        ),
        img_stats=IMG_STATS.frame(stats),
        knn_graph=pl.DataFrame(),
        similarity=SIMILARITY.frame(
            {
                "from": [p[0] for p in pairs], "to": [p[1] for p in pairs],
                "distance": [0.95] * len(pairs), "kind": [p[2] for p in pairs],
            }
        ) if pairs else SIMILARITY.frame(),
        outliers=OUTLIERS.frame(
            {"outlier": outliers, "nearest": [0] * len(outliers), "distance": [0.1] * len(outliers),
             "rank": range(1, len(outliers) + 1)}
        ) if outliers else OUTLIERS.frame(),
        components=pl.DataFrame(),
        missing=frozenset(missing),
    )  # fmt: skip


def leaks(*pairs: tuple[str, int, str, int, str]) -> pl.DataFrame:
    names = ("split_from", "from", "split_to", "to", "kind")
    rows = {name: [pair[place] for pair in pairs] for place, name in enumerate(names)}
    return SPLIT_LEAKAGE.frame({**rows, "distance": [0.99] * len(pairs)})


def told(found: pl.DataFrame) -> list[tuple[Any, ...]]:
    return found.select("index", "reason", "kept").rows()


def test_of_equal_pixels_the_one_that_is_listed_first_stays() -> None:
    assert told(dropped({"all": split("abaab")}, ["duplicates"])) == [
        (2, "duplicates", "0.jpg"), (3, "duplicates", "0.jpg"), (4, "duplicates", "1.jpg")
    ]  # fmt: skip


def test_the_other_rules_go_first_so_that_one_that_is_good_stays() -> None:
    tables = {"all": split("aaa", flags={0: "is_blurry"})}
    assert told(dropped(tables, ["duplicates", "blurry"])) == [(0, "blurry", None), (2, "duplicates", "1.jpg")]
    assert told(dropped(tables, ["duplicates"])) == [(1, "duplicates", "0.jpg"), (2, "duplicates", "0.jpg")]


def test_near_duplicates_are_groups_and_similar_pairs_are_none() -> None:
    pairs = [(1, 2, "near_duplicate"), (3, 2, "near_duplicate"), (4, 1, "similar"), (4, 5, "identical_pixels")]
    tables = {"all": split("abcdeef", pairs=pairs)}
    assert told(dropped(tables, ["near_duplicates"])) == [
        (2, "near_duplicates", "1.jpg"), (3, "near_duplicates", "1.jpg"), (5, "near_duplicates", "4.jpg")
    ]  # fmt: skip
    both = dropped(tables, ["duplicates", "near_duplicates"])
    assert [row[:2] for row in told(both)] == [(2, "near_duplicates"), (3, "near_duplicates"), (5, "duplicates")]


def test_single_instances_are_left_out_by_what_the_tables_say_of_them() -> None:
    flags = {0: "is_blurry", 1: "is_dark", 2: "is_bright"}
    tables = {"all": split("abcdef", flags, {3: "CORRUPT_IMAGE", 5: "MISSING_ANNOTATION"}, outliers=[4])}
    found = dropped(tables, ["invalid", "blurry", "dark", "bright", "outliers"])
    assert [row[:2] for row in told(found)] == [
        (0, "blurry"), (1, "dark"), (2, "bright"), (3, "invalid"), (4, "outliers")
    ]  # fmt: skip
    assert found["detail"].to_list()[3] == "CORRUPT_IMAGE: CORRUPT_IMAGE"
    assert dropped(tables, []).is_empty()


def test_of_a_leak_the_smaller_split_keeps_its_image() -> None:
    tables = {"train": split("abcd"), "test": split("ex"), "val": split("yz")}
    pairs = leaks(
        ("test", 0, "train", 3, "near_duplicate"),
        ("test", 1, "train", 0, "similar"),
        ("test", 1, "val", 0, "identical_pixels"),
    )
    found = dropped(tables, ["leaks"], pairs)
    assert found.select("split", "index", "kept_split", "kept").rows() == [
        ("train", 3, "test", "0.jpg"), ("test", 1, "val", "0.jpg")
    ]  # fmt: skip
    chain = leaks(("test", 0, "train", 0, "near_duplicate"), ("test", 0, "val", 0, "near_duplicate"))
    kept = dropped(tables, ["leaks"], chain).select("split", "index", "kept_split").rows()
    assert kept == [("test", 0, "val")], "what is left out itself costs no other one"
    assert dropped({"train": tables["train"]}, ["leaks"], pairs).is_empty(), "the other split is not exported"


def test_a_leak_whose_image_is_gone_anyway_costs_no_other_one() -> None:
    tables = {"train": split("abc"), "test": split("e", flags={0: "is_dark"})}
    found = dropped(tables, ["leaks", "dark"], leaks(("test", 0, "train", 1, "near_duplicate")))
    assert found.select("split", "reason").rows() == [("test", "dark")]


def test_what_cannot_be_told_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown reason 'ugly'; there are: invalid, blurry"):
        dropped({"all": split("a")}, ["ugly"])
    with pytest.raises(ValueError, match="leaks: the splits were not compared"):
        dropped({"all": split("a")}, ["leaks"])
    with pytest.raises(ValueError, match="outliers: the table outliers of 'all' is not published"):
        dropped({"all": split("a", missing=["outliers"])}, ["outliers"])
    bare = split("a")
    without = SplitTables(**{**vars(bare), "img_stats": bare.img_stats.with_columns(pl.lit(None).alias("is_dark"))})
    with pytest.raises(ValueError, match="dark: 'all' was run without statistics"):
        dropped({"all": without}, ["dark"])
    assert set(REASONS) >= {"invalid", "duplicates"}
