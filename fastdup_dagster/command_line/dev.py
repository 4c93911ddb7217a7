"""`fastdup-dagster dev`: the Dagster UI and daemon on this project, and the server of its pages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from fastdup_dagster.command_line.pages_server import pages_server

_PATIENCE = 20.0


def serve(
    port: int, pages_port: int, workspace: Path | None, environment: dict[str, str], ready: Callable[[], None]
) -> int:
    """Runs until it is interrupted or terminated, or Dagster ends by itself.

    Args:
        port: of the Dagster UI, on 127.0.0.1.
        pages_port: of the galleries, on 127.0.0.1.
        workspace: a workspace.yaml; None serves this package's definitions.
        environment: of the Dagster processes, over this one's.
        ready: called once both ports are known to be free.

    Returns:
        Dagster's exit code; 0 after an interrupt.

    Raises:
        ValueError: if a port is taken, naming its option.
    """
    for option, number in (("--port", port), ("--pages-port", pages_port)):
        _check_free(option, number)
    if port == pages_port:
        raise ValueError(f"--port and --pages-port are both {port}: choose two")
    ready()
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    # Set before Dagster starts: a child of a process that ignores SIGINT (a shell's background job) would ignore it
    # too, and could not be stopped.
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pages_server(pages_port) as server:
            threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
            code = _dagster(port, workspace, environment, stop)
            server.shutdown()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code


def _check_free(option: str, port: int) -> None:
    """Dagster goes on without its web server if the port is taken, and says so only among its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just closed is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(f"port {port}: {error.strerror}; choose another {option}") from error


def _dagster(port: int, workspace: Path | None, environment: dict[str, str], stop: threading.Event) -> int:
    what = ["-w", str(workspace)] if workspace else ["-m", "fastdup_dagster.definitions"]
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port), *what]
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which then ends Dagster in order.
    child = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        while child.poll() is None and not stop.wait(0.2):
            pass
    finally:
        code = _end(child)
    return 0 if stop.is_set() else code


def _end(child: subprocess.Popen[bytes]) -> int:
    """Asks Dagster to end, then whatever is left of its session: code servers and runs may outlive it by a minute."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        code = child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        code = 1
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + _PATIENCE
        left = _tell(child.pid, number)
        while left and time.monotonic() < end:
            time.sleep(0.1)
            left = _tell(child.pid, 0)  # signal 0 only asks
    return code


def _tell(group: int, number: int) -> bool:
    """Sends a signal to a process group; whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
