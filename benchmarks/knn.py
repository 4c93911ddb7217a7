"""How right and how fast the k-nearest-neighbour graph is, and how its cost grows.

Recall is that of the graph stage against brute force: the share of an instance's true k nearest that it lists. A listed
neighbour as alike as the k-th true one counts as right, for which of two equals is listed is no matter of right.
Growth runs the stages from embeddings to components on synthetic vectors, each size in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from common import Inputs, images_in, judged, parser_for, say_header, say_table, write_json
from edits import SEED
from processes import MEGABYTE, measured, plain_environment
from scores import Array, unit
from v1_tools import ours

from fastdup_dagster.settings import Settings, settings_from
from fastdup_dagster.stages.components import components
from fastdup_dagster.stages.knn_graph import describe_index, knn_graph
from fastdup_dagster.stages.neighbours import normalised
from fastdup_dagster.stages.outliers import outliers
from fastdup_dagster.stages.similarity import similarity

COPIES = 400
# HNSW32 is a request that exact search serves while that is as fast; HNSW32,Flat is that index whatever the size. Its
# beam for 999 neighbours among some thousands visits most of them, at many times the cost of exact search.
ASKED = {"HNSW32": (1, 10, 100, 999), "HNSW32,Flat": (10, 100)}
JUDGED = (10, 999)
SIZES = (10_000, 100_000)
WIDTH = 576
# Instances whose neighbours are compared with the true ones.
SAMPLE = 2_000
WANTED_RECALL = 0.99
_BLOCK = 1_024
_TIE = 1e-6


@dataclass(frozen=True)
class Measured:
    """One graph.

    Attributes:
        mode: what was asked for.
        index: what served it.
        k: neighbours an instance.
        recall: 0 to 1, over a sample of the instances that were there before copies were added.
        seconds: of the graph stage as a whole, building the index included.
    """

    mode: str
    index: str
    k: int
    recall: float
    seconds: float


def table_of(vectors: Array) -> pl.DataFrame:
    """The table `embeddings` as the stage reads it; vectors float32 [n, d]."""
    embedding = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
    return pl.DataFrame({"index": np.arange(len(vectors))}).with_columns(embedding)


def recall(graph: pl.DataFrame, vectors: Array, k: int, rows: int) -> float:
    """Share of the listed neighbours that are at least as near as the k-th true one, of some of the first `rows`."""
    length = unit(vectors)
    targets = graph["to"].to_numpy().reshape(len(vectors), k)
    sample = np.sort(np.random.default_rng(SEED).choice(rows, min(rows, SAMPLE), replace=False))
    right = 0
    for start in range(0, len(sample), _BLOCK):
        asked = sample[start : start + _BLOCK]
        exact = length[asked] @ length.T
        exact[np.arange(len(asked)), asked] = -np.inf
        limit = np.partition(exact, -k, axis=1)[:, -k]
        right += int((np.take_along_axis(exact, targets[asked], axis=1) >= limit[:, None] - _TIE).sum())
    return right / (len(sample) * k)


def measure(vectors: Array, k: int, mode: str, threads: int, rows: int) -> Measured:
    """Builds one graph and judges it."""
    settings = settings_from({"nearest_neighbors_k": k, "nnf_mode": mode, "num_threads": threads})
    table = table_of(vectors)
    begun = time.perf_counter()
    graph = knn_graph(table, settings)
    seconds = time.perf_counter() - begun
    return Measured(mode, describe_index(len(vectors), settings), k, recall(graph, vectors, k, rows), seconds)


def with_copies(vectors: Array) -> Array:
    """The vectors, and one of them `COPIES` times more at the end."""
    return np.concatenate([vectors, np.repeat(vectors[len(vectors) // 2][None], COPIES, axis=0)])


def synthetic(count: int, seed: int) -> Array:
    """Vectors as a data set has them, float32 [count, 576].

    Points on a 24-dimensional manifold around count / 50 centres, a little noise in all directions, as features of
    images are; every 50th is an exact copy and every 50th a near copy of the one before it.
    """
    random = np.random.default_rng(seed)
    latent, centres = 24, max(count // 50, 1)
    basis = random.standard_normal((latent, WIDTH)).astype(np.float32)
    middle = random.standard_normal((centres, latent)).astype(np.float32)
    vectors = np.empty((count, WIDTH), dtype=np.float32)
    for start in range(0, count, 65_536):
        size = min(65_536, count - start)
        points = middle[random.integers(0, centres, size)]
        points += 0.5 * random.standard_normal((size, latent)).astype(np.float32)
        vectors[start : start + size] = points @ basis
        vectors[start : start + size] += 0.1 * random.standard_normal((size, WIDTH)).astype(np.float32)
    vectors[1::50] = vectors[0::50][: len(vectors[1::50])]
    near = vectors[2::50][: len(vectors[3::50])]
    vectors[3::50] = near + 0.05 * random.standard_normal(near.shape).astype(np.float32)
    return vectors


def one_size(count: int, mode: str, threads: int, seed: int) -> dict[str, Any]:
    """Stages from embeddings to components, timed, in this process."""
    settings = settings_from({"nnf_mode": mode, "num_threads": threads})
    table = table_of(synthetic(count, seed))
    before = _peak()
    timed: dict[str, Any] = {"n": count, "index": describe_index(count, settings)}
    begun = time.perf_counter()
    graph = knn_graph(table, settings)
    timed["knn_graph"] = time.perf_counter() - begun
    for name, stage in (("similarity", similarity), ("outliers", outliers), ("components", components)):
        begun = time.perf_counter()
        timed[f"rows of {name}"] = len(stage(graph, settings))
        timed[name] = time.perf_counter() - begun
    timed["edges"] = len(graph)
    timed["vectors_mb"] = count * WIDTH * 4 / MEGABYTE
    timed["peak_mb"], timed["peak_before_mb"] = _peak(), before
    timed["recall@2 of 2,000"] = _sampled_recall(graph, table, settings, seed)
    return timed


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def _sampled_recall(graph: pl.DataFrame, table: pl.DataFrame, settings: Settings, seed: int) -> float:
    """Recall of some instances, in blocks of the database: memory stays small."""
    vectors = table["embedding"].to_numpy()
    k = len(graph) // len(vectors)
    sample = np.sort(np.random.default_rng(seed).choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    queries = normalised(vectors[sample], settings.distance)
    best = np.full((len(sample), k), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), 65_536):
        block = normalised(vectors[start : start + 65_536], settings.distance)
        exact = queries @ block.T
        inside = np.flatnonzero((sample >= start) & (sample < start + len(block)))
        exact[inside, sample[inside] - start] = -np.inf
        best = -np.sort(-np.concatenate([best, exact], axis=1), axis=1)[:, :k]
    listed = graph["distance"].to_numpy().reshape(len(vectors), k)[sample]
    return float((listed >= best[:, -1:] - _TIE).mean())


def exponent(rows: Sequence[dict[str, Any]], field: str) -> float:
    """Slope of log time over log n between the first and the last row: 1 is a straight line, 2 a square."""
    first, last = rows[0], rows[-1]
    return math.log(last[field] / first[field]) / math.log(last["n"] / first["n"])


def growth(sizes: Sequence[int], mode: str, threads: int) -> list[dict[str, Any]]:
    """Every size in a fresh process."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="knn_") as name:
        for count in sizes:
            command = [sys.executable, Path(__file__).resolve(), "--one", str(count)]
            command += ["--mode", mode, "--threads", str(threads)]
            usage = measured(command, plain_environment(Path(name)), Path(name))
            rows.append(json.loads(usage.output.splitlines()[-1]))
            print(
                f"  n = {count:,}: knn_graph {rows[-1]['knn_graph']:.1f} s, peak {rows[-1]['peak_mb']:,.0f} MB",
                flush=True,
            )
    return rows


