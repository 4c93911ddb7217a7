"""Who works on the images that a decode pass has to read: threads of this process, or whoever does the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.chunk_pool import worked
from fastdup_dagster.stages.decode_worker import ChunkRows, DecodeWorker, Task, reading_runs
from fastdup_dagster.stages.read_ahead import remote_reader
from fastdup_dagster.stages.reuse import ReusableRows
from fastdup_dagster.stages.table_plan import TablePlan

Progress = Callable[[int, int], None]

# A part is written once a second at first, and after 1 % of the time that the pass has run: a kill costs no more
# than that, and a long pass does not leave a heap of small files. The rows bound memory.
_PART_SECONDS = 1.0
_PART_SHARE = 0.01
_PART_ROWS = 2_048


@dataclass
class Counts:
    """How often a pass did what."""

    computed: int = 0
    inferred: int = 0
    reused: int = 0
    nonfinite: int = 0


@dataclass
class Work:
    """What is left of a pass after reuse.

    Attributes:
        tasks: images to read, in the order of the listing.
        plans: per table, where its rows come from; a backend fills in those of the tasks.
        settings: what to compute.
        model: gives the feature vectors.
        folder: for unfinished work; it holds the parts of all tables.
        copies: URIs to read in place of those of the tasks.
        progress: called with the tasks done and their number, from the thread that works.
    """

    tasks: list[Task]
    plans: dict[str, TablePlan]
    settings: Settings
    model: EmbeddingModel
    folder: Path
    copies: Mapping[str, str]
    progress: Progress | None = None


class EmbeddingBackend(Protocol):
    """Works on the tasks of a pass: whoever it is, the rows are the same."""

    def compute(self, work: Work) -> Counts:
        """Leaves a row for every task and table in part files, and its place in `work.plans`.

        What was finished before an error or a kill stays in part files, which the next pass finds, whoever does it.
        """


class LocalBackend:
    """Threads of this process, as many as the settings say."""

    def compute(self, work: Work) -> Counts:
        """See `EmbeddingBackend`."""
        known = {name: plan.rows for name, plan in work.plans.items()}
        recorder = _Recorder(work)
        try:
            decode_tasks(work.tasks, work.settings, work.model, known, recorder, work.copies)
        finally:
            recorder.flush()
        for plan in work.plans.values():
            plan.settle()
        return recorder.counts


def decode_tasks(
    tasks: list[Task],
    settings: Settings,
    model: EmbeddingModel,
    known: Mapping[str, ReusableRows],
    record: Callable[[ChunkRows], None],
    copies: Mapping[str, str],
) -> None:
    """Works on tasks with threads, and hands on what came of each chunk, in this thread.

    Args:
        tasks: in the order of the listing.
        settings: what to compute and with how many threads.
        model: gives the feature vectors.
        known: per table to make, the rows that may be reused.
        record: takes the rows of a chunk.
        copies: URIs to read in place of those of the tasks.
    """
    with remote_reader(tasks, settings.threads, copies) as (read, most_bytes):
        worker = DecodeWorker(settings, model, known, read)
        runs = reading_runs(tasks, most_bytes, workers=settings.threads)
        # at most two chunks a thread are in flight
        with closing(worked(runs, worker, settings.threads, 2 * settings.threads)) as done:
            for result in done:
                record(result)


class _Recorder:
    """Enters the rows of chunks into the plans, and writes part files as time goes by."""

    def __init__(self, work: Work) -> None:
        self.counts = Counts()
        self._work = work
        self._done = 0
        self._started = self._flushed = time.monotonic()

    def __call__(self, result: ChunkRows) -> None:
        self._enter(result)
        self._done += result.size
        now = time.monotonic()
        pending = max(len(plan.pending) for plan in self._work.plans.values())
        patience = max(_PART_SECONDS, _PART_SHARE * (now - self._started))
        if pending >= _PART_ROWS or now - self._flushed >= patience:
            self.flush()
            self._flushed = now
        if self._work.progress:
            self._work.progress(self._done, len(self._work.tasks))

    def _enter(self, result: ChunkRows) -> None:
        for name, plan in self._work.plans.items():
            for position, (file, row) in result.reused[name].items():
                plan.file[position], plan.row[position] = file, row
            plan.copies |= result.copies[name]
            for position, values in result.rows[name].items():
                plan.keep(position, values)
        self.counts.computed += result.computed
        self.counts.reused += result.size - result.computed
        self.counts.inferred += result.inferred
        self.counts.nonfinite += result.nonfinite

    def flush(self) -> None:
        """Writes what is pending."""
        for plan in self._work.plans.values():
            plan.flush()
