"""The graph: each valid instance's k nearest other instances."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from fastdup_dagster.memory import trim_memory
from fastdup_dagster.schemas import KNN_GRAPH
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.neighbours import (
    NeighbourIndex,
    Vectors,
    index_factory_string,
    normalised,
    similarity_to_itself,
)

_MOVED = 4_096
GRAPH_SETTINGS = ("distance", "nearest_neighbors_k", "nnf_mode", "nnf_param", "deterministic")


def knn_graph(embeddings: pl.DataFrame | Iterable[pl.DataFrame], settings: Settings) -> pl.DataFrame:
    """Builds the directed k-nearest-neighbour graph.

    Every valid instance gets exactly min(k, n - 1) edges to other instances, best first; ties go to the lower
    index. Equal vectors are indexed once and expanded afterwards, so copies cost nobody else a neighbour.
    Cost: exact search grows with n squared, HNSW with about n log n.

    Args:
        embeddings: the table `embeddings`, or blocks of it, so that vectors are in memory once; rows without a vector
            are left out.
        settings: metric, k, index.

    Returns:
        The table `knn_graph`, sorted by `from` and `rank`.
    """
    blocks = [embeddings] if isinstance(embeddings, pl.DataFrame) else embeddings
    ids, vectors, hashes = _gathered(blocks, settings.distance)
    if len(ids) < 2:
        return KNN_GRAPH.frame()
    k = min(settings.nearest_neighbors_k, len(ids) - 1)
    groups = CopyGroups(hashes)
    distinct = _compacted(vectors, groups.first)
    own = similarity_to_itself(distinct, settings.distance)
    found = NeighbourIndex(distinct, settings).search(distinct, k + 1)
    source, target, rank, score = groups.expand(found.ids, found.scores, own, k)
    return KNN_GRAPH.frame({"from": ids[source], "to": ids[target], "rank": rank, "distance": score})


def describe_index(n: int, settings: Settings) -> str:
    """The faiss factory string of the index that serves n vectors under these settings."""
    return index_factory_string(n, settings)


def valid_vectors(embeddings: pl.DataFrame) -> tuple[NDArray[np.int64], Vectors]:
    """Indexes (n, int64) and raw vectors (n x d, float32) of the rows that have one."""
    rows = embeddings.select("index", "embedding")
    if rows["embedding"].null_count():  # else numpy sees the frame's own memory
        rows = rows.filter(pl.col("embedding").is_not_null())
    width = rows.schema["embedding"].size  # type: ignore[attr-defined]
    return rows["index"].to_numpy(), rows["embedding"].to_numpy().reshape(len(rows), width)


def _gathered(blocks: Iterable[pl.DataFrame], distance: str) -> tuple[NDArray[np.int64], Vectors, NDArray[np.void]]:
    """Indexes (n), normalised vectors (n x d) and hashes of the raw ones (n) of all rows that have a vector."""
    ids, hashes = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype="V16")]
    vectors = np.empty((0, 0), dtype=np.float32)
    for block in blocks:
        index, raw = valid_vectors(block)
        ids.append(index)
        hashes.append(vector_hashes(raw))
        # Grown where it lies, so that memory never holds the vectors twice.
        vectors.resize((len(vectors) + len(raw), raw.shape[1]), refcheck=False)
        vectors[len(vectors) - len(raw) :] = normalised(raw, distance)
        trim_memory()
    return np.concatenate(ids), vectors, np.concatenate(hashes)


def vector_hashes(vectors: Vectors) -> NDArray[np.void]:
    """Hashes (n, 16 bytes each) of raw vectors (n x d, float32): equal where the vectors are."""
    return np.array([xxhash.xxh3_128_digest(row.data) for row in np.ascontiguousarray(vectors)], dtype="V16")


def _compacted(vectors: Vectors, rows: NDArray[np.int64]) -> Vectors:
    """Some rows of the vectors, moved to their front in place; `rows` ascend."""
    if len(rows) == len(vectors):
        return vectors
    for start in range(0, len(rows), _MOVED):
        moved = rows[start : start + _MOVED]
        vectors[start : start + len(moved)] = vectors[moved]
    return vectors[: len(rows)]


_Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


class CopyGroups:
    """Rows with the very same vector, as groups numbered by their first row.

    Attributes:
        first: g, int64: first row of each group.
        group: n, int64: the group of each row.
    """

    def __init__(self, hashes: NDArray[np.void]) -> None:
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        order = np.argsort(first)  # np.unique sorts by hash; number the groups by first appearance instead
        self.first = first[order]
        self.group = np.argsort(order)[inverse]
        self._members = np.argsort(self.group, kind="stable")
        self._sizes = np.bincount(self.group, minlength=len(first))
        self._ends = np.cumsum(self._sizes)

    def members(self, group: int, limit: int) -> NDArray[np.int64]:
        """The first rows of a group, at most `limit`."""
        start = self._ends[group - 1] if group else 0
        return self._members[start : min(self._ends[group], start + limit)]

    def expand(self, ids: NDArray[np.int64], scores: NDArray[np.float32], own: NDArray[np.float32], k: int) -> _Edges:
        """Edges between rows from the neighbours between groups.

        Args:
            ids: g x m, int64: neighbouring groups, the group itself among them or not.
            scores: g x m, float32: their similarity.
            own: g, float32: similarity of a group's vector to itself.
            k: edges a row gets.
        """
        copied = (self._sizes > 1) | (self._sizes[ids] > 1).any(axis=1)
        single = np.flatnonzero(~copied)
        parts = [_without_itself(self.first[single], self.first[ids[single]], scores[single], k)]
        for group in np.flatnonzero(copied):
            rows = self.members(int(group), len(self.group))
            targets, values = self._candidates(int(group), ids[group], scores[group], own[group], k)
            grid = np.broadcast_to(targets[: k + 1], (len(rows), k + 1))
            parts.append(_without_itself(rows, grid, np.broadcast_to(values[: k + 1], grid.shape), k))
        source, target, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(source, kind="stable")
        rank = np.tile(np.arange(1, k + 1, dtype=np.int32), len(self.group))
        return source[order], target[order], rank, value[order]

    def _candidates(
        self, group: int, ids: NDArray[np.int64], scores: NDArray[np.float32], own: np.float32, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At least k + 1 rows, most alike first, ties by row; the group's own rows among them."""
        others = (ids >= 0) & (ids != group)
        near = np.append(group, ids[others])
        counts = np.minimum(self._sizes[near], k + 1)
        starts = self._ends[near] - self._sizes[near]
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - starts, counts)
        targets = self._members[place]
        values = np.repeat(np.append(own, scores[others]), counts)
        order = np.lexsort((targets, -values))
        return targets[order], values[order]


def _without_itself(
    rows: NDArray[np.int64], targets: NDArray[np.int64], values: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """K edges a row out of k + 1 ordered candidates: not the row itself, or not the last one.

    Args:
        rows: r, int64.
        targets: r x (k + 1), int64.
        values: r x (k + 1), float32.
    """
    surplus = targets == rows[:, None]
    surplus[~surplus.any(axis=1), -1] = True
    return np.repeat(rows, k), targets[~surplus], values[~surplus]
