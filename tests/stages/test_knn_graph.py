"""Each valid instance has exactly min(k, n - 1) edges to its nearest others, scored exactly, whatever copies it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance

from fastdup_dagster.schemas import EMBEDDINGS, KNN_GRAPH
from fastdup_dagster.settings import settings_from
from fastdup_dagster.stages import neighbours
from fastdup_dagster.stages.components import components
from fastdup_dagster.stages.knn_graph import describe_index, knn_graph, valid_vectors
from fastdup_dagster.stages.neighbours import parse_parameters, similarity_of
from fastdup_dagster.stages.similarity import similarity
from fastdup_dagster.storage import table_digest

Embedded = Callable[..., pl.DataFrame]
METRICS = ["euclidean", "l1", "linf", "canberra", "braycurtis", "jensenshannon"]


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def with_copies(vectors: np.ndarray, copies: int, seed: int = 0) -> np.ndarray:
    """The first vector stands `copies` times among the others, at random places."""
    rows = np.concatenate([vectors, np.repeat(vectors[:1], copies - 1, axis=0)])
    return rows[np.random.default_rng(seed).permutation(len(rows))]


def check(graph: pl.DataFrame, scores: np.ndarray, k: int) -> None:
    """The rules of every graph, against an n x n table of similarities.

    Args:
        graph: the table `knn_graph` of instances 0 to n - 1.
        scores: n x n, float64.
        k: neighbours asked for.
    """
    n, each = len(scores), min(k, len(scores) - 1)
    assert graph.schema == KNN_GRAPH.frame().schema
    source, target, rank, found = (graph[name].to_numpy() for name in KNN_GRAPH.names)
    assert np.array_equal(source, np.repeat(np.arange(n), each))
    assert np.array_equal(rank, np.tile(np.arange(1, each + 1), n))
    assert not np.any(source == target)
    assert graph.select("from", "to").is_duplicated().sum() == 0
    assert target.min() >= 0
    assert target.max() < n
    assert np.abs(scores[source, target] - found).max() < 1e-6  # an edge's score is that of its two ends
    others = scores.copy()
    np.fill_diagonal(others, -np.inf)
    best = -np.sort(-others, axis=1)[:, :each]
    by_rank = found.reshape(n, each)
    assert np.abs(best - by_rank).max() < 1e-6  # nothing nearer was left out
    assert np.all(np.diff(by_rank, axis=1) <= 0)


def cosines(vectors: np.ndarray) -> np.ndarray:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact @ exact.T


def similarities(vectors: np.ndarray, metric: str) -> np.ndarray:
    """1 / (1 + scipy's distance), in float64."""
    exact = vectors.astype(np.float64)
    name = {"l1": "cityblock", "linf": "chebyshev"}.get(metric, metric)
    return 1 / (1 + scipy_distance.cdist(exact, exact, name))


def test_the_fixture_of_the_contract_pins_both_threshold_rules(embedded: Embedded) -> None:
    vectors = np.concatenate([np.eye(4), np.ones((1, 4))])
    graph = knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": 4}))
    assert graph.filter((pl.col("from") == 4) | (pl.col("to") == 4))["distance"].to_list() == [0.5] * 8

    def rows(threshold: float) -> int:
        return similarity(graph, settings_from({"threshold": threshold})).height

    def joined(threshold: float) -> int:
        return components(graph, settings_from({"cc_threshold": threshold})).height

    assert (rows(0.5), rows(0.4)) == (0, 8)
    assert (joined(0.5), joined(0.5001)) == (5, 0)


@pytest.mark.parametrize("k", [1, 2, 5, 49, 50, 51, 999])
def test_cosine_neighbours_are_those_of_brute_force_for_any_k(embedded: Embedded, k: int) -> None:
    vectors = normal(50, 12)
    check(knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": k})), cosines(vectors), k)


@pytest.mark.parametrize("k", [0, -1])
def test_k_under_one_is_a_value_error(k: int) -> None:
    with pytest.raises(ValueError, match=f"nearest_neighbors_k={k}"):
        settings_from({"nearest_neighbors_k": k})


@pytest.mark.parametrize("k", [1, 10, 399, 400, 999, 1_000])
def test_four_hundred_copies_among_a_thousand_cost_nobody_a_neighbour(embedded: Embedded, k: int) -> None:
    vectors = with_copies(normal(601, 8), 400)
    graph = knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": k}))
    check(graph, cosines(vectors), k)


def test_a_folder_of_copies_only_is_a_graph(embedded: Embedded) -> None:
    vectors = np.repeat(normal(1, 8), 30, axis=0)
    for k in (1, 5, 29, 30):
        check(knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": k})), np.ones((30, 30)), k)


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=24),
    st.integers(1, 30),
    st.sampled_from(["cosine", "euclidean", "l1"]),
    st.integers(0, 3),
)
def test_the_rules_hold_for_any_mixture_of_copies(
    embedded: Embedded, which: list[int], k: int, metric: str, seed: int
) -> None:
    vectors = normal(6, 4, seed)[which]
    settings = settings_from({"nearest_neighbors_k": k, "distance": metric, "nnf_mode": "Flat"})
    scores = cosines(vectors) if metric == "cosine" else similarities(vectors, metric)
    check(knn_graph(embedded(vectors), settings), scores, k)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any), min_size=2, max_size=20),
    st.integers(1, 5),
)
def test_the_rules_hold_for_vectors_full_of_ties_opposites_and_zeros(
    embedded: Embedded, rows: list[list[int]], k: int
) -> None:
    vectors = np.array(rows, dtype=np.float32)
    check(knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": k})), cosines(vectors), k)
    for metric in ("canberra", "linf", "braycurtis"):
        settings = settings_from({"nearest_neighbors_k": k, "distance": metric, "nnf_mode": "Flat"})
        with np.errstate(all="ignore"):
            scores = np.nan_to_num(similarities(vectors, metric), nan=1.0)
        check(knn_graph(embedded(vectors), settings), scores, k)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["positive", "with zeros", "with copies"])
