"""Nearest neighbours of vectors: which index, over distinct vectors, every result re-scored exactly."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.settings import Settings, parse_parameters

if TYPE_CHECKING:
    import faiss

# faiss is imported where it is used: an analysis needs it once its images are read, and loads it meanwhile.

Vectors = NDArray[np.float32]

# Below this many vectors exact search is as fast as building and searching a graph (measured: at 60,000 x 576
# exact 16.2 s, HNSW32 13.5 s).
EXACT_BELOW = 65_536
# Candidates beyond k, so that re-scoring can mend the order that float32 sums blur.
_MARGIN = 8
_CANDIDATES_PER_RESULT = 16
_QUERY_BLOCK = 1_024
_SCORE_BLOCK = 512
_NEARLY_ZERO = np.float32(1e-30)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each query, best first.

    Attributes:
        ids: q x k, int64; -1 where there are fewer.
        scores: q x k, float32 similarity; -inf where there are fewer.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


def normalised(vectors: Vectors, distance: str) -> Vectors:
    """Rows scaled to length 1 for cosine; as they are for any other metric.

    Args:
        vectors: n x d, float32, no zero row for cosine.
    """
    if distance != "cosine":
        return np.ascontiguousarray(vectors, dtype=np.float32)
    scaled = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _SCORE_BLOCK):
        block = vectors[start : start + _SCORE_BLOCK].astype(np.float64)
        scaled[start : start + len(block)] = block / np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
    return scaled


def index_factory_string(n: int, settings: Settings) -> str:
    """The index that serves n vectors: `nnf_mode` is a request, exact search serves it while it is as fast."""
    return "Flat" if n < EXACT_BELOW and settings.nnf_mode == "HNSW32" else settings.nnf_mode


def new_index(width: int, factory: str, distance: str) -> faiss.Index:
    """An empty index.

    Raises:
        ValueError: if faiss knows no such index, or not for this metric and width.
    """
    import faiss

    metric = _metric(distance)
    try:
        index = faiss.index_factory(width, factory, metric)
    except RuntimeError as error:
        reason = str(error).rpartition(".cpp:")[2].partition(": ")[2] or str(error)  # after the place in faiss's source
        raise ValueError(f"nnf_mode={factory!r} with distance={distance!r}, d={width}: {reason}") from error
    return index


class NeighbourIndex:
    """An index over normalised vectors that can be searched many times.

    Args:
        vectors: n x d, float32, as `normalised` gives them.
        settings: metric, index, its parameters, threads.

    Raises:
        ValueError: if faiss knows no such index, or not with this metric.
    """

    def __init__(self, vectors: Vectors, settings: Settings) -> None:
        self._vectors = vectors
        self._settings = settings
        self.factory = index_factory_string(len(vectors), settings)
        self._index = None if self._is_plain else self._built()

    @property
    def _is_plain(self) -> bool:
        """Exact search by inner product or Euclidean distance needs no index, and so no copy of the vectors."""
        return self.factory == "Flat" and self._settings.distance in ("cosine", "euclidean")

    def _built(self) -> faiss.Index:
        settings, vectors = self._settings, self._vectors
        with faiss_threads(1 if settings.deterministic and self.factory != "Flat" else settings.threads):
            # A graph that several threads build depends on their timing; one thread gives one graph.
            index = new_index(vectors.shape[1], self.factory, settings.distance)
            searched = _for_faiss(vectors, settings.distance)
            try:
                if not index.is_trained:
                    index.train(searched)
                index.add(searched)
            except RuntimeError as error:
                raise ValueError(
                    f"nnf_mode={self.factory!r} cannot be built from {len(vectors)} distinct vectors; with few of them "
                    f"use Flat: {error}"
                ) from error
        return index

    def search(self, queries: Vectors, k: int) -> Neighbours:
        """The k nearest vectors of each query, scored exactly; ties go to the lower id.

        Args:
            queries: q x d, float32, normalised alike.
            k: at most n are returned.
        """
        n = len(self._vectors)
        wanted = min(n, k + _MARGIN)
        if self._index is not None:
            _look_far_enough(self._index, wanted, parse_parameters(self._settings.nnf_param))
        ids = np.full((len(queries), min(k, n)), -1, dtype=np.int64)
        scores = np.full(ids.shape, -np.inf, dtype=np.float32)
        with faiss_threads(self._settings.threads):
            for start in range(0, len(queries), _QUERY_BLOCK):
                block = queries[start : start + _QUERY_BLOCK]
                found = self._candidates(block, wanted)
                self._complete(block, found, ids.shape[1])
                best = self._rescored(block, found, ids.shape[1])
                ids[start : start + len(block)], scores[start : start + len(block)] = best
        return Neighbours(ids, scores)

    def _candidates(self, queries: Vectors, wanted: int) -> NDArray[np.int64]:
        """Ids of about the nearest, q x wanted."""
        distance = self._settings.distance
        if self._index is None:
            return self._exact(queries, wanted)
        return self._index.search(_for_faiss(queries, distance), wanted)[1]

    def _complete(self, queries: Vectors, found: NDArray[np.int64], k: int) -> None:
        """Searches exactly, in place, where an approximate index came back with fewer than k."""
        short = np.flatnonzero((found >= 0).sum(axis=1) < k)
        if len(short):
            found[short] = self._exact(queries[short], found.shape[1])
        for row in np.flatnonzero((found >= 0).sum(axis=1) < k):
            # A vector at an infinite distance is no result to faiss: those that it left out come last.
            left_out = np.setdiff1d(np.arange(len(self._vectors)), found[row])
            empty = np.flatnonzero(found[row] < 0)
            found[row, empty] = left_out[: len(empty)]

    def _rescored(
        self, queries: Vectors, found: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        exact = np.empty(found.shape, dtype=np.float32)
        step = max(1, _SCORE_BLOCK // found.shape[1])
        for start in range(0, len(queries), step):
            rows = slice(start, start + step)
            near = self._vectors[found[rows]]
            exact[rows] = similarity_of(queries[rows, None], near, self._settings.distance)
        exact[found < 0] = -np.inf
        order = np.lexsort((found, -exact), axis=1)[:, :k]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(exact, order, axis=1)

    def _exact(self, queries: Vectors, k: int) -> NDArray[np.int64]:
        """Ids of the nearest by brute force, q x k, on the vectors in place."""
        import faiss

        distance = self._settings.distance
        metric = _metric(distance)
        searched = _for_faiss(self._vectors, distance)
        return faiss.knn(_for_faiss(queries, distance), searched, k, metric=metric)[1]


def _look_far_enough(index: faiss.Index, wanted: int, given: dict[str, float]) -> None:
    """Sets how much of an approximate index is searched for so many neighbours, however it is wrapped."""
    import faiss

    inner = faiss.downcast_index(index)
    while (wrapped := getattr(inner, "index", None) or getattr(inner, "base_index", None)) is not None:
        inner = faiss.downcast_index(wrapped)
    if isinstance(inner, faiss.IndexHNSW):
        # A beam narrower than k cannot hold k results: the original's recall collapses there.
        inner.hnsw.efSearch = max(int(given.get("efSearch", 64)), 2 * wanted)
    elif isinstance(inner, faiss.IndexIVF):
        # Lists that together hold many times as many vectors as are wanted.
        lists = math.ceil(_CANDIDATES_PER_RESULT * wanted * inner.nlist / max(inner.ntotal, 1))
        inner.nprobe = min(inner.nlist, max(int(given.get("nprobe", 32)), lists))


# By `Settings.distance`: the end of the metric's name in faiss.
_METRICS = {
    "cosine": "INNER_PRODUCT",
    "euclidean": "L2",
    "l1": "L1",
    "linf": "Linf",
    "canberra": "Canberra",
    "braycurtis": "BrayCurtis",
    "jensenshannon": "JensenShannon",
}


def _metric(distance: str) -> int:
    import faiss

    metric: int = getattr(faiss, f"METRIC_{_METRICS[distance]}")
    return metric


def _for_faiss(vectors: Vectors, distance: str) -> Vectors:
    """Rows as faiss's metric wants them: it divides by zero at two zeros, and takes Jensen-Shannon rows as shares."""
    if distance == "jensenshannon":
        vectors = _shares(vectors.astype(np.float64)).astype(np.float32)
    if distance in ("jensenshannon", "canberra"):
        return np.where(vectors == 0, _NEARLY_ZERO, vectors)
    return vectors


