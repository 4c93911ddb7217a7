"""Archives against the unpacked folder: seconds to list and to read, and whether the tables are the same.

    python benchmarks/archives.py FOLDER ARCHIVE...

FOLDER holds what the archives hold. The contestants take turns; the best of the rounds counts. The limit: no archive is
read at under 0.9 of the folder's speed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import polars as pl
from common import machine

from fastdup_dagster.models import load_model
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore

_LIMIT = 0.9


def measure(given: Path, settings: Settings) -> tuple[float, float, list[pl.DataFrame]]:
    """Seconds to list, seconds to read, and the tables without what names the input."""
    model = load_model(settings)
    begun = time.perf_counter()
    manifest = list_images(open_source(given, settings), settings).frame
    listed = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with compute_features(manifest, settings, model, TableStore(folder), "bench/all") as features:
            read = time.perf_counter()
            tables = [table.scan().drop("source_key").collect() for _, table in sorted(features.staged.items())]
        return listed - begun, read - listed, tables


def main() -> None:
    """Prints a line for each contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("archives", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = Settings(num_threads=options.threads)
    contestants = [options.folder, *options.archives]
    best = dict.fromkeys(contestants, (float("inf"), float("inf")))
    same: dict[Path, bool] = {}
    expected: list[pl.DataFrame] = []
    for _ in range(options.rounds):
        for given in contestants:
            listing, reading, tables = measure(given, settings)
            best[given] = min(best[given], (listing, reading), key=sum)
            expected = expected or tables
            same[given] = all(ours.equals(theirs) for ours, theirs in zip(tables, expected, strict=True))
    print(machine())
    print(f"{len(expected[0]):,} images, {options.threads} threads, best of {options.rounds} rounds")
    whole = sum(best[options.folder])
    for given in contestants:
        listing, reading = best[given]
        ratio = whole / (listing + reading)
        print(
            f"{given.name}: listing {listing:.2f} s, reading {reading:.2f} s, {ratio:.2f} of the folder's speed"
            f" (limit {_LIMIT}), equal tables: {same[given]}"
        )


if __name__ == "__main__":
    main()