def say_growth(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the sizes and the slopes."""
    fields = ("knn_graph", "similarity", "outliers", "components")
    say_table(
        ["n", "index", *(f"{field} s" for field in fields), "recall@2", "vectors MB", "peak MB", "peak / vectors"],
        [
            [
                f"{r['n']:,}",
                r["index"],
                *(f"{r[f]:.2f}" for f in fields),
                f"{r['recall@2 of 2,000']:.4f}",
                r["vectors_mb"],
                r["peak_mb"],
                r["peak_mb"] / r["vectors_mb"],
            ]
            for r in rows
        ],
    )
    for index in dict.fromkeys(r["index"] for r in rows):
        same = [r for r in rows if r["index"] == index]
        if len(same) > 1:
            print(f"\n{index}: time of knn_graph grows with n to the power of {exponent(same, 'knn_graph'):.2f}")


def say_recall(folder: Path, threads: int, list_file: Path | None) -> dict[str, Any]:
    """Recall on the vectors of a folder of images, with and without copies."""
    files = images_in(folder)
    print(f"input  {Inputs('images', folder, files).describe(list_file)}")
    with tempfile.TemporaryDirectory(prefix="knn_") as name:
        vectors, _ = ours().vectors(folder.absolute(), files, Path(name), threads)
    found: dict[str, list[Measured]] = {}
    for name, rows in (("as they are", vectors), (f"with {COPIES} identical rows", with_copies(vectors))):
        found[name] = [measure(rows, k, mode, threads, len(vectors)) for mode, ks in ASKED.items() for k in ks]
    say_table(
        ["vectors", "asked for", "served by", "k", "recall@k", "graph s"],
        [
            [name, m.mode, m.index, m.k, f"{m.recall:.4f}", f"{m.seconds:.2f}"]
            for name, measures in found.items()
            for m in measures
        ],
    )
    print()
    for name, measures in found.items():
        for m in measures:
            if m.k in JUDGED:
                print(judged(f"recall@{m.k} of {m.mode}, {name}", m.recall, WANTED_RECALL))
    return {name: [asdict(m) for m in measures] for name, measures in found.items()}


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = parser_for(
        "Recall and speed of the k-nearest-neighbour graph, and growth with n.",
        "  python benchmarks/knn.py --images CIFAR\n  python benchmarks/knn.py --growth\n"
        "  python benchmarks/knn.py --growth --sizes 10000,100000,1000000\n"
        "  python benchmarks/knn.py --growth --mode IVF256,Flat",
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="recall on the vectors of these images")
    parser.add_argument("--growth", action="store_true", help="growth on synthetic vectors")
    parser.add_argument(
        "--sizes", default=",".join(map(str, SIZES)), help="numbers of vectors, ascending (10000,100000)"
    )
    parser.add_argument("--mode", default="HNSW32", help="nnf_mode of the growth (HNSW32)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not (given.images or given.growth or given.one):
        parser.error("nothing to do: give --images FOLDER, --growth, or both")
    return given


def main() -> None:
    """Measure and print."""
    given = arguments()
    if given.one:
        print(json.dumps(one_size(given.one, given.mode, given.threads, SEED)))
        return
    figures = say_header([], SEED)
    if given.images:
        figures["recall"] = say_recall(given.images, given.threads, given.list_inputs)
    if given.growth:
        print(f"\ninput  synthetic vectors, {WIDTH} wide, seed {SEED}")
        figures["growth"] = growth([int(size) for size in given.sizes.split(",")], given.mode, given.threads)
        say_growth(figures["growth"])
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
