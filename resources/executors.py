"""Which executor runs the steps of a run: chosen by the environment, its YAML checked when the code location loads.

https://docs.dagster.io/guides/operate/run-executors
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fastdup_dagster.settings import Settings
from fastdup_dagster.variables import VariableError

EXECUTOR = "FASTDUP_EXECUTOR"
EXECUTOR_CONFIG = "FASTDUP_EXECUTOR_CONFIG"
_PRELOADED = "fastdup_dagster.resources.preloaded"
_WHERE = re.compile(r" at path root:execution:config[\w:-]*")
_INNERMOST = re.compile(r"\{[^{}]*\}")


class ExecutorError(VariableError):
    """The environment, or the file that it names, asks for what cannot be; the message says what to write."""


@dataclass(frozen=True)
class Executor:
    """An executor that FASTDUP_EXECUTOR may name.

    Attributes:
        module: that it is imported from, when it is chosen.
        attribute: its name there.
        runs: where a step runs, for a person.
        install: what pip is to be given for it; None if it comes with Dagster.
    """

    module: str
    attribute: str
    runs: str
    install: str | None = None

    def load(self) -> dg.ExecutorDefinition:
        """Imports it.

        Raises:
            ExecutorError: if its package is not installed, with the command that installs it.
        """
        try:
            found: dg.ExecutorDefinition = getattr(importlib.import_module(self.module), self.attribute)
        except ModuleNotFoundError as error:
            raise ExecutorError(
                f"{EXECUTOR}: {error.name} is not installed; pip install '{self.install}' gets it"
            ) from error
        return found


EXECUTORS: Mapping[str, Executor] = {
    "in_process": Executor("dagster", "in_process_executor", "in the process of the run, one after another"),
    "multiprocess": Executor("dagster", "multiprocess_executor", "in a process each, on the machine of the run"),
    "docker": Executor(
        "dagster_docker", "docker_executor", "in a container each, on a Docker host", "fastdup-dagster[docker]"
    ),
    "k8s": Executor("dagster_k8s", "k8s_job_executor", "in a Kubernetes job each", "fastdup-dagster[k8s]"),
    "celery": Executor("dagster_celery", "celery_executor", "in Celery workers", "fastdup-dagster[celery]"),
    "celery_k8s": Executor(
        "dagster_celery_k8s",
        "celery_k8s_job_executor",
        "in a Kubernetes job each, launched by Celery workers, whose number bounds them",
        "fastdup-dagster[celery-k8s]",
    ),
    "dask": Executor(
        "fastdup_dagster.resources.dask_executor",
        "dask_executor",
        "in the workers of a Dask cluster",
        "fastdup-dagster[dask]",
    ),
    "ray": Executor("dagster_ray", "ray_executor", "in a Ray job each", "fastdup-dagster[ray-executor]"),
}


def chosen_executor() -> dg.ExecutorDefinition:
    """The executor that FASTDUP_EXECUTOR names, configured by the YAML file that FASTDUP_EXECUTOR_CONFIG names.

    The file holds what Dagster calls the config of that executor. Without one its own defaults hold; those of
    `multiprocess` are a forkserver, which has loaded this package once, and as many steps at a time as cores; keys that
    a file gives replace them.

    Raises:
        ExecutorError: if there is no such executor or its package is missing, or the file cannot be read or
            does not fit, naming file, key and remedy.
    """
    name = os.environ.get(EXECUTOR) or "in_process"
    if name not in EXECUTORS:
        raise ExecutorError(f"{EXECUTOR}={name!r}: expected one of {', '.join(EXECUTORS)}")
    executor = EXECUTORS[name].load()
    file = os.environ.get(EXECUTOR_CONFIG)
    config = {**_defaults(name), **(_read(Path(file).expanduser()) if file else {})}
    _check(name, executor, config, file)
    return executor.configured(config)


def _defaults(name: str) -> dict[str, Any]:
    if name != "multiprocess":
        return {}
    # A spawned process imports everything anew for every step, which takes longer than most steps do.
    return {
        "start_method": {"forkserver": {"preload_modules": [_PRELOADED]}},
        "max_concurrent": Settings().threads,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ExecutorError(f"{EXECUTOR_CONFIG}: {path}: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise ExecutorError(
            f"{EXECUTOR_CONFIG}: {path}: expected the executor's keys and values, found {type(found).__name__}"
        )
    return found or {}


@dg.op(name="nothing")
def _nothing() -> None:
    """A job needs something to do; this one is never run."""


def _check(name: str, executor: dg.ExecutorDefinition, config: Mapping[str, Any], file: str | None) -> None:
    """Holds the config against the executor's schema now: Dagster itself would do so when the first run starts."""
    job = dg.GraphDefinition(name="check", node_defs=[_nothing]).to_job(executor_def=executor)
    try:
        dg.validate_run_config(job, {"execution": {"config": dict(config)}})
    except dg.DagsterInvalidConfigError as error:
        first = error.errors[0]
        keys = [*first.stack.levels[2:], *filter(None, [getattr(first.error_data, "field_name", None)])]
        place = file or f"no file; name one in {EXECUTOR_CONFIG}"
        raise ExecutorError(
            f"{EXECUTOR}={name}, {place}: {'.'.join(map(str, keys)) or 'the whole'}: {_said(first.message)}"
        ) from error


def _said(message: str) -> str:
    """What Dagster says of a mistake, without its place, without a traceback, and with the keys of one level alone."""
    text = _WHERE.sub("", message.partition("\n\nStack Trace:")[0])
    text = text.partition("PostProcessingError: ")[2] or text
    while text.count("{") > 1:
        text = _INNERMOST.sub("…", text)
    return text
