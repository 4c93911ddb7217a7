"""The decode pass on Ray Data: shards go to worker processes, which leave part files; only counts come back."""

from __future__ import annotations

import builtins
import contextlib
import json
import logging
import os
import threading
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from fastdup_dagster.settings import NAMED_MODELS, Settings
from fastdup_dagster.sharding.plan import Shard, cut, shard_size
from fastdup_dagster.sharding.ray_cluster import RayOptions, cluster, machines, workers_of
from fastdup_dagster.sharding.sight import look, require_sight
from fastdup_dagster.sharding.task_file import write_tasks
from fastdup_dagster.sharding.worker import PassOrder, ShardWorker, TableOrder
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.parts import container_of
from fastdup_dagster.sources.paths import local_path
from fastdup_dagster.stages.decode_worker import Task
from fastdup_dagster.stages.embedding_backend import Counts, Work
from fastdup_dagster.stages.row_files import open_rows, part_name
from fastdup_dagster.stages.table_plan import TablePlan
from fastdup_dagster.storage import remove_tree

_LOG = logging.getLogger(__name__)
_PATIENCE = 120.0  # seconds for the machines to answer
_ROOM_PATIENCE = 60.0  # seconds until it is said that no worker has begun


class RayBackend:
    """Works on a pass with Ray Data.

    Args:
        options: where, and how many workers.
    """

    def __init__(self, options: RayOptions | None = None) -> None:
        self.options = options or RayOptions()

    def compute(self, work: Work) -> Counts:
        """See `EmbeddingBackend`.

        Raises:
            ModuleNotFoundError: if Ray Data is not installed.
            RuntimeError: if a machine does not see the images or the folder of unfinished work.
            ValueError: if files are to be read from copies, which are of this machine.
        """
        if work.copies:
            raise ValueError("copies of remote files are of this machine alone: the Ray backend reads the files")
        if not work.tasks:
            return Counts()
        folder = (work.folder / f"pass-{uuid.uuid4().hex}").absolute()
        folder.mkdir(parents=True)
        try:
            with cluster(self.options) as (ray, is_own):
                if not is_own:
                    self._require_sight(ray, folder, work.tasks)
                return self._run(ray, folder, work)
        finally:
            remove_tree(folder)

    def _require_sight(self, ray: Any, folder: Path, tasks: list[Task]) -> None:
        token, text = folder / "token", uuid.uuid4().hex
        token.write_text(text, encoding="utf-8")
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        ask = ray.remote(num_cpus=0)(look)
        files = [str(file) for file in _some_local_files(tasks)]
        answers = [
            ask.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(str(token), text, files)
            for node in machines(ray, self.options)
        ]
        try:
            require_sight(ray.get(answers, timeout=_PATIENCE), folder)
        except ray.exceptions.GetTimeoutError as error:
            raise RuntimeError(f"a machine of the Ray cluster gave no answer within {_PATIENCE:.0f} s") from error
        except ray.exceptions.RaySystemError as error:
            raise RuntimeError(
                "a machine of the Ray cluster cannot run this version of fastdup_dagster: "
                f"install it there as here, with its extra ray ({error})"
            ) from error

    def _run(self, ray: Any, folder: Path, work: Work) -> Counts:
        workers = workers_of(ray, self.options)
        keys = {name: plan.keys for name, plan in work.plans.items()}
        size = shard_size(len(work.tasks), workers, self.options.shard_size)
        shards = list(cut(work.tasks, size, keys))
        order = _order(folder, work, self.options.cpus)
        write_tasks(order.tasks, shards, keys)
        counts, done = Counts(), 0
        names = [shard.name for shard in shards]
        with (
            _said_if_none_begins(folder) as waiting,
            contextlib.closing(self._outcomes(ray, order, names, workers)) as outcomes,
        ):
            for outcome in outcomes:
                waiting.cancel()
                if outcome["error"]:
                    raise error_of(outcome["error"], outcome["host"])
                shard = shards[outcome["number"]]
                for name, plan in work.plans.items():
                    _enter(plan, shard, name)
                for field in vars(counts):
                    setattr(counts, field, getattr(counts, field) + outcome[field])
                done += len(shard.tasks)
                if work.progress:
                    work.progress(done, len(work.tasks))
        return counts

    def _outcomes(
        self, ray: Any, order: PassOrder, names: list[str], workers: int
    ) -> Generator[dict[str, Any], None, None]:
        """What comes of each shard, as they end. Ray Data restarts workers that die, and repeats their shards."""
        with _quiet(ray):
            shards = ray.data.from_items(
                [{"number": number, "name": name} for number, name in enumerate(names)], override_num_blocks=len(names)
            )
            # Nothing but these workers needs a CPU: the shards are in memory, and workers write their parts themselves.
            done = shards.map_batches(
                ShardWorker,
                fn_constructor_args=(order.to_json(),),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(names)), max_tasks_in_flight_per_actor=1),
                num_cpus=self.options.cpus,
                num_gpus=self.options.gpus or None,
            )
            yield from done.iter_rows()


