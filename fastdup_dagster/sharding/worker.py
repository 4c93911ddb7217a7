"""What a worker process does with a shard. It gets and gives plain values only; the rows go into part files.

Nothing here knows who calls it, or imports it: `ray_backend` hands `ShardWorker` to Ray Data.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastdup_dagster.models import EmbeddingModel, load_model
from fastdup_dagster.settings import Settings, settings_from
from fastdup_dagster.sharding.shard_rows import ShardRows, is_whole
from fastdup_dagster.sharding.task_file import read_tasks
from fastdup_dagster.stages.decode_worker import Task
from fastdup_dagster.stages.embedding_backend import Counts, decode_tasks
from fastdup_dagster.stages.features import feature_schema, recipe
from fastdup_dagster.stages.reuse import ReusableRows
from fastdup_dagster.stages.row_files import part_name, rows_in, write_part

# How often a shard may end its worker before it is given up: a file that crashes a decoder does so every time.
ATTEMPTS = 4
# Of known rows, keys and hashes are held by every worker. Beyond this, bytes that are known by another name or time
# of change are computed again.
_KNOWN_ROWS = 5_000_000


@dataclass(frozen=True)
class TableOrder:
    """What to do for one table.

    Attributes:
        recipe: what its rows must be made by.
        parts: folder of its part files.
        known: files with rows that may be reused.
    """

    recipe: str
    parts: str
    known: list[str]


@dataclass(frozen=True)
class PassOrder:
    """All that workers must know of a pass; it travels as JSON.

    Attributes:
        folder: of this pass, which all machines see.
        settings: as JSON.
        model: id of the model that the rows must be made with.
        threads: of a worker.
        tables: by name.
    """

    folder: str
    settings: str
    model: str
    threads: int
    tables: dict[str, TableOrder]

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PassOrder:
        """An order from its text."""
        values = json.loads(text)
        tables = {name: TableOrder(**table) for name, table in values.pop("tables").items()}
        return cls(**values, tables=tables)

    @property
    def tasks(self) -> Path:
        """The file of tasks."""
        return Path(self.folder) / "tasks.parquet"


class ShardWorker:
    """Works on shards, one after another; the model is opened once, when the first one comes.

    Args:
        order: a `PassOrder` as JSON.
    """

    def __init__(self, order: str) -> None:
        self._order = PassOrder.from_json(order)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Shards by number and name; a row for each: what was done, or the error that must end the pass.

        Errors are returned, not raised, so that they arrive as they are, and are not tried again.
        """
        rows = [self._outcome(int(n), str(name)) for n, name in zip(batch["number"], batch["name"], strict=True)]
        return {column: [row[column] for row in rows] for column in rows[0]}

    def _outcome(self, number: int, name: str) -> dict[str, Any]:
        attempt = Path(self._order.folder) / f"{name}.{os.getpid()}.{uuid.uuid4().hex}.attempt"
        counts, error = Counts(), ""
        try:
            if (before := len(list(attempt.parent.glob(f"{name}.*.attempt")))) >= ATTEMPTS:
                raise RuntimeError(f"shard {name} has ended its worker {before} times: {self._range(number)}")
            attempt.touch()
            counts = self._work(number, name)
        except Exception as caught:  # noqa: BLE001 - it is raised again where the pass was started
            error = described(caught)
        attempt.unlink(missing_ok=True)
        return {"number": number, "host": socket.gethostname(), "error": error, **asdict(counts)}

    def _range(self, number: int) -> str:
        tasks, _ = read_tasks(self._order.tasks, number)
        return f"one of its {len(tasks)} images, from {tasks[0].uri} to {tasks[-1].uri}, crashes it"

    def _work(self, number: int, name: str) -> Counts:
        tasks, tokens = read_tasks(self._order.tasks, number)
        wanted: dict[str, tuple[list[int], list[str]]] = {}
        for table, order in self._order.tables.items():
            positions = [task.position for task in tasks if table in task.tables]
            keys = [f"{order.recipe}:{tokens[position]}" for position in positions]
            if positions and not is_whole(self._part(table, name), self._known[table].schema, order.recipe, keys):
                wanted[table] = positions, keys
        rows = ShardRows({table: self._known[table] for table in wanted})
        left = [narrowed for task in tasks if (narrowed := _narrowed(task, frozenset(wanted))).tables]
        if left:
            known = {table: self._known[table] for table in wanted}
            decode_tasks(left, self._settings, self._model, known, rows, {})
        for table, (positions, keys) in wanted.items():
            write_part(self._known[table].schema, rows.frame(table, positions, keys), self._part(table, name))
        rows.counts.reused += len(tasks) - len(left)
        return rows.counts

    def _part(self, table: str, name: str) -> Path:
        return Path(self._order.tables[table].parts) / part_name(name)

    @cached_property
    def _settings(self) -> Settings:
        return settings_from(json.loads(self._order.settings)).with_changes(num_threads=self._order.threads)

    @cached_property
    def _model(self) -> EmbeddingModel:
        model = load_model(self._settings)
        if model.id != self._order.model:
            raise ValueError(
                f"{socket.gethostname()} has the model {model.id}, the pass was started with {self._order.model}: "
                "all machines need the same model files"
            )
        return model

    @cached_property
    def _known(self) -> dict[str, ReusableRows]:
        known = {}
        for table, order in self._order.tables.items():
            made_by = recipe(table, self._settings, self._model)
            if made_by != order.recipe:
                raise RuntimeError(
                    f"{socket.gethostname()} would make other rows of {table}: it needs the same versions of "
                    "fastdup_dagster and onnxruntime that the pass was started with"
                )
            files = [Path(file) for file in order.known]
            few = sum(map(rows_in, files)) <= _KNOWN_ROWS
            known[table] = ReusableRows(feature_schema(table, self._model), made_by, files if few else [])
        return known


def _narrowed(task: Task, tables: frozenset[str]) -> Task:
    """The task for those of its tables that are among these."""
    return Task(task.position, task.index, task.uri, task.tables & tables, task.box, task.file_size)


def described(error: Exception) -> str:
    """An error as JSON: the names of its class and of those that it derives from, and its text."""
    return json.dumps({"kinds": [kind.__name__ for kind in type(error).__mro__], "text": str(error)})