def test_the_other_metrics_are_those_of_scipy(embedded: Embedded, metric: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.random((80, 10)).astype(np.float32)
    if kind == "with zeros":  # as the features of a network that ends in a ReLU
        vectors *= rng.random((80, 10)) < 0.4
        vectors[:, 0] += 0.01
    if kind == "with copies":
        vectors = with_copies(vectors, 20)
    settings = settings_from({"nearest_neighbors_k": 6, "distance": metric, "nnf_mode": "Flat"})
    check(knn_graph(embedded(vectors), settings), similarities(vectors, metric), 6)


@pytest.mark.parametrize("metric", ["euclidean", "l1", "linf", "canberra", "braycurtis"])
def test_the_other_metrics_are_those_of_scipy_on_numbers_of_both_signs(embedded: Embedded, metric: str) -> None:
    vectors = normal(80, 10)
    settings = settings_from({"nearest_neighbors_k": 6, "distance": metric, "nnf_mode": "Flat"})
    check(knn_graph(embedded(vectors), settings), similarities(vectors, metric), 6)


def test_jensen_shannon_takes_rows_of_both_signs_as_shares_over_their_lowest_value(embedded: Embedded) -> None:
    vectors = normal(60, 10)
    settings = settings_from({"nearest_neighbors_k": 6, "distance": "jensenshannon", "nnf_mode": "Flat"})
    shifted = vectors - np.minimum(vectors.min(axis=1, keepdims=True), 0)
    check(knn_graph(embedded(vectors), settings), similarities(shifted, "jensenshannon"), 6)


@given(st.sampled_from(["cosine", *METRICS]), st.integers(0, 50))
def test_similarity_is_symmetric_and_one_to_itself(metric: str, seed: int) -> None:
    first, second = np.abs(normal(5, 6, seed)), np.abs(normal(5, 6, seed + 1))
    if metric == "cosine":
        first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second))
    assert np.array_equal(similarity_of(first, second, metric), similarity_of(second, first, metric))
    assert similarity_of(first, first, metric) == pytest.approx(np.ones(5), abs=1e-6)


def test_vectors_far_from_the_origin_keep_their_neighbours(embedded: Embedded) -> None:
    vectors = (100 + np.random.default_rng(0).normal(0, 0.01, (300, 32))).astype(np.float32)
    settings = settings_from({"nearest_neighbors_k": 5, "distance": "euclidean", "nnf_mode": "Flat"})
    check(knn_graph(embedded(vectors), settings), similarities(vectors, "euclidean"), 5)


def test_the_length_of_a_vector_does_not_matter_to_cosine(embedded: Embedded) -> None:
    vectors = normal(40, 6)
    scaled = vectors * np.logspace(-12, 12, 40, dtype=np.float64)[:, None].astype(np.float32)
    check(knn_graph(embedded(scaled), settings_from({"nearest_neighbors_k": 3})), cosines(vectors), 3)


def test_ties_go_to_the_lower_index(embedded: Embedded) -> None:
    vectors = np.concatenate([np.eye(6), np.eye(6)])
    graph = knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": 3}))
    assert graph.filter(pl.col("from") == 8)["to"].to_list() == [2, 0, 1]
    assert graph.filter(pl.col("from") == 0)["to"].to_list() == [6, 1, 2]


def test_rows_without_a_vector_are_no_instances_and_ids_need_not_be_dense(embedded: Embedded) -> None:
    rows = [*normal(3, 4), None, *normal(2, 4, 1), None]
    table = embedded(rows, ids=[10, 11, 15, 16, 20, 30, 31])
    graph = knn_graph(table, settings_from({"nearest_neighbors_k": 9}))
    assert set(graph["from"]) == set(graph["to"]) == {10, 11, 15, 20, 30}
    assert graph.height == 5 * 4
    ids, vectors = valid_vectors(table)
    assert ids.tolist() == [10, 11, 15, 20, 30]
    assert vectors.dtype == np.float32


def test_fewer_than_two_instances_have_no_edges(embedded: Embedded) -> None:
    for table in (EMBEDDINGS.frame(), embedded(normal(1, 4)), embedded([None, *normal(1, 4), None])):
        assert knn_graph(table, settings_from({})).equals(KNN_GRAPH.frame())


