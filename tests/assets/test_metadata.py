"""What the UI shows of a table: counts, and the worst of it with pictures; text of users stays text."""

from __future__ import annotations

import polars as pl

from fastdup_dagster.assets.metadata import largest_clusters, leak_rates, per_code, worst_images, worst_leaks
from fastdup_dagster.schemas import SPLIT_LEAKAGE
from fastdup_dagster.stages.gallery_items import STAT_PAGES

KEY = "pets/train"
BLURRY, _, BRIGHT = STAT_PAGES


def rows_of(shown) -> list[list[str]]:
    """The cells of a markdown table, without its head."""
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in shown.md_str.splitlines()[2:]]


def test_the_worst_images_of_a_statistic_come_first_with_their_value(analysed):
    manifest, stats = (analysed.store.read(table, KEY) for table in ("image_manifest", "img_stats"))
    assert worst_images(stats, manifest, BLURRY) == "none"
    marked = stats.with_columns(
        (pl.col("index") < 3).alias("is_blurry"), pl.col("index").cast(pl.Float32).alias("blur")
    )
    rows = rows_of(worst_images(marked, manifest, BLURRY))
    assert [row[1] for row in rows] == ["0.00", "1.00", "2.00"]
    assert [row[2] for row in rows] == [name.replace("_", "\\_") for name in manifest["filename"][:3]]
    assert all(row[0].startswith("![](data:image/jpeg;base64,") for row in rows)
    bright = marked.with_columns((pl.col("index") < 9).alias("is_bright"), pl.col("blur").alias("mean"))
    assert [row[1] for row in rows_of(worst_images(bright, manifest, BRIGHT))] == [f"{8 - i}.00" for i in range(6)]
    off = stats.with_columns(pl.lit(None, pl.Boolean).alias("is_dark"))
    assert worst_images(off, manifest, STAT_PAGES[1]) == "not computed (run_stats=False)"


def test_the_largest_clusters_come_with_their_first_images(analysed):
    components = analysed.store.read("components", KEY)
    [row] = rows_of(largest_clusters(components, analysed.store, KEY))
    assert row[0] == "2"
    assert [cell[:4] for cell in row[2:6]] == ["![](", "![](", "", ""]
    assert row[6] == "copy.jpg"
    assert largest_clusters(components.clear(), analysed.store, KEY) == "none"


def test_each_error_code_is_a_number_of_its_own_the_commonest_first():
    codes = pl.Series("error_code", ["B", None, "A", "B", "C", None])
    assert list(per_code(codes).items()) == [("error, B", 2), ("error, A", 1), ("error, C", 1)]
    assert per_code(codes.clear()) == {}


def test_leak_rates_are_short_enough_to_stand_where_they_are_and_names_stay_names():
    rates = pl.DataFrame(
        [("a|b", "c_d", 0, 0, 0, 0.0, 0.0), ("a|b", "e", 2, 1, 2, 0.0002, 0.5)],
        schema=["split_from", "split_to", "pairs", "leaked_from", "leaked_to", "rate_from", "rate_to"],
        orient="row",
    )
    shown = leak_rates(rates)
    assert rows_of(shown) == [
        ["a\\|b", "e", "2", "1 \\(\\<0.1 %\\)", "2 \\(50.0 %\\)"],
        ["a\\|b", "c\\_d", "0", "0 \\(0 %\\)", "0 \\(0 %\\)"],
    ]
    assert len(shown.md_str) < 1000
    assert leak_rates(rates.clear()) == "none"


def test_the_worst_leaks_are_of_every_two_splits(analysed):
    manifests = {split: analysed.store.read("image_manifest", f"pets/{split}") for split in ("train", "test")}
    manifests["val"] = manifests["test"]
    pairs = [("test", i, "train", 0, 1.0) for i in range(8)] + [("train", 1, "val", 2, 0.91)]
    columns = ["split_from", "from", "split_to", "to", "distance"]
    leaks = SPLIT_LEAKAGE.frame(
        pl.DataFrame(pairs, schema=columns, orient="row").with_columns(pl.lit("near_duplicate").alias("kind"))
    )
    rows = rows_of(worst_leaks(leaks, manifests))
    assert len(rows) == 6
    assert rows[-1][2:4] == ["0.9100", "near duplicate"]
    assert rows[-1][5].startswith("val/")
