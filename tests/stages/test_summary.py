"""The numbers of a split, against hand-made tables and brute force."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdup_dagster import schemas
from fastdup_dagster.stages.summary import (
    KINDS,
    MEASURES,
    PAIR_THRESHOLDS,
    SplitSummary,
    add_up,
    invalid_instances,
    leaked_images,
    pairs_at_thresholds,
    summarise,
    unordered_pairs,
    valid_stats,
)

EDGES = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.integers(0, 8),
        st.sampled_from([0.5, 0.8, 0.85, 0.9, 0.9399, 0.94, 0.99, 1.0]),
        st.sampled_from(list(KINDS)),
    ).filter(lambda edge: edge[0] != edge[1]),
    max_size=40,
    unique_by=lambda edge: edge[:2],
)


def _symmetric(edges):
    """A pair has one similarity and one kind, whichever way its edge points."""
    first = {}
    return [(a, b, *first.setdefault(frozenset((a, b)), (s, kind))) for a, b, s, kind in edges]


def test_the_numbers_of_a_split_are_those_counted_by_hand(split):
    summary = summarise(split.tables)
    assert summary == SplitSummary(
        images=17,
        invalid=4,
        exact_duplicates=2,
        pixel_duplicates=1,
        near_duplicate_pairs=1,
        pairs=5,
        clusters=2,
        images_in_clusters=7,
        largest_cluster=5,
        outliers=3,
        blurry=3,
        dark=1,
        bright=1,
        leaked=None,
        pairs_by_kind={"identical_bytes": 2, "identical_pixels": 1, "near_duplicate": 1, "similar": 1},
        pairs_at={0.8: 6, 0.85: 6, 0.9: 5, 0.92: 5, 0.94: 4, 0.96: 4, 0.98: 3, 0.99: 3, 1.0: 3},
        invalid_by_code={"ZERO_SIZE_FILE": 2, "CORRUPT_IMAGE": 1, "MISSING_FILE": 1},
    )
    assert summary.valid == 13


def test_every_measure_is_a_field_of_the_summary(split):
    summary = summarise(split.tables, leaked=3)
    assert [getattr(summary, measure.field) for measure in MEASURES] == [17, 4, 0, 2, 1, 2, 3, 3, 1, 1, 3]


def test_files_that_end_early_are_counted_though_they_are_valid(split):
    stats = split.tables.img_stats
    cut = valid_stats(split.tables)["index"][:2]
    marked = stats.with_columns(pl.col("index").is_in(cut.implode()).alias("is_truncated"))
    assert summarise(replace(split.tables, img_stats=marked)).truncated == 2


def test_the_numbers_survive_json(split):
    values = summarise(split.tables).as_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["valid"] == 13
    assert values["pairs_at"]["0.90"] == 5


def test_a_split_without_images_counts_zero(empty_tables):
    summary = summarise(empty_tables)
    assert (summary.images, summary.pairs, summary.clusters, summary.blurry, summary.largest_cluster) == (0, 0, 0, 0, 0)


def test_crops_of_one_file_are_no_exact_copies(split):
    crops = split.tables.manifest.with_columns(pl.lit("crop").alias("media"))
    assert summarise(replace(split.tables, manifest=crops)).exact_duplicates == 0


def test_statistics_that_were_not_computed_are_none_not_zero(split):
    nothing = [pl.lit(None, dtype=pl.Boolean).alias(name) for name in ("is_blurry", "is_dark", "is_bright")]
    summary = summarise(replace(split.tables, img_stats=split.tables.img_stats.with_columns(nothing)))
    assert (summary.blurry, summary.dark, summary.bright) == (None, None, None)


def test_an_unusable_feature_vector_makes_its_image_invalid_and_uncounted(split):
    bad = pl.DataFrame({"index": [9], "error_code": ["INVALID_EMBEDDING"], "error": ["all zero"]})
    tables = replace(split.tables, embeddings=bad)
    assert invalid_instances(tables)["index"].to_list() == [9, 13, 14, 15, 16]
    assert summarise(tables).blurry == 2


def test_sums_take_the_largest_cluster_and_leave_out_what_was_not_computed(split):
    one = summarise(split.tables, leaked=2)
    two = replace(one, largest_cluster=9, blurry=None, leaked=None)
    total = add_up([one, two])
    assert (total.images, total.largest_cluster, total.blurry, total.leaked) == (34, 9, 3, 2)
    assert total.pairs_at[0.9] == 10
    assert total.pairs_by_kind == {kind: 2 * n for kind, n in one.pairs_by_kind.items()}
    assert add_up([two, two]).blurry is None


def test_pairs_are_listed_most_alike_first_and_noise_of_float32_does_not_reorder_them(split):
    pairs = unordered_pairs(split.tables.similarity)
    assert pairs.select("from", "to").rows() == [(0, 1), (0, 2), (0, 3), (0, 4), (5, 6)]
    assert pairs["kind"].to_list()[:4] == ["identical_bytes", "identical_bytes", "identical_pixels", "near_duplicate"]


@settings(deadline=None)
@given(EDGES)
def test_each_unordered_pair_appears_once_with_its_own_similarity(edges):
    edges = _symmetric(edges)
    table = schemas.SIMILARITY.frame(
        pl.DataFrame(edges, schema=["from", "to", "distance", "kind"], orient="row")
        if edges
        else {"from": [], "to": [], "distance": [], "kind": []}
    )
    pairs = unordered_pairs(table)
    expected = {(min(a, b), max(a, b)): s for a, b, s, _ in edges}
    found = {(a, b): s for a, b, s in pairs.select("from", "to", "distance").iter_rows()}
    assert found == pytest.approx(expected)
    assert pairs.height == len(expected)
    assert pairs["distance"].is_sorted(descending=True)


@settings(deadline=None)
@given(EDGES)
def test_pairs_at_each_threshold_equal_a_plain_count(edges):
    edges = _symmetric(edges)
    columns = {"from": [e[0] for e in edges], "to": [e[1] for e in edges], "distance": [e[2] for e in edges]}
    graph = schemas.KNN_GRAPH.frame(columns | {"rank": [1] * len(edges)})
    scores = {frozenset(edge[:2]): edge[2] for edge in edges}
    expected = {t: sum(score >= t for score in scores.values()) for t in PAIR_THRESHOLDS}
    assert pairs_at_thresholds(graph) == expected


def test_an_image_that_leaks_twice_counts_once_and_a_similar_one_not_at_all():
    leaks = schemas.SPLIT_LEAKAGE.frame(
        {
            "split_from": ["test", "test", "test", "train"],
            "from": [0, 0, 5, 1],
            "split_to": ["train", "train", "train", "val"],
            "to": [1, 2, 9, 7],
            "distance": [1.0, 0.97, 0.95, 0.96],
            "kind": ["identical_bytes", "near_duplicate", "similar", "near_duplicate"],
        }
    )
    assert leaked_images(leaks) == {"test": 1, "train": 2, "val": 1}
