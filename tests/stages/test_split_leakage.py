"""Leaks are pairs between two splits, never within one, whatever order the splits come in."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.schemas import IMG_STATS, SPLIT_LEAKAGE
from fastdup_dagster.settings import settings_from
from fastdup_dagster.stages.split_leakage import (
    NOT_PUBLISHED,
    comparable,
    hides_leaks,
    highest_rate,
    leak_rates,
    split_leakage,
    worst_leaks,
)

Embedded = Callable[..., pl.DataFrame]
SPLITS = ("test", "train", "val")


def normal(n: int, seed: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def stats_of(hashes: list[str]) -> pl.DataFrame:
    """`img_stats` whose thumbnails and hashes are those of the given names."""
    thumbs = [np.random.default_rng(zlib.crc32(h.encode())).integers(0, 255, 768).tolist() for h in hashes]
    return IMG_STATS.frame(
        {
            "index": range(len(hashes)),
            "content_hash": hashes,
            "pixel_hash": hashes,
            "thumbnail": pl.Series(thumbs, dtype=pl.Array(pl.UInt8, 768)),
            "source_key": [""] * len(hashes),
        }
    )


def three_splits(embedded: Embedded) -> dict[str, pl.DataFrame]:
    """The first of each is the same picture; train has a copy of its own second one."""
    shared = normal(1, 0)
    train = np.concatenate([shared, normal(8, 1), normal(8, 1)[:1]])
    return {
        "train": embedded(train),
        "test": embedded(np.concatenate([shared, normal(5, 2)])),
        "val": embedded(np.concatenate([shared, normal(4, 3)])),
    }


def test_a_picture_in_two_splits_is_found_and_copies_within_a_split_are_not(embedded: Embedded) -> None:
    leaks = split_leakage(three_splits(embedded), {}, settings_from({"threshold": 0.99}))
    assert leaks.schema == SPLIT_LEAKAGE.frame().schema
    assert list(leaks.select("split_from", "from", "split_to", "to").iter_rows()) == [
        ("test", 0, "train", 0),
        ("test", 0, "val", 0),
        ("train", 0, "val", 0),
    ]
    assert leaks["distance"].to_list() == pytest.approx([1, 1, 1])


def test_the_result_does_not_depend_on_the_order_of_the_splits(embedded: Embedded) -> None:
    splits = three_splits(embedded)
    settings = settings_from({"threshold": 0.2, "nearest_neighbors_k": 3})
    results = [
        split_leakage({name: splits[name] for name in order}, {}, settings) for order in itertools.permutations(splits)
    ]
    assert results[0].height > 3
    assert all(result.equals(results[0]) for result in results)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 15), st.integers(-4, 4), st.integers(0, 20))
def test_pairs_are_those_of_brute_force_searched_from_both_sides(
    embedded: Embedded, n: int, m: int, k: int, quarters: int, seed: int
) -> None:
    first, second = normal(n, seed), normal(m, seed + 1)
    scores = _unit(first) @ _unit(second).T
    wanted = {
        (i, int(j)) for i in range(n) for j in np.argsort(-scores[i], kind="stable")[:k] if scores[i, j] > quarters / 4
    } | {
        (int(i), j)
        for j in range(m)
        for i in np.argsort(-scores[:, j], kind="stable")[:k]
        if scores[i, j] > quarters / 4
    }
    settings = settings_from({"threshold": quarters / 4, "nearest_neighbors_k": k})
    leaks = split_leakage({"b": embedded(second), "a": embedded(first)}, {}, settings)
    assert set(leaks.select("from", "to").iter_rows()) == wanted
    assert leaks.height == len(wanted)
    assert leaks["distance"].is_sorted(descending=True)
    for i, j, score in leaks.select("from", "to", "distance").iter_rows():
        assert score == pytest.approx(scores[i, j], abs=1e-6)


def _unit(vectors: np.ndarray) -> np.ndarray:
    exact = vectors.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def test_more_copies_in_one_split_than_k_are_all_found_from_the_other_side(embedded: Embedded) -> None:
    shared = normal(1, 0)
    splits = {
        "test": embedded(np.repeat(shared, 7, axis=0)),
        "train": embedded(np.concatenate([shared, normal(20, 1)])),
    }
    leaks = split_leakage(splits, {}, settings_from({"threshold": 0.99, "nearest_neighbors_k": 2}))
    assert leaks.filter(pl.col("to") == 0)["from"].sort().to_list() == list(range(7))


def test_copies_are_named_each_without_a_pair_for_every_two_of_them(embedded: Embedded) -> None:
    shared = normal(1, 0)
    splits = {"test": embedded(np.repeat(shared, 3, axis=0)), "train": embedded(np.repeat(shared, 50, axis=0))}
    leaks = split_leakage(splits, {}, settings_from({"threshold": 0.99, "nearest_neighbors_k": 2}))
    assert leaks.height == 3 + 50 - 1
    assert leak_rates(leaks, {"test": 3, "train": 50}).select("leaked_from", "leaked_to").row(0) == (3, 50)


def test_copies_within_a_split_cost_nobody_else_a_neighbour(embedded: Embedded) -> None:
    query, copied, other = [1.0, 0.0, 0.0], [0.99, 0.14, 0.0], [0.95, 0.0, 0.31]
    nearer = [[0.94, 0.01, 0.34], [0.94, -0.01, 0.34]]  # in test, so that `other` is no neighbour of the query's
    splits = {"test": embedded([query, *nearer]), "train": embedded([copied] * 9 + [other])}
    leaks = split_leakage(splits, {}, settings_from({"threshold": 0.9, "nearest_neighbors_k": 2}))
    assert (0, 9) in set(leaks.select("from", "to").iter_rows())


def test_equal_pixels_are_found_by_their_hashes_among_images_that_the_model_cannot_tell_apart(
    embedded: Embedded,
) -> None:
    same = np.repeat(normal(1, 0), 30, axis=0)
    splits = {"test": embedded(same), "train": embedded(same)}
    names = [[f"{split} {i}" for i in range(30)] for split in splits]
    names[0][17] = names[1][23] = "the same"
    stats = dict(zip(splits, map(stats_of, names), strict=True))
    leaks = split_leakage(splits, stats, settings_from({"threshold": 0.99, "nearest_neighbors_k": 1}))
    assert leaks.filter(kind="identical_bytes").select("from", "to").rows() == [(17, 23)]
    assert leaks.filter(kind="identical_bytes")["distance"].to_list() == pytest.approx([1])
    broken = stats["train"].with_columns(pl.lit(None, pl.String).alias("pixel_hash"))
    assert split_leakage(splits, {"test": broken, "train": broken}, settings_from({})).height == 59


def test_other_names_of_the_splits_give_the_same_pairs(embedded: Embedded) -> None:
    vectors = {"train": normal(30, 1, d=4), "test": normal(12, 2, d=4), "val": normal(7, 3, d=4)}
    vectors["test"][3], vectors["val"][2] = vectors["train"][5], vectors["train"][6]
    stats = {split: stats_of([f"{row[0]:.6f}" for row in rows]) for split, rows in vectors.items()}
    settings = settings_from({"threshold": 0.8, "nearest_neighbors_k": 2})

    def pairs(names: dict[str, str]) -> set[object]:
        tables = {names[split]: embedded(rows) for split, rows in vectors.items()}
        found = split_leakage(tables, {names[split]: table for split, table in stats.items()}, settings)
        old = {name: split for split, name in names.items()}
        assert found.select("split_from", "from", "split_to", "to").is_unique().all()
        return {
            (frozenset([(old[row["split_from"]], row["from"]), (old[row["split_to"]], row["to"])]),
             row["distance"], row["kind"], row["verified_score"])
            for row in found.iter_rows(named=True)
        }  # fmt: skip

    as_they_are = pairs({split: split for split in vectors})
    assert len(as_they_are) > 10
    assert pairs({"train": "a", "test": "b", "val": "c"}) == as_they_are
    assert pairs({"train": "c", "test": "b", "val": "a"}) == as_they_are


def test_vectors_of_different_models_are_not_compared(embedded: Embedded) -> None:
    other = embedded(normal(3, 1)).with_columns(pl.lit("another").alias("model"))
    with pytest.raises(ValueError, match="test with m, train with another"):
        split_leakage({"test": embedded(normal(3, 0)), "train": other}, {}, settings_from({}))


def test_a_split_of_another_model_than_most_is_left_out_with_the_reason(analysed) -> None:
    keys = {"test": "pets/test", "train": "pets/train"}
    embeddings, stats = (
        {key: analysed.store.read(table, key) for key in keys.values()} for table in ("embeddings", "img_stats")
    )
    assert comparable(analysed.store, keys, embeddings, stats)[1] == {}
    embeddings["pets/train"] = embeddings["pets/train"].with_columns(pl.lit("another").alias("model"))
    listings, left_out = comparable(analysed.store, keys, embeddings, stats)
    assert (list(listings), list(left_out)) == (["test"], ["train"])
    assert "embedded with another, the others with efficientnet" in left_out["train"]
    del embeddings["pets/test"]
    assert comparable(analysed.store, keys, embeddings, stats)[1] == {"test": "it is not published"}


def test_kinds_come_from_the_statistics_of_both_splits(embedded: Embedded) -> None:
    splits = {"b": embedded(normal(3, 0)), "a": embedded(normal(3, 0))}
    stats = {"b": stats_of(["x", "y", "z"]), "a": stats_of(["x", "other", "z"])}
    leaks = split_leakage(splits, stats, settings_from({"threshold": 0.99}))
    kinds = {(i, j): kind for i, j, kind in leaks.select("from", "to", "kind").iter_rows()}
    assert kinds == {(0, 0): "identical_bytes", (1, 1): "similar", (2, 2): "identical_bytes"}
    assert leaks["verified_score"].null_count() == 0
    without = split_leakage(splits, {"b": stats["b"]}, settings_from({"threshold": 0.99}))
    assert without["kind"].unique().to_list() == ["near_duplicate"]
    assert without["verified_score"].null_count() == 3


def test_ids_are_those_of_the_tables_and_invalid_rows_are_left_out(embedded: Embedded) -> None:
    shared = normal(1, 0)[0]
    splits = {"b": embedded([None, shared], ids=[5, 9]), "a": embedded([shared, None], ids=[70, 80])}
    leaks = split_leakage(splits, {}, settings_from({"threshold": 0.99}))
    assert list(leaks.select("split_from", "from", "split_to", "to").iter_rows()) == [("a", 70, "b", 9)]


def test_nothing_to_compare_gives_an_empty_table(embedded: Embedded) -> None:
    alone = {"train": embedded(normal(5, 0))}
    with_empty = alone | {"test": embedded([None, *normal(1, 0)])[:1]}
    for splits in ({}, alone, with_empty, alone | {"test": embedded(-normal(5, 0)[:1])}):
        assert split_leakage(splits, {}, settings_from({"threshold": 0.99})).equals(SPLIT_LEAKAGE.frame())


def leak(*rows: tuple[str, int, str, int, str]) -> pl.DataFrame:
    columns = [[row[part] for row in rows] for part in range(5)]
    made = dict(zip(("split_from", "from", "split_to", "to", "kind"), columns, strict=True))
    return SPLIT_LEAKAGE.frame(made | {"distance": [0.95] * len(rows)})


def test_leak_rates_count_images_of_pairs_that_are_more_than_similar() -> None:
    leaks = leak(
        ("test", 0, "train", 0, "identical_bytes"),
        ("test", 0, "train", 1, "near_duplicate"),
        ("test", 1, "train", 1, "identical_pixels"),
        ("test", 2, "train", 2, "similar"),
        ("test", 3, "val", 0, "near_duplicate"),
    )
    rates = leak_rates(leaks, {"val": 4, "train": 10, "test": 5})
    assert rates.rows() == [
        ("test", "train", 3, 2, 2, 0.4, 0.2),
        ("test", "val", 1, 1, 1, 0.2, 0.25),
        ("train", "val", 0, 0, 0, 0.0, 0.0),
    ]


def test_leak_rates_of_no_leaks_and_of_an_empty_split_are_zero() -> None:
    rates = leak_rates(SPLIT_LEAKAGE.frame(), {"train": 3, "test": 0})
    assert rates.rows() == [("test", "train", 0, 0, 0, 0.0, 0.0)]
    assert leak_rates(SPLIT_LEAKAGE.frame(), {"train": 3}).is_empty()


def test_the_highest_rate_is_told_with_both_splits() -> None:
    leaks = leak(("test", 0, "train", 0, "identical_bytes"), ("test", 0, "train", 1, "near_duplicate"))
    rates = leak_rates(leaks, {"val": 4, "train": 10, "test": 4})
    assert highest_rate(rates) == "25.0% of test stands in train too (1 image)"
    assert highest_rate(leak_rates(leaks, {"train": 10})) == "there are no two splits to compare"
    assert highest_rate(rates, ["new"]).endswith("(1 image); new is not compared")


def test_a_limit_is_not_kept_by_a_split_that_is_published_and_could_not_be_compared() -> None:
    assert hides_leaks({"test": "its tables are mixed"}, 0.0)
    assert not hides_leaks({"test": "its tables are mixed"}, 1.0), "no limit"
    assert not hides_leaks({"test": NOT_PUBLISHED}, 0.0), "nothing that could have leaked"
    assert not hides_leaks({}, 0.0)


def test_the_worst_leaks_are_the_pairs_of_the_splits_over_the_limit_by_the_names_of_their_files() -> None:
    leaks = leak(
        ("test", 1, "train", 0, "identical_bytes"),
        ("test", 0, "train", 1, "similar"),
        ("test", 0, "val", 0, "near_duplicate"),
    )
    names = {split: pl.DataFrame({"index": [0, 1], "filename": [f"{split}-0", f"{split}-1"]}) for split in SPLITS}
    rates = leak_rates(leaks, {"val": 100, "train": 10, "test": 50})
    worst = worst_leaks(leaks, rates, names, limit=0.05)
    assert worst.drop("distance").rows() == [("test", "test-1", "train", "train-0", "identical_bytes")]
    assert worst_leaks(leaks, rates, names, limit=0.5).is_empty()
