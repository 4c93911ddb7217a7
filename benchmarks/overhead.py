"""What Dagster costs: `fastdup-dagster run` against the engine alone, same images, same tables, same pages.

Fresh processes in turns. The engine calls the stages one after another and publishes through the same store, without
Dagster, checks or Great Expectations. A run on a handful of images gives the fixed start: whatever Dagster takes
beyond the engine when there is next to nothing to do. What it takes beyond that on all images grows with them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from common import Inputs, images_in, judged, parser_for, say_header, say_table, write_json
from processes import measured, pin, plain_environment

FEW = 20
WANTED_SHARE, WANTED_START = 1.10, 15.0
_NAME = "overhead"


@dataclass(frozen=True)
class Run:
    """One process.

    Attributes:
        wall: seconds from its start to its exit.
        cpu: seconds of user and system time.
        before: seconds from its start to the first step.
        steps: seconds of each step.
    """

    wall: float
    cpu: float
    before: float
    steps: dict[str, float]

    @property
    def rest(self) -> float:
        """Seconds that are in no step and not before the first: between steps, the report, the exit."""
        return self.wall - self.before - sum(self.steps.values())


def dagster_run(images: Path, scratch: Path, threads: int) -> Run:
    """`fastdup-dagster run` in a fresh process and a fresh Dagster home."""
    home = Path(tempfile.mkdtemp(prefix="home_", dir=scratch))
    command = [Path(sys.executable).with_name("fastdup-dagster"), "run", images, "--name", _NAME]
    command += ["--split", "all", "--out", home / "out", "--num-threads", str(threads), "--json"]
    begun = time.time()
    usage = measured(command, plain_environment(home, DAGSTER_HOME=str(home / "dagster")), home)
    first, steps = _events(home / "dagster")
    shutil.rmtree(home)
    return Run(usage.wall, usage.cpu, first - begun, steps)


def _events(home: Path) -> tuple[float, dict[str, float]]:
    """When the first step of the splits began, and how long each took, from Dagster's own event log."""
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(home)
    kinds = {dg.DagsterEventType.STEP_START: -1, dg.DagsterEventType.STEP_SUCCESS: 1}
    steps: dict[str, float] = {}
    starts = []
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs():
            for record in instance.get_records_for_run(run.run_id, of_type=set(kinds)).records:
                event = record.event_log_entry.dagster_event
                if event is None or event.step_key is None or event.step_key == "embedding_model":
                    continue
                sign = kinds[event.event_type]
                steps[event.step_key] = steps.get(event.step_key, 0.0) + sign * record.event_log_entry.timestamp
                starts += [record.event_log_entry.timestamp] if sign < 0 else []
    return min(starts), steps


def engine_run(images: Path, scratch: Path, threads: int) -> Run:
    """The stages in a fresh process."""
    home = Path(tempfile.mkdtemp(prefix="home_", dir=scratch))
    command = [sys.executable, Path(__file__).resolve(), images, "--engine", home / "out", "--threads", str(threads)]
    begun = time.time()
    usage = measured(command, plain_environment(home), home)
    told = json.loads(usage.output.splitlines()[-1])
    shutil.rmtree(home)
    return Run(usage.wall, usage.cpu, told["first"] - begun, told["steps"])


def engine(images: Path, out: Path, threads: int) -> dict[str, Any]:
    """What the assets call, in their order; each table is published through the store."""
    from fastdup_dagster.models import load_model
    from fastdup_dagster.schemas import COMPONENTS, IMAGE_MANIFEST, KNN_GRAPH, OUTLIERS, SIMILARITY
    from fastdup_dagster.settings import settings_from
    from fastdup_dagster.sources import open_source
    from fastdup_dagster.stages.components import components
    from fastdup_dagster.stages.features import compute_features
    from fastdup_dagster.stages.galleries import SplitTables, render_galleries
    from fastdup_dagster.stages.image_manifest import list_images
    from fastdup_dagster.stages.knn_graph import knn_graph
    from fastdup_dagster.stages.outliers import outliers
    from fastdup_dagster.stages.similarity import similarity
    from fastdup_dagster.storage import TableStore

    settings = settings_from({"num_threads": threads})
    store, key = TableStore(out), f"{_NAME}/all"
    steps: dict[str, float] = {}
    first = time.time()

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        steps[step] = time.perf_counter() - begun

    with timed("image_manifest"):
        manifest = list_images(open_source(images), settings, split="all").frame
        store.write(IMAGE_MANIFEST, key, manifest)
    with timed("features"), compute_features(manifest, settings, load_model(settings), store, key) as made:
        for table in made.staged.values():
            table.publish()
        made.finish()
    with timed("knn_graph"):
        graph = knn_graph(store.read("embeddings", key), settings)
        store.write(KNN_GRAPH, key, graph)
    stats = store.read("img_stats", key)
    found = {}
    for schema, make in (
        (COMPONENTS, lambda: components(graph, settings)),
        (OUTLIERS, lambda: outliers(graph, settings)),
        (SIMILARITY, lambda: similarity(graph, settings, stats)),
    ):
        with timed(schema.name):
            found[schema.name] = make()
            store.write(schema, key, found[schema.name])
    with timed("galleries"):
        tables = SplitTables(manifest, stats, graph, found["similarity"], found["outliers"], found["components"])
        render_galleries(tables, store.pages(key), key, settings, home="../report.html")
    return {"first": first, "steps": steps}


