"""Who works on the images that a decode pass has to read: threads of this process, or whoever does the same."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastdup_dagster.images import opencv_alone
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.part_reading import keeping_open
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
            recorder.share()
        finally:
            recorder.flush()
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
        _run(reading_runs(tasks, most_bytes), worker, settings.threads, record)


def _run(
    runs: Iterator[Iterator[list[Task]]], worker: DecodeWorker, threads: int, record: Callable[[ChunkRows], None]
) -> None:
    """Keeps every worker busy with at most two chunks each in flight; results are taken in order.

    Of a run of chunks that only one worker can read at a time, the next is begun when the one before it is done.
    """
    running: deque[_Begun] = deque()
    with (
        opencv_alone(),
        keeping_open(2 * threads),
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
    ):
        for _ in range(2 * threads):
            running.extend(_begin(runs, worker, pool))
        try:
            while running:
                future, run = running.popleft()
                result = future.result()
                running.extend(_begin(itertools.chain([run], runs), worker, pool))
                record(result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_Begun = tuple[Future[ChunkRows], Iterator[list[Task]]]


def _begin(runs: Iterable[Iterator[list[Task]]], worker: DecodeWorker, pool: ThreadPoolExecutor) -> Iterator[_Begun]:
    """Hands the next chunk of the first run that has one to a worker."""
    for run in runs:
        for chunk in itertools.islice(run, 1):
            yield pool.submit(worker, chunk), run
            return


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

    def share(self) -> None:
        """Gives images that are copies of others of this pass the place of their row."""
        self.flush()
        for plan in self._work.plans.values():
            for position, owner in plan.copies.items():
                plan.file[position], plan.row[position] = plan.file[owner], plan.row[owner]
