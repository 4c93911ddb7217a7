"""Which tasks make a shard, and what it is called: pure functions, equal for every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastdup_dagster.models import BATCH
from fastdup_dagster.stages.decode_worker import Task, reading_runs

# So that workers end at about the same time, and a small data set is spread as well.
SHARDS_PER_WORKER = 4


@dataclass(frozen=True)
class Shard:
    """Tasks that one worker does in one go.

    Attributes:
        name: of its part files: equal images made in equal ways have equal names.
        tasks: in the order in which they are read.
    """

    name: str
    tasks: list[Task]


def shard_size(tasks: int, workers: int, most: int) -> int:
    """Tasks of a shard: `most`, or fewer where workers would get less than `SHARDS_PER_WORKER` of them.

    Args:
        tasks: of the pass.
        workers: that share them.
        most: tasks of a shard at most; what a killed worker loses.
    """
    share = -(-tasks // (SHARDS_PER_WORKER * workers))
    return min(most, max(BATCH, share))


def cut(tasks: list[Task], size: int, keys: Mapping[str, Sequence[str]]) -> Iterator[Shard]:
    """Every task in one shard; crops of an image and frames of a video stay together, even where there are more.

    Args:
        tasks: in the order of the listing.
        size: tasks of a shard.
        keys: per table, the `source_key` of each position.
    """
    gathered: list[Task] = []
    for run in reading_runs(tasks, most=size):
        together = [task for chunk in run for task in chunk]
        if gathered and len(gathered) + len(together) > size:
            yield Shard(_name(gathered, keys), gathered)
            gathered = []
        gathered = gathered + together
    if gathered:
        yield Shard(_name(gathered, keys), gathered)


def _name(tasks: Iterable[Task], keys: Mapping[str, Sequence[str]]) -> str:
    """32 hex digits of the rows that the shard makes: table, recipe, path, change token and geometry of each."""
    digest = hashlib.blake2b(digest_size=16)
    for task in tasks:
        for table in sorted(task.tables):
            digest.update(f"{table}\0{keys[table][task.position]}\n".encode())
    return digest.hexdigest()