def test_two_instances_have_an_edge_each(embedded: Embedded) -> None:
    graph = knn_graph(embedded(normal(2, 4)), settings_from({}))
    assert list(graph.select("from", "to", "rank").iter_rows()) == [(0, 1, 1), (1, 0, 1)]


@pytest.mark.parametrize(
    "mode", ["Flat", "HNSW32", "IVF16,Flat", "IVF16_HNSW32,Flat", "HNSW16,SQ8", "PCA16,Flat", "SQfp16"]
)
@pytest.mark.parametrize("k", [5, 300])
def test_any_index_gives_exactly_k_true_edges_and_does_not_lose_recall_at_large_k(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch, mode: str, k: int
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_BELOW", 100)
    vectors = with_copies(normal(700, 24), 40)
    settings = settings_from({"nearest_neighbors_k": k, "nnf_mode": mode, "nnf_param": "nprobe=16"})
    graph = knn_graph(embedded(vectors), settings)
    assert graph.height == 739 * k
    assert graph.select("from", "to").is_duplicated().sum() == 0
    assert graph.filter(pl.col("from") == pl.col("to")).is_empty()
    exact = cosines(vectors)
    assert np.abs(exact[graph["from"].to_numpy(), graph["to"].to_numpy()] - graph["distance"].to_numpy()).max() < 1e-6
    np.fill_diagonal(exact, -np.inf)
    kth = -np.sort(-exact, axis=1)[:, k - 1]
    recall = np.mean(graph["distance"].to_numpy() >= kth[graph["from"].to_numpy()] - 1e-6)
    assert recall > (0.5 if mode.startswith("PCA") else 0.95)


@pytest.mark.parametrize("mode", ["PCA24,HNSW16", "PCAR24,IVF64,Flat", "IVF64,Flat", "HNSW16,Flat"])
def test_a_wrapped_index_looks_further_for_more_neighbours_too(embedded: Embedded, mode: str) -> None:
    vectors, k = normal(3_000, 24), 300
    graph = knn_graph(embedded(vectors), settings_from({"nearest_neighbors_k": k, "nnf_mode": mode}))
    exact = cosines(vectors)
    np.fill_diagonal(exact, -np.inf)
    kth = -np.partition(-exact, k - 1, axis=1)[:, k - 1]
    assert np.mean(graph["distance"].to_numpy() >= kth[graph["from"].to_numpy()] - 1e-6) > 0.95


@pytest.mark.parametrize("mode", ["HNSW32", "IVF16,Flat"])
def test_an_approximate_graph_does_not_depend_on_threads(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_BELOW", 100)
    table = embedded(normal(1_500, 16))
    digests = {
        table_digest(KNN_GRAPH, knn_graph(table, settings_from({"nnf_mode": mode, "num_threads": threads})))
        for threads in (1, 4, 4)
    }
    assert len(digests) == 1


def test_exact_search_does_not_depend_on_threads(embedded: Embedded) -> None:
    table = embedded(with_copies(normal(1_500, 16), 30))
    digests = {table_digest(KNN_GRAPH, knn_graph(table, settings_from({"num_threads": n}))) for n in (1, 2, 4)}
    assert len(digests) == 1


def test_the_index_that_serves_is_exact_while_that_is_as_fast() -> None:
    assert describe_index(1_000, settings_from({})) == "Flat"
    assert describe_index(10_000_000, settings_from({})) == "HNSW32"
    assert describe_index(1_000, settings_from({"nnf_mode": "IVF16,Flat"})) == "IVF16,Flat"


@pytest.mark.parametrize("mode", ["Nonsense", "LSH"])
def test_an_index_that_faiss_does_not_know_is_a_value_error_that_names_it(embedded: Embedded, mode: str) -> None:
    with pytest.raises(ValueError, match=f"nnf_mode='{mode}'") as told:
        knn_graph(embedded(normal(30, 8)), settings_from({"nnf_mode": mode}))
    assert ".cpp" not in str(told.value)


def test_an_index_that_needs_more_vectors_is_a_value_error_that_says_what_to_do(embedded: Embedded) -> None:
    with pytest.raises(ValueError, match=r"nnf_mode='IVF64,Flat'.*30 distinct vectors.*Flat"):
        knn_graph(embedded(normal(30, 8)), settings_from({"nnf_mode": "IVF64,Flat"}))


def test_search_parameters_are_read_and_wrong_ones_named() -> None:
    assert parse_parameters("efSearch=256, nprobe = 32,") == {"efSearch": 256, "nprobe": 32}
    assert parse_parameters("") == {}
    with pytest.raises(ValueError, match="'nprobe' is not name=number"):
        parse_parameters("nprobe")
    with pytest.raises(ValueError, match="'efSearch=many' is not name=number"):
        parse_parameters("efSearch=many")
    with pytest.raises(ValueError, match="unknown parameter 'ef'; known: efSearch, nprobe"):
        parse_parameters("ef=3")
