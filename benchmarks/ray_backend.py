"""The decode pass on a Ray cluster of this machine against threads of one process: same files, same cores, in turns.

    python benchmarks/ray_backend.py JPEGS --make-from PHOTOS --count 4000

The cluster is started once; every pass starts its own workers, which is part of its time. The second ratio leaves that
out: it is the rate from when each worker has done a shard to the last one. The digests are equal, or this ends with 1.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
from common import Inputs, images_in, parser_for, say_header, say_table, write_json
from edits import make_jpegs

from fastdup_dagster.models import load_model
from fastdup_dagster.settings import Settings
from fastdup_dagster.sharding.ray_backend import RayBackend
from fastdup_dagster.sharding.ray_cluster import RayOptions, cluster
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.embedding_backend import EmbeddingBackend, LocalBackend
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore


@dataclass(frozen=True)
class Pass:
    """What one pass took.

    Attributes:
        seconds: from its beginning to complete tables.
        rate: images a second, from the first ones that were done to the last.
        digests: of the tables.
    """

    seconds: float
    rate: float
    digests: dict[str, str]


def measure(manifest: pl.DataFrame, settings: Settings, backend: EmbeddingBackend) -> Pass:
    """Runs one pass into an empty store; `num_threads` is how many work side by side."""
    moments: list[tuple[float, int]] = []
    model = load_model(settings)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with compute_features(
            manifest,
            settings,
            model,
            TableStore(folder),
            "bench/all",
            progress=lambda done, _: moments.append((time.perf_counter(), done)),
            backend=backend,
        ) as features:
            seconds = time.perf_counter() - begun
            digests = {name: table.digest for name, table in features.staged.items()}
    # When the first shard is done, those beside it nearly are as well: the rate counts from when each worker has one.
    (first, before), (last, done) = moments[settings.threads - 1], moments[-1]
    return Pass(seconds, (done - before) / (last - first), digests)


def main() -> int:
    """Prints the figures; 1 if the digests differ."""
    parser = parser_for(str(__doc__).partition("\n")[0], "  python benchmarks/ray_backend.py JPEGS --rounds 3")
    parser.add_argument("folder", type=Path, help="images; with --make-from, where they are written")
    parser.add_argument("--make-from", type=Path, metavar="PHOTOS", help="first fill the folder with edits of photos")
    parser.add_argument("--count", type=int, default=4000, help="JPEGs to make (4000)")
    parser.add_argument("--workers", type=int, default=2, help="workers of one core, and threads of the other (2)")
    parser.add_argument("--rounds", type=int, default=3, help="timed passes of each (3)")
    given = parser.parse_args()
    if given.make_from:
        make_jpegs(images_in(given.make_from), given.folder, given.count)
    files = images_in(given.folder)
    header = say_header([Inputs("images", given.folder, files).describe(given.list_inputs)])
    settings = Settings(num_threads=given.workers)
    manifest = list_images(open_source(given.folder), settings).frame
    options = RayOptions(workers=given.workers)
    passes: dict[str, list[Pass]] = {"local": [], "ray": []}
    begun = time.perf_counter()
    with cluster(options):
        started = time.perf_counter() - begun
        for _ in range(given.rounds):
            for name, backend in (("local", LocalBackend()), ("ray", RayBackend(options))):
                passes[name].append(measure(manifest, settings, backend))
                print(
                    f"{name}: {passes[name][-1].seconds:.1f} s, {passes[name][-1].rate:.0f} images/s at work",
                    flush=True,
                )
    return _report(header, len(manifest), started, passes, given)


def _report(header: dict[str, Any], images: int, started: float, passes: dict[str, list[Pass]], given: Any) -> int:
    seconds = {name: median(one.seconds for one in found) for name, found in passes.items()}
    rates = {name: median(one.rate for one in found) for name, found in passes.items()}
    say_table(
        ("", "s", "images/s", "images/s at work"),
        [(name, seconds[name], images / seconds[name], rates[name]) for name in passes],
    )
    ratios = {"whole": seconds["local"] / seconds["ray"], "at_work": rates["ray"] / rates["local"]}
    equal = len({tuple(sorted(one.digests.items())) for found in passes.values() for one in found}) == 1
    print(f"\nthe cluster was there after {started:.1f} s; medians of {given.rounds} rounds")
    print(f"Ray against local, {given.workers} workers: {ratios['whole']:.2f} of the throughput as a whole, ", end="")
    print(f"{ratios['at_work']:.2f} at work; digests equal: {equal}")
    figures = {"images": images, "start": started, "seconds": seconds, "rates": rates, "ratios": ratios, "equal": equal}
    write_json(given.json, header | figures)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
