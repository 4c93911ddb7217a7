"""How a pass is cut: every image in one shard, what belongs together in the same, and equal names for equal work."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sharding.plan import SHARDS_PER_WORKER, cut, shard_size
from fastdup_dagster.sharding.task_file import read_tasks, write_tasks
from fastdup_dagster.sources.parts import Part, part_of
from fastdup_dagster.stages.decode_worker import BATCH, Task

BOTH = frozenset({"embeddings", "img_stats"})


def uri_of(kind: str, file: int, number: int) -> str:
    """Of a file, or of the part of that number in it."""
    if kind in ("image", "crop"):
        return f"file:///d/{kind}{file}.jpg"
    return Part(f"file:///d/{file}.{kind}", kind, str(number).encode(), number).uri


@st.composite
def passes(draw: st.DrawFn) -> list[Task]:
    """Tasks of whole images, crops, members and frames in any order."""
    made = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["image", "crop", "tar", "video"]),
                st.integers(0, 3),
                st.sampled_from([BOTH, frozenset({"embeddings"}), frozenset({"img_stats"})]),
            ),
            min_size=1,
            max_size=60,
        )
    )
    return [
        Task(
            2 * number,
            2 * number,
            uri_of(kind, number if kind == "image" else file, number),
            tables,
            (0.0, 0.0, float(number + 1), 5.0) if kind == "crop" else None,
            number or None,
        )
        for number, (kind, file, tables) in enumerate(made)
    ]


def keys_of(tasks: list[Task], recipe: str = "r") -> dict[str, list[str]]:
    return {name: [f"{recipe}{name}:{p}" for p in range(2 * len(tasks))] for name in sorted(BOTH)}


def together(task: Task) -> str | None:
    """What a task may not be parted from."""
    if task.box:
        return task.uri
    part = part_of(task.uri)
    return part.container if part is not None and part.kind == "video" else None


@given(passes(), st.integers(1, 20))
def test_every_task_is_in_one_shard_and_what_belongs_together_in_the_same(tasks: list[Task], size: int) -> None:
    shards = list(cut(tasks, size, keys_of(tasks)))
    assert Counter(task.position for shard in shards for task in shard.tasks) == {task.position: 1 for task in tasks}
    homes: dict[str, set[str]] = defaultdict(set)
    for shard in shards:
        for task in shard.tasks:
            if belongs := together(task):
                homes[belongs].add(shard.name)
        if len(shard.tasks) > size:  # of crops or frames alone, and begun when there was room
            assert any(together(task) for task in shard.tasks)
    assert all(len(names) == 1 for names in homes.values())


@given(passes(), st.integers(1, 20))
def test_names_say_what_a_shard_makes(tasks: list[Task], size: int) -> None:
    shards = list(cut(tasks, size, keys_of(tasks)))
    names = [shard.name for shard in shards]
    assert len(set(names)) == len(names)
    assert [shard.name for shard in cut(tasks, size, keys_of(tasks))] == names
    assert not {shard.name for shard in cut(tasks, size, keys_of(tasks, "other"))} & set(names)


@given(passes(), st.integers(1, 20))
def test_a_worker_reads_its_shard_as_it_was_cut(tmp_path_factory, tasks: list[Task], size: int) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "tasks.parquet"
    keys = keys_of(tasks)
    shards = list(cut(tasks, size, keys))
    write_tasks(file, shards, keys)
    for number, shard in enumerate(shards):
        read, tokens = read_tasks(file, number)
        assert read == shard.tasks
        assert tokens == {task.position: str(task.position) for task in shard.tasks}


@pytest.mark.parametrize(
    ("tasks", "workers", "most", "expected"),
    [
        (1_000_000, 10, 10_000, 10_000),
        (1_000_000, 10, 100_000, 25_000),  # every worker gets a few
        (1_000, 2, 10_000, 125),
        (3, 2, 10_000, BATCH),  # less is not worth a call of the model
        (1_000, 2, 1, 1),
    ],
)
def test_a_shard_is_large_but_every_worker_gets_a_few(tasks: int, workers: int, most: int, expected: int) -> None:
    assert shard_size(tasks, workers, most) == expected
    if tasks > BATCH * workers * SHARDS_PER_WORKER:
        assert tasks / expected >= workers * SHARDS_PER_WORKER
