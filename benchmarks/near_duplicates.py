"""Near duplicates that people found between the CIFAR-10 splits: does the ranking put them first?

Each test image is ranked by the score of its best pair among its 10 nearest train images. A pair counts as right if
people listed it. At most one partner per test image is listed: recall is exact, average precision a lower bound.
"""

from __future__ import annotations

import csv
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from common import Inputs, images_in, judged, parser_for, say_header, say_table, write_json
from scores import Array, average_precision, unit
from v1_tools import Tool, add_fastdup_argument, fastdup, fastdup_version, ours

from fastdup_dagster.schemas import IMAGE_MANIFEST, IMG_STATS
from fastdup_dagster.stages.verification import thumbnail_match
from fastdup_dagster.storage import TableStore

NEAREST = 10
QUERIES, DATABASE = "test", "train"
WANTED_AP, WANTED_RECALL, WANTED_GAIN = 0.77, 0.90, 0.12


@dataclass(frozen=True)
class Ranking:
    """What a score is worth.

    Attributes:
        average_precision: of the test images, by the score of their best pair.
        recall_at_1: share of the listed pairs whose test image has its partner as its best pair.
    """

    average_precision: float
    recall_at_1: float


@dataclass(frozen=True)
class Candidates:
    """The nearest train images of each test image.

    Attributes:
        nearest: tests x 10, int64, positions among the train images.
        cosine: tests x 10, float64.
    """

    nearest: Array
    cosine: Array


def candidates(queries: Array, database: Array) -> Candidates:
    """Exact nearest neighbours by cosine; both float [n, d]."""
    similarity = unit(queries) @ unit(database).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
    return Candidates(nearest, np.take_along_axis(similarity, nearest, axis=1))


def judge(found: Candidates, scores: Array, partners: Array) -> Ranking:
    """Rank test images by their best pair.

    Args:
        found: tests x 10.
        scores: tests x 10.
        partners: tests, int64: position of the listed train image, -1 for none.
    """
    best = scores.argmax(axis=1)
    rows = np.arange(len(best))
    right = found.nearest[rows, best] == partners
    listed = int((partners >= 0).sum())
    return Ranking(average_precision(scores[rows, best], right, listed), float(right.sum() / listed))


def verified(found: Candidates, thumbnails: Array, tests: int) -> Array:
    """Our `verified_score` of the same pairs: cosine times the match of the thumbnails, tests x 10."""
    first = np.repeat(np.arange(tests), NEAREST)
    second = tests + found.nearest.ravel()
    return found.cosine * thumbnail_match(thumbnails[first], thumbnails[second]).reshape(found.cosine.shape)


def thumbnails_of(work: Path, folder: Path, files: Sequence[Path]) -> Array:
    """Thumbnails that our run left, uint8 [files, 768], in the order of `files`."""
    store = TableStore(work)
    names = store.read(IMAGE_MANIFEST.name, "run/all")["filename"].to_list()
    rows = {name: row for row, name in enumerate(names)}
    pixels = store.read(IMG_STATS.name, "run/all")["thumbnail"].to_numpy().reshape(len(names), -1)
    return pixels[[rows[path.relative_to(folder).as_posix()] for path in files]]


def partners_of(pairs: Path, folder: Path, tests: Sequence[Path], trains: Sequence[Path]) -> Array:
    """For each test image the position of the train image that people listed, or -1."""
    place = {path.relative_to(folder).as_posix(): row for row, path in enumerate(trains)}
    row_of = {path.relative_to(folder).as_posix(): row for row, path in enumerate(tests)}
    partners = np.full(len(tests), -1, dtype=np.int64)
    with pairs.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["path"] in row_of and line["other_path"] in place:
                partners[row_of[line["path"]]] = place[line["other_path"]]
    return partners


def unpacked(images: Path, scratch: Path) -> Path:
    """The folder, or the tar unpacked into `scratch`; members that would land elsewhere are refused."""
    if images.is_dir():
        return images.absolute()
    with tarfile.open(images) as archive:
        archive.extractall(scratch, filter="data")
    return scratch


def rank(tool: Tool, folder: Path, tests: list[Path], trains: list[Path], partners: Array) -> dict[str, Ranking]:
    """Rankings of one tool: by cosine, and by verified score if it is ours."""
    with tempfile.TemporaryDirectory(prefix="near_duplicates_") as name:
        vectors, work = tool.vectors(folder, [*tests, *trains], Path(name), threads=2)
        found = candidates(vectors[: len(tests)], vectors[len(tests) :])
        results = {f"{tool.name}, cosine": judge(found, found.cosine, partners)}
        if tool.module == "fastdup_dagster":
            pictures = thumbnails_of(work, folder, [*tests, *trains])
            results[f"{tool.name}, verified"] = judge(found, verified(found, pictures, len(tests)), partners)
    return results


def main() -> None:
    """Measure and print."""
    parser = parser_for(
        "Near duplicates between test and train: average precision and recall@1.",
        "  python benchmarks/near_duplicates.py cifar10.tar near_duplicates.csv\n"
        "  python benchmarks/near_duplicates.py CIFAR near_duplicates.csv --fastdup-python F/bin/python",
    )
    parser.add_argument("images", type=Path, help=f"folder or tar with {QUERIES}/ and {DATABASE}/")
    parser.add_argument("pairs", type=Path, help="csv with the columns path and other_path")
    add_fastdup_argument(parser, required=False)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cifar_") as scratch:
        folder = unpacked(given.images, Path(scratch))
        tests, trains = images_in(folder / QUERIES), images_in(folder / DATABASE)
        partners = partners_of(given.pairs, folder, tests, trains)
        tools = [ours()]
        inputs = [
            Inputs("images", folder, [*tests, *trains]).describe(given.list_inputs),
            f"pairs: {int((partners >= 0).sum())} of a {QUERIES} and a {DATABASE} image",
        ]
        if given.fastdup_python:
            tools.append(fastdup(given.fastdup_python))
            inputs.append(f"peer: fastdup {fastdup_version(tools[-1], folder)}")
        header = say_header(inputs)
        results: dict[str, Ranking] = {}
        for tool in tools:
            results |= rank(tool, folder, tests, trains, partners)
    say_table(
        ["ranked by", "average precision", "recall@1"],
        [[name, f"{r.average_precision:.4f}", f"{r.recall_at_1:.4f}"] for name, r in results.items()],
    )
    print()
    cosine, own = results["fastdup_dagster, cosine"], results["fastdup_dagster, verified"]
    print(judged("average precision", own.average_precision, WANTED_AP))
    print(judged("recall@1", own.recall_at_1, WANTED_RECALL))
    print(judged("gain over cosine alone", own.average_precision - cosine.average_precision, WANTED_GAIN))
    write_json(given.json, header | {name: asdict(result) for name, result in results.items()})


if __name__ == "__main__":
    main()
