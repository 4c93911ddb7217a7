"""What counts as found, as missed, as a false alarm, or as implied by the plants, on hand-made tables."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from fastdup_dagster.demo import KINDS, PLANTED_SCHEMA, DemoTables, SplitTables, format_score, score_demo
from fastdup_dagster.schemas import COMPONENTS, IMAGE_MANIFEST, IMG_STATS, OUTLIERS, SIMILARITY, SPLIT_LEAKAGE

Edge = tuple[str, str, str]  # from, to, kind


def planted(*rows: tuple[str, str, str | None]) -> pl.DataFrame:
    """Rows of kind, "split/file", "split/original"."""
    full = []
    for kind, file, original in rows:
        source = original.split("/", 1) if original else (None, None)
        full.append((kind, *file.split("/", 1), *source, "an edit"))
    return pl.DataFrame(full, schema=PLANTED_SCHEMA, orient="row")


def split_tables(
    names: str,
    hashes: dict[str, str] | None = None,
    flags: dict[str, set[str]] | None = None,
    edges: list[Edge] | None = None,
    listed: str = "",
    clusters: tuple[str, ...] = (),
    unreadable: dict[str, str] | None = None,
) -> SplitTables:
    """Tables of a split whose files are the words of `names`.

    `hashes`: content hash by name, else one of its own. `flags`: names by column. `edges`: the table similarity.
    `listed`: outliers in order. `clusters`: members of each component. `unreadable`: error codes by name.
    """
    files = names.split()
    index = {name: position for position, name in enumerate(files)}
    codes = unreadable or {}
    stats: dict[str, Any] = {"index": range(len(files)), "source_key": files}
    stats["content_hash"] = [(hashes or {}).get(name, f"hash of {name}") for name in files]
    stats["error_code"] = pl.Series([codes.get(name) for name in files], dtype=pl.String)
    for column in ("is_blurry", "is_dark", "is_bright", "is_truncated"):
        stats[column] = [name in (flags or {}).get(column, set()) for name in files]
    manifest = {"index": range(len(files)), "instance_id": files, "filename": files, "uri": files}
    found = [(index[a], index[b], 0.95, kind) for a, b, kind in edges or []]
    strange = [(index[name], 0, 0.1, rank) for rank, name in enumerate(listed.split(), start=1)]
    members = [
        (index[name], number, 2, 1.0, 1.0, 1.0) for number, group in enumerate(clusters) for name in group.split()
    ]
    return SplitTables(
        IMAGE_MANIFEST.frame({**manifest, "media": ["image"] * len(files)}),
        IMG_STATS.frame(stats),
        SIMILARITY.frame(pl.DataFrame(found, schema=["from", "to", "distance", "kind"], orient="row")),
        OUTLIERS.frame(pl.DataFrame(strange, schema=OUTLIERS.names, orient="row")),
        COMPONENTS.frame(pl.DataFrame(members, schema=COMPONENTS.names, orient="row")),
    )


def leaks(*rows: tuple[int, int, str]) -> pl.DataFrame:
    """Rows of index in test, index in train, kind."""
    full = [("test", one, "train", other, 0.95, kind) for one, other, kind in rows]
    columns = ["split_from", "from", "split_to", "to", "distance", "kind"]
    return SPLIT_LEAKAGE.frame(pl.DataFrame(full, schema=columns, orient="row"))


def row(kind: str, plants: pl.DataFrame, leakage: pl.DataFrame | None = None, **splits: SplitTables) -> dict[str, Any]:
    """The score of one kind, without its explanation unless asked for."""
    score = score_demo(plants, DemoTables(splits, leaks() if leakage is None else leakage))
    return score.row(by_predicate=pl.col("kind") == kind, named=True)


def counts(result: dict[str, Any]) -> tuple[int, int, str, int, str]:
    return tuple(result[name] for name in ("planted", "found", "missed", "false_alarms", "false_alarm_names"))


def test_there_is_a_row_for_every_kind_in_order() -> None:
    score = score_demo(planted(), DemoTables({"train": split_tables("a b")}, leaks()))
    assert score["kind"].to_list() == [*KINDS, "cluster"]
    assert score.select("planted", "found", "false_alarms").sum().row(0) == (0, 0, 0)


def test_exact_copies_are_pairs_of_equal_bytes() -> None:
    plants = planted(
        ("exact_copy", "train/a2", "train/a"),
        ("exact_copy", "train/a3", "train/a"),
        ("exact_copy", "train/b2", "train/b"),
    )
    tables = split_tables("a a2 a3 b b2 c d", hashes=dict.fromkeys(("a", "a2", "a3"), "A") | dict.fromkeys("cd", "C"))
    result = row("exact_copy", plants, train=tables)
    assert counts(result) == (3, 2, "train/b ~ train/b2", 1, "train/c ~ train/d")
    assert "come from one picture: 1 more; false alarm: two images" in result["explanation"]


def test_equal_bytes_in_two_splits_are_no_exact_copy_of_a_split() -> None:
    result = row("exact_copy", planted(), train=split_tables("a", {"a": "A"}), test=split_tables("b", {"b": "A"}))
    assert counts(result) == (0, 0, "", 0, "")


def test_files_without_a_hash_are_not_equal() -> None:
    tables = split_tables("a b")
    unread = SplitTables(
        tables.image_manifest,
        tables.img_stats.with_columns(content_hash=pl.lit(None, pl.String)),
        tables.similarity,
        tables.outliers,
        tables.components,
    )
    assert counts(row("exact_copy", planted(), train=unread)) == (0, 0, "", 0, "")


@pytest.mark.parametrize(
    "edge", [("a", "n", "near_duplicate"), ("n", "a", "near_duplicate"), ("n", "a", "identical_pixels")]
)
def test_a_near_copy_is_found_by_an_edge_in_either_direction(edge: Edge) -> None:
    plants = planted(("near_copy", "train/n", "train/a"))
    assert counts(row("near_copy", plants, train=split_tables("a n b", edges=[edge]))) == (1, 1, "", 0, "")


@pytest.mark.parametrize("kind", ["similar", "identical_bytes"])
def test_other_kinds_of_edges_do_not_find_a_near_copy(kind: str) -> None:
    plants = planted(("near_copy", "train/n", "train/a"))
    result = row("near_copy", plants, train=split_tables("a n b", edges=[("a", "n", kind)]))
    assert counts(result) == (1, 0, "train/a ~ train/n", 0, "")
    reason = {"similar": "(reported as similar): 1", "identical_bytes": "not over the similarity threshold: 1"}
    assert reason[kind] in result["explanation"]


def test_a_near_copy_is_found_by_an_edge_to_an_exact_copy_of_its_original() -> None:
    plants = planted(("exact_copy", "train/a2", "train/a"), ("near_copy", "train/n", "train/a"))
    tables = split_tables("a a2 n", edges=[("n", "a2", "near_duplicate")])
    assert counts(row("near_copy", plants, train=tables)) == (1, 1, "", 0, "")


def test_pairs_of_one_picture_are_implied_and_pairs_of_two_are_false_alarms() -> None:
    plants = planted(
        ("near_copy", "train/n", "train/a"),
        ("blurry", "train/soft", "train/a"),
        ("leak", "test/l", "train/b"),
        ("leak", "test/m", "train/b"),
    )
    train = [("n", "a", "near_duplicate"), ("n", "soft", "near_duplicate"), ("a", "b", "near_duplicate")]
    tables = {
        "train": split_tables("a b n soft", edges=[*train, ("b", "a", "near_duplicate")]),
        "test": split_tables("l m", edges=[("l", "m", "near_duplicate")]),
    }
    result = row("near_copy", plants, **tables)
    assert counts(result) == (1, 1, "", 1, "train/a ~ train/b")
    assert "come from one picture: 2 more" in result["explanation"]


def test_a_leak_is_a_pair_across_splits_that_is_more_than_similar() -> None:
    plants = planted(
        ("leak", "test/x", "train/a"),
        ("leak", "test/y", "train/b"),
        ("near_copy", "train/a2", "train/a"),
        ("dark", "test/night", "test/z"),
    )
    tables = {"train": split_tables("a b a2 c"), "test": split_tables("x y z night")}
    rows = leaks((0, 0, "identical_bytes"), (0, 2, "near_duplicate"), (1, 1, "similar"), (2, 3, "near_duplicate"))
    result = row("leak", plants, rows, **tables)
    assert counts(result) == (2, 1, "test/y ~ train/b", 1, "test/z ~ train/c")
    assert (
        "come from one picture: 1 more" in result["explanation"] and "(reported as similar): 1" in result["explanation"]
    )


@pytest.mark.parametrize("kind", ["blurry", "dark", "bright", "truncated"])
def test_flags_are_compared_with_the_plants(kind: str) -> None:
    plants = planted((kind, "train/p", "train/a"), (kind, "train/q", "train/a"))
    tables = split_tables("a p q b", flags={f"is_{kind}": {"p", "b"}})
    assert counts(row(kind, plants, train=tables)) == (2, 1, "train/q", 1, "train/b")


def test_a_dark_image_that_is_flagged_blurry_is_implied() -> None:
    plants = planted(("dark", "train/night", "train/a"), ("truncated", "train/cut", "train/a"))
    result = row("blurry", plants, train=split_tables("a night cut", flags={"is_blurry": {"night", "cut"}}))
    assert counts(result) == (0, 0, "", 1, "train/cut")
    assert "planted as dark or bright and flagged too, because hardly any detail is left: 1" in result["explanation"]


def test_broken_files_are_found_in_the_manifest_or_in_the_statistics() -> None:
    plants = planted(("broken", "train/empty", None), ("broken", "train/text", None), ("broken", "train/odd", None))
    tables = split_tables("a empty text odd", unreadable={"text": "CORRUPT_IMAGE", "a": "CORRUPT_IMAGE"})
    codes = pl.Series([None, "ZERO_SIZE_FILE", None, None], dtype=pl.String)
    listed = tables.image_manifest.with_columns(error_code=codes)
    both = SplitTables(listed, tables.img_stats, tables.similarity, tables.outliers, tables.components)
    result = row("broken", plants, train=both)
    assert counts(result) == (3, 2, "train/odd", 1, "train/a")
    assert result["explanation"].startswith("2 CORRUPT_IMAGE; 1 ZERO_SIZE_FILE; false alarm: an error")


def test_only_what_is_listed_before_the_last_planted_outlier_is_a_false_alarm() -> None:
    plants = planted(("outlier", "train/o", None), ("outlier", "train/p", None))
    result = row("outlier", plants, train=split_tables("a b c o p", listed="o a p b c"))
    assert counts(result) == (2, 2, "", 1, "train/a")
    assert "the table always holds the least alike edges: 2" in result["explanation"]


def test_where_no_planted_outlier_is_found_all_listed_ones_are_false_alarms() -> None:
    plants = planted(("outlier", "train/o", None))
    tables = {"train": split_tables("a b o", listed="b a"), "test": split_tables("x y", listed="y")}
    assert counts(row("outlier", plants, **tables)) == (1, 0, "train/o", 2, "train/a; train/b")


def test_clusters_must_hold_the_exact_copies_and_no_two_pictures() -> None:
    plants = planted(
        ("exact_copy", "train/a2", "train/a"),
        ("exact_copy", "train/b2", "train/b"),
        ("near_copy", "train/n", "train/a"),
    )
    tables = split_tables("a a2 b b2 n c d", clusters=("a a2 n", "b c", "b2 d"))
    result = row("cluster", plants, train=tables)
    assert counts(result) == (2, 1, "train/b ~ train/b2", 2, "train/b + train/c; train/b2 + train/d")


def test_tables_of_another_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match="1 planted files are in no manifest, test/o the first of them"):
        score_demo(planted(("outlier", "test/o", None)), DemoTables({"train": split_tables("o")}, leaks()))


def test_the_printed_table_shows_names_with_brackets_as_they_are() -> None:
    plants = planted(("dark", "train/[red]x[/]", "train/a"), ("bright", "train/y", "train/a"))
    tables = split_tables("a [red]x[/] y", flags={"is_bright": {"y", "a"}})
    console = Console(file=io.StringIO(), width=200)
    console.print(format_score(score_demo(plants, DemoTables({"train": tables}, leaks()))))
    text = console.file.getvalue()
    assert "train/[red]x[/]" in text and "1: train/a" in text
    assert all(kind.replace("_", " ") in text for kind in KINDS)