@contextlib.contextmanager
def _said_if_none_begins(folder: Path) -> Iterator[threading.Timer]:
    """Ray waits for room without end, and in silence: a cluster may grow, or others may leave it."""

    def say() -> None:
        if not any(folder.glob("*.attempt")):
            _LOG.warning("no worker of the Ray cluster has begun yet: its CPUs may be taken; the pass waits for room")

    timer = threading.Timer(_ROOM_PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Ray Data without bars and lines of its own, and without its limit for how long a shard may take."""
    logger, context = logging.getLogger("ray.data"), ray.data.DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "execution_no_progress_timeout_s": -1,
    }
    before, level = {name: getattr(context, name) for name in wanted}, logger.level
    for name, value in wanted.items():
        setattr(context, name, value)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


def _order(folder: Path, work: Work, threads: int) -> PassOrder:
    settings = work.settings
    if settings.model_path is not None and settings.model_path not in NAMED_MODELS:
        settings = settings.with_changes(model_path=str(Path(settings.model_path).expanduser().absolute()))
    return PassOrder(
        folder=str(folder),
        settings=settings.model_dump_json(include=set(Settings.model_fields)),
        model=work.model.id,
        threads=threads,
        tables={
            name: TableOrder(
                plan.rows.recipe, str(plan.parts.absolute()), [str(file.absolute()) for file in plan.rows.files]
            )
            for name, plan in work.plans.items()
        },
    )


def _some_local_files(tasks: list[Task]) -> Iterator[Path]:
    """The file of the first task that is on a disk, if it is there."""
    uri = next((container_of(task.uri) for task in tasks if not is_remote(task.uri)), None)
    if uri is not None and (path := Path(os.fsdecode(local_path(uri)))).exists():
        yield path


def _enter(plan: TablePlan, shard: Shard, table: str) -> None:
    """Gives the tasks of a shard the places of their rows in its part file.

    Raises:
        RuntimeError: if the part is not there as it should be.
    """
    positions = [task.position for task in shard.tasks if table in task.tables]
    if not positions:
        return
    path = plan.parts / part_name(shard.name)
    try:
        with open_rows(path) as file:
            keys = file.columns(["source_key"])["source_key"].to_list()
    except (OSError, pa.ArrowException) as error:
        raise RuntimeError(f"the part {path}, which a worker has written, cannot be read here: {error}") from error
    if keys != [plan.keys[position] for position in positions]:
        raise RuntimeError(f"the part {path} holds other rows than its shard: remove it and run again")
    plan.file[positions] = plan.rows.add_file(path)
    plan.row[positions] = range(len(positions))


def error_of(text: str, host: str) -> Exception:
    """The error that a worker described: of the nearest class that Python knows, with the same words."""
    said = json.loads(text)
    for kind in said["kinds"]:
        known = getattr(builtins, kind, None)
        if isinstance(known, type) and issubclass(known, Exception) and known is not Exception:
            with contextlib.suppress(TypeError):
                error = known(said["text"])
                error.add_note(f"in a worker on {host}")
                return error
    return RuntimeError(f"{said['kinds'][0]}: {said['text']} (in a worker on {host})")
