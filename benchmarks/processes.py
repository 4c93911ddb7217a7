"""Commands in fresh processes: wall time, CPU time with children, peak memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1e6


@dataclass(frozen=True)
class Usage:
    """What a process took, its children included.

    Attributes:
        wall: seconds from start to exit.
        cpu: seconds of user and system time.
        peak_mb: megabytes (10^6 bytes) resident at most, of the largest process.
        output: what it wrote on standard output.
    """

    wall: float
    cpu: float
    peak_mb: float
    output: str


def measured(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> Usage:
    """Runs a command to its end.

    Args:
        command: program and arguments.
        environment: all of it; nothing is inherited.
        folder: where it runs.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=errors, env=dict(environment), cwd=folder
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (output, errors):
            stream.seek(0)
        said, complained = (stream.read().decode(errors="replace") for stream in (output, errors))
    if process.returncode:
        end = "\n".join((said + complained).splitlines()[-15:])
        raise RuntimeError(f"exit code {process.returncode} of {' '.join(map(str, command))}\n{end}")
    # Linux counts in units of 1,024 bytes.
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MEGABYTE, said)


def pin(threads: int) -> None:
    """Keeps this process, and those it starts, on as many cores as threads: whoever starts more gains nothing.

    Raises:
        ValueError: there are not so many cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(f"--threads {threads}: this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores[:threads])


def plain_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment that holds little: a home of its own, a path, a UTF-8 locale, and what is given."""
    return {"HOME": str(home), "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **more}
