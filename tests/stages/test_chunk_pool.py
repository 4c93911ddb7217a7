"""Chunks in threads: results in order, a bounded number begun, of a run one at a time, nothing begun after the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from fastdup_dagster.stages.chunk_pool import worked
from fastdup_dagster.stages.decode_worker import Task

Run = Iterator[list[Task]]


def chunk(number: int) -> list[Task]:
    return [Task(number, number, f"file:///{number}", frozenset())]


class Watched:
    """Gives the number of a chunk; the first ones take the longest."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.running: list[int] = []
        self.together: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def __call__(self, tasks: list[Task]) -> int:
        (task,) = tasks
        with self._lock:
            self.together |= {(other, task.position) for other in self.running}
            self.begun.append(task.position)
            self.running.append(task.position)
        time.sleep(0.02 if task.position < 2 else 0.002)
        with self._lock:
            self.running.remove(task.position)
        return task.position


def test_results_come_in_the_order_of_the_chunks_and_few_are_begun_ahead() -> None:
    work = Watched()
    runs: Iterator[Run] = (iter([chunk(number)]) for number in range(30))
    taken = 0
    with closing(worked(runs, work, 3, 4)) as results:
        for expected, result in enumerate(results):
            assert result == expected
            taken += 1
            assert len(work.begun) <= taken + 4
    assert taken == 30
    assert any(first != second for first, second in work.together), "several at once"


def test_chunks_of_one_run_follow_each_other() -> None:
    work = Watched()
    video = (chunk(number) for number in range(5))
    others: list[Run] = [iter([chunk(number)]) for number in range(10, 15)]
    assert sorted(worked(iter([video, *others]), work, 4, 8)) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert not any(first < 5 and second < 5 for first, second in work.together)


def test_after_an_error_or_the_end_nothing_more_is_begun() -> None:
    work = Watched()
    with closing(worked((iter([chunk(number)]) for number in range(50)), work, 2, 4)) as results:
        next(results)
    assert len(work.begun) <= 6

    def fails(tasks: list[Task]) -> int:
        raise MemoryError("none left")

    with pytest.raises(MemoryError):
        list(worked((iter([chunk(number)]) for number in range(50)), fails, 2, 4))
