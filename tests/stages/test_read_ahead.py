"""Remote files are read ahead of the workers: in order, many at a time, and never more than the memory allows."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from fastdup_dagster.images import ImageError
from fastdup_dagster.stages import read_ahead
from fastdup_dagster.stages.decode_worker import Task, chunked
from fastdup_dagster.stages.read_ahead import ReadAhead, remote_reader


class Reads:
    """Stands in front of the reader of bytes: what was asked for, and how much was not yet handed out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int = 100, seconds: float = 0.0) -> None:
        self.asked: list[str] = []
        self.size, self.seconds = size, seconds
        self.lock = threading.Lock()
        monkeypatch.setattr(read_ahead, "read_bytes", self)

    def __call__(self, uri: str) -> bytes:
        with self.lock:
            self.asked.append(uri)
        time.sleep(self.seconds)
        if "bad" in uri:
            raise ImageError("READ_ERROR", uri)
        return uri.encode().ljust(self.size)


def names(count: int) -> list[str]:
    return [f"s3://bucket/{number}" for number in range(count)]


def settled(reads: Reads) -> int:
    """How many files were asked for, once nothing more begins."""
    count = -1
    while count != len(reads.asked):
        count = len(reads.asked)
        time.sleep(0.05)
    return count


def test_no_more_is_read_than_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    with ReadAhead([(uri, 100) for uri in names(50)], most_bytes=1000) as ahead:
        assert settled(reads) == 10
        for taken, uri in enumerate(names(50), 1):
            assert ahead.take(uri).strip() == uri.encode()
            assert len(reads.asked) <= min(50, 10 + taken)
    assert sorted(reads.asked) == sorted(names(50))


def test_a_file_larger_than_the_memory_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    with ReadAhead([(uri, 5000) for uri in names(3)], most_bytes=1000) as ahead:
        assert settled(reads) == 1
        assert [ahead.take(uri).strip().decode() for uri in names(3)] == names(3)


def test_requests_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    Reads(monkeypatch, seconds=0.05)
    begun = time.perf_counter()
    with ReadAhead([(uri, 100) for uri in names(64)], connections=32) as ahead:
        for uri in names(64):
            ahead.take(uri)
    assert time.perf_counter() - begun < 64 * 0.05 / 4


def test_a_worker_that_is_ahead_of_the_reading_does_not_wait_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    with ReadAhead([(uri, 100) for uri in names(10)], most_bytes=100) as ahead:
        for uri in reversed(names(10)):
            assert ahead.take(uri).strip() == uri.encode()
    assert sorted(reads.asked) == sorted(names(10))


def test_a_file_that_cannot_be_read_is_tried_once_for_all_its_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    with ReadAhead([("s3://bucket/bad", 1), ("s3://bucket/good", 1)], most_bytes=1) as ahead:
        for _ in range(3):
            with pytest.raises(ImageError):
                ahead.take("s3://bucket/bad")
        assert ahead.take("s3://bucket/good").strip() == b"s3://bucket/good"
    assert reads.asked == ["s3://bucket/bad", "s3://bucket/good"]


def test_nothing_is_started_for_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "ReadAhead", None)
    with remote_reader([Task(0, 0, "file:///a.jpg", frozenset())], 2) as (read, most_bytes):
        assert read is read_ahead.read_bytes
        assert most_bytes is None


def test_chunks_of_large_remote_files_are_small() -> None:
    tasks = [Task(n, n, uri, frozenset(), None, 30) for n, uri in enumerate(names(10))]
    assert [len(chunk) for chunk in chunked(tasks, 90)] == [3, 3, 3, 1]
    assert [len(chunk) for chunk in chunked(tasks)] == [10]


@pytest.mark.parametrize("box", [None, (0, 0, 9, 9)])
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_towards_the_end_chunks_get_smaller_so_that_all_workers_have_enough_to_do(
    box: tuple[float, ...] | None, workers: int
) -> None:
    tasks = [Task(n, n, f"file:///{n}.jpg", frozenset(), box) for n in range(1003)]
    chunks = list(chunked(tasks, workers=workers))
    assert [task for chunk in chunks for task in chunk] == tasks
    sizes, left = [len(chunk) for chunk in chunks], len(tasks)
    assert sizes[0] == 36 and set(sizes[-2 * workers : -1]) == {6} and sizes[-1] == 1
    for size in sizes:
        assert size == left or size <= max(6, left / (2 * workers) + 6)
        left -= size
    assert [len(chunk) for chunk in chunked(tasks[:20], workers=2)] == [6, 6, 6, 2]


def test_crops_of_one_remote_file_stay_together() -> None:
    tasks = [Task(n, n, names(2)[n % 2], frozenset(), (0, 0, 9, 9), 60) for n in range(8)]
    chunks = list(chunked(tasks, 100))
    assert [len({task.uri for task in chunk}) for chunk in chunks] == [2]
    assert sum(map(len, chunks)) == 8


def test_a_pass_over_a_bucket_reads_each_object_once(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from faulty_proxy import faulty_proxy

    bucket = s3_server.bucket(**{f"{n}.jpg": b"x" * 50 for n in range(20)})
    tasks = [Task(n, n, f"s3://{bucket}/{n}.jpg", frozenset(), None, 50) for n in range(20)]
    with faulty_proxy(s3_server.url, share=0.0, latency=0.05) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with remote_reader(tasks, 2) as (read, _):
            assert all(read(task.uri) == b"x" * 50 for task in tasks)
    assert set(proxy.paths.values()) == {1} and len(proxy.paths) == 20
    assert proxy.most_in_flight > 8