def import_seconds(module: str, after: str, scratch: Path) -> float:
    """Seconds that an import takes in a process that has imported `after`."""
    code = f"import time, {after}; b = time.perf_counter(); import {module}; print(time.perf_counter() - b)"
    runs = [measured([sys.executable, "-c", code], plain_environment(scratch), scratch) for _ in range(3)]
    return median(float(run.output.splitlines()[-1]) for run in runs)


def in_turns(images: Path, scratch: Path, threads: int, rounds: int) -> dict[str, list[Run]]:
    """`rounds` runs of each, every other round in the reverse order, after one of each that does not count."""
    ways = {"Dagster": dagster_run, "engine": engine_run}
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            run = ways[name](images, scratch, threads)
            if number:
                runs[name].append(run)
                print(f"  {name:8} wall {run.wall:6.2f} s  cpu {run.cpu:6.2f} s", flush=True)
    return runs


def middle(runs: Sequence[Run]) -> Run:
    """Medians, field by field."""
    return Run(
        median(run.wall for run in runs),
        median(run.cpu for run in runs),
        median(run.before for run in runs),
        {step: median(run.steps[step] for run in runs) for step in runs[0].steps},
    )


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = parser_for(
        "Dagster over the engine: fixed start, and cost per step.",
        "  python benchmarks/overhead.py CIFAR\n  python benchmarks/overhead.py PHOTOS --count 400 --rounds 5",
    )
    parser.add_argument("folder", type=Path, help="images; the first --count of them are taken, as one split")
    parser.add_argument("--count", type=int, default=10_000, help="images (10,000)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each that count (3)")
    parser.add_argument("--engine", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments()
    if given.engine:
        print(json.dumps(engine(given.folder, given.engine, given.threads)))
        return
    files = images_in(given.folder)[: given.count]
    pin(given.threads)
    header = say_header([Inputs("images", given.folder, files).describe(given.list_inputs)])
    figures: dict[str, dict[str, Run]] = {}
    with tempfile.TemporaryDirectory(prefix="overhead_") as name:
        scratch = Path(name)
        for count in (min(FEW, len(files)), len(files)):
            folder = scratch / f"images_{count}"
            folder.mkdir()
            for place, path in enumerate(files[:count]):
                shutil.copy(path, folder / f"{place:06d}{path.suffix}")
            print(f"\n{count:,} images")
            runs = in_turns(folder, scratch, given.threads, given.rounds)
            figures[str(count)] = {way: middle(found) for way, found in runs.items()}
        expectations = import_seconds("great_expectations", "polars, pandas, dagster", scratch)
    few, all_ = figures.values()
    start = few["Dagster"].wall - few["engine"].wall
    share = (all_["Dagster"].wall - start) / all_["engine"].wall
    names = ["before the first step", *all_["engine"].steps, "the rest", "wall", "CPU"]
    rows = {
        f"{count} images, {way}": [run.before, *run.steps.values(), run.rest, run.wall, run.cpu]
        for count, found in figures.items()
        for way, run in ((way, _in_order(run, all_["engine"].steps)) for way, run in found.items())
    }
    say_table(["seconds", *rows], [[name, *(column[n] for column in rows.values())] for n, name in enumerate(names)])
    print(f"\nimport of Great Expectations, a part of image_manifest under Dagster: {expectations:.2f} s")
    print(judged("fixed start, seconds", start, WANTED_START, at_least=False))
    print(judged(f"Dagster less that start, over the engine, at {len(files):,} images", share, WANTED_SHARE, False))
    plain = {count: {way: asdict(run) for way, run in found.items()} for count, found in figures.items()}
    write_json(given.json, header | {"runs": plain, "great_expectations": expectations, "start": start, "share": share})


def _in_order(run: Run, steps: dict[str, float]) -> Run:
    return Run(run.wall, run.cpu, run.before, {step: run.steps[step] for step in steps})


if __name__ == "__main__":
    main()
