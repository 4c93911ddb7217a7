"""Runs of processes that were killed are closed; those of living ones, and of other machines, are left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import dagster as dg
import pytest

from fastdup_dagster.command_line.runs import HOST, PID, SINCE, close_dead_runs, owner_tags
from fastdup_dagster.definitions import defs


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def started(instance: dg.DagsterInstance, tags: dict[str, str]) -> str:
    job = defs.resolve_job_def("analyse_split")
    run = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    return run.run_id


def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_runs_of_dead_processes_on_this_host_are_closed(instance):
    mine = owner_tags()
    runs = {
        "alive": started(instance, mine),
        "dead": started(instance, {**mine, PID: str(dead())}),
        "number reused": started(instance, {**mine, SINCE: "1"}),
        "other host": started(instance, {**mine, HOST: "elsewhere", PID: "1"}),
        "not ours": started(instance, {}),
    }
    assert set(close_dead_runs(instance)) == {runs["dead"], runs["number reused"]}
    for name, run_id in runs.items():
        run = instance.get_run_by_id(run_id)
        assert run is not None
        closed = name in ("dead", "number reused")
        assert run.status is (dg.DagsterRunStatus.FAILURE if closed else dg.DagsterRunStatus.STARTED), name
    assert close_dead_runs(instance) == []


def test_tags_name_this_process():
    assert owner_tags()[PID] == str(os.getpid())
