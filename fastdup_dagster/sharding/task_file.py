"""The tasks of a pass as a Parquet file with a row group per shard, so that each worker reads its own alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fastdup_dagster.sharding.plan import Shard
from fastdup_dagster.stages.decode_worker import Task

_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("index", pa.int64()),
        ("uri", pa.string()),
        ("tables", pa.list_(pa.string())),
        ("box", pa.list_(pa.float64())),
        ("file_size", pa.int64()),
        # `source_key` is "recipe:token"; the recipe is the same for all of a table.
        ("token", pa.string()),
    ]
)


def write_tasks(path: Path, shards: Iterable[Shard], keys: Mapping[str, Sequence[str]]) -> None:
    """Writes the shards, in their order.

    Args:
        path: of the file.
        shards: of the pass.
        keys: per table, the `source_key` of each position.
    """
    tokens = next(iter(keys.values()))
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for shard in shards:
            rows = [
                {
                    "position": task.position,
                    "index": task.index,
                    "uri": task.uri,
                    "tables": sorted(task.tables),
                    "box": None if task.box is None else list(task.box),
                    "file_size": task.file_size,
                    "token": tokens[task.position].rpartition(":")[2],
                }
                for task in shard.tasks
            ]
            writer.write_table(pa.Table.from_pylist(rows, _SCHEMA), row_group_size=len(rows))


def read_tasks(path: Path, number: int) -> tuple[list[Task], dict[int, str]]:
    """The tasks of a shard, and the token of each position.

    Args:
        path: of the file.
        number: of the shard, from 0.
    """
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(number).to_pylist()
    tokens = {row["position"]: row.pop("token") for row in rows}
    tasks = [
        Task(**row | {"tables": frozenset(row["tables"]), "box": None if row["box"] is None else tuple(row["box"])})
        for row in rows
    ]
    return tasks, tokens
