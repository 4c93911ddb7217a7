"""Threads that work on chunks of images, a bounded number of them in flight."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fastdup_dagster.images import opencv_alone
from fastdup_dagster.sources.part_reading import keeping_open
from fastdup_dagster.stages.decode_worker import Task

_Result = TypeVar("_Result")
_Run = Iterator[list[Task]]


def worked(
    runs: Iterator[_Run], work: Callable[[list[Task]], _Result], threads: int, in_flight: int
) -> Generator[_Result]:
    """The results of the chunks, in the order in which they were begun; close it to cancel what is not begun yet.

    Of a run of chunks that only one worker can read at a time, the next is begun when the one before it is done.

    Args:
        runs: what `reading_runs` gives.
        work: called with a chunk, by any of the threads.
        threads: that work.
        in_flight: chunks that are begun, and whose result was not taken yet, at most.
    """
    running: deque[tuple[Future[_Result], _Run]] = deque()
    with (
        opencv_alone(),
        keeping_open(in_flight),
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
    ):
        for _ in range(in_flight):
            running.extend(_begin(runs, work, pool))
        try:
            while running:
                future, run = running.popleft()
                result = future.result()
                running.extend(_begin(itertools.chain([run], runs), work, pool))
                yield result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(
    runs: Iterable[_Run], work: Callable[[list[Task]], _Result], pool: ThreadPoolExecutor
) -> Iterator[tuple[Future[_Result], _Run]]:
    """Hands the next chunk of the first run that has one to a worker."""
    for run in runs:
        for chunk in itertools.islice(run, 1):
            yield pool.submit(work, chunk), run
            return