def similarity_of(first: Vectors, second: Vectors, distance: str) -> NDArray[np.float32]:
    """Exact similarity of paired rows: cosine of normalised rows, else 1 / (1 + d) of the metric's distance d.

    Args:
        first: ... x d, float32.
        second: ... x d, float32; the leading axes are broadcast against those of `first`.
        distance: one of the metrics of `Settings.distance`.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    if distance == "cosine":
        return np.clip(np.einsum("...d,...d->...", a, b), -1.0, 1.0).astype(np.float32)
    return (1.0 / (1.0 + _true_distance(a, b, distance))).astype(np.float32)


def similarity_to_itself(vectors: Vectors, distance: str) -> NDArray[np.float32]:
    """What `similarity_of` gives for each row and itself: 1, but for rounding."""
    blocks = (vectors[start : start + _SCORE_BLOCK] for start in range(0, len(vectors), _SCORE_BLOCK))
    return np.concatenate([similarity_of(block, block, distance) for block in blocks])


def _true_distance(a: NDArray[np.float64], b: NDArray[np.float64], distance: str) -> NDArray[np.float64]:
    gap = np.abs(a - b)
    if distance == "euclidean":
        return np.sqrt(np.einsum("...d,...d->...", gap, gap))
    if distance == "l1":
        return gap.sum(axis=-1)
    if distance == "linf":
        return gap.max(axis=-1)
    if distance == "canberra":
        size = np.abs(a) + np.abs(b)
        return np.divide(gap, size, out=np.zeros_like(gap), where=size > 0).sum(axis=-1)
    if distance == "braycurtis":
        size, gaps = np.abs(a + b).sum(axis=-1), gap.sum(axis=-1)
        return np.divide(gaps, size, out=np.where(gaps > 0, np.inf, 0.0), where=size > 0)
    return _jensen_shannon(a, b)


def _jensen_shannon(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon distance of rows taken as weights: shifted to be non-negative and scaled to sum 1."""
    p, q = np.broadcast_arrays(_shares(a), _shares(b))
    middle = (p + q) / 2

    def divergence(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.divide(rows, middle, out=np.ones_like(rows), where=rows > 0)
        return np.sum(rows * np.log(ratio), axis=-1)

    return np.sqrt(np.maximum(0.0, (divergence(p) + divergence(q)) / 2))


def _shares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - np.minimum(rows.min(axis=-1, keepdims=True), 0.0)
    total = shifted.sum(axis=-1, keepdims=True)
    return np.divide(shifted, total, out=np.full_like(shifted, 1 / rows.shape[-1]), where=total > 0)


@contextlib.contextmanager
def faiss_threads(threads: int) -> Iterator[None]:
    """Runs faiss with so many threads; its setting is global, so it is put back."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
