"""Runs of this command line in the Dagster instance: who owns one, and closing those whose owner is dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import dagster as dg

HOST, PID, SINCE = "fastdup_dagster/host", "fastdup_dagster/pid", "fastdup_dagster/process_started"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def owner_tags() -> dict[str, str]:
    """Tags that name this process."""
    pid = os.getpid()
    return {HOST: socket.gethostname(), PID: str(pid), SINCE: _started(pid)}


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks runs as failed whose process on this host is gone (killed, or the machine was restarted).

    Without this they would be shown as running for ever: nobody else watches a run in the caller's own process.

    Returns:
        Ids of the runs that were closed.
    """
    mine = dg.RunsFilter(statuses=_UNFINISHED, tags={HOST: socket.gethostname()})
    closed = []
    for run in instance.get_runs(mine):
        pid, since = int(run.tags.get(PID, "0")), run.tags.get(SINCE, "")
        if _alive(pid) and _started(pid) == since:
            continue
        instance.report_run_failed(run, f"The process {pid} that ran it ended without finishing it.")
        closed.append(run.run_id)
    return closed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: alive
        return True
    return pid > 0


def _started(pid: int) -> str:
    """When the process began, in the kernel's ticks: a reused process id differs in it. Empty where unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
