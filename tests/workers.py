"""The processes of pytest-xdist that run the suite: which tests each gets, and an environment that may be changed."""

from __future__ import annotations

import ctypes
import os
import threading

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# Modules whose tests follow one another on one worker, because they share what takes long to make, and modules of one
# long test. They begin first, the longest before the others: so all workers end at about the same time.
TOGETHER_AND_FIRST = (
    "tests/test_ui.py",
    "tests/test_cli.py",
    "tests/assets/test_automation.py",
    "tests/test_uploads_with_daemon.py",
    "tests/command_line/test_refresh.py",
    "tests/test_run_killed.py",
    "tests/test_docs.py",
    "tests/sharding/test_ray_backend.py",
    "tests/test_examples.py",
    "tests/stages/test_features_killed.py",
    "tests/test_remote.py",
)


def file_of(nodeid: str) -> str:
    """The module of a test."""
    return nodeid.partition("::")[0]


class Scheduling(LoadScopeScheduling):
    """Tests one by one, but for those that belong together. (Marks of `xdist_group` are lost under pytest 9.2.)

    Where a worker crashes, xdist's own gives out again what that worker had finished, and waits for it for ever.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        return file if file in TOGETHER_AND_FIRST else nodeid

    def remove_node(self, node: WorkerController) -> str | None:
        """Gives what a worker has left to the others, but for the test that it crashed in, which is returned."""
        left = _unfinished(self.assigned_work.pop(node))
        if not left:
            return None
        unit = next(iter(left.values()))
        crashed = next(nodeid for nodeid, done in unit.items() if not done)
        unit[crashed] = True
        self.workqueue.update(_unfinished(left))
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        if node not in self.registered_collections:  # one that replaces another is still looking for its tests
            return
        super()._reschedule(node)
        # A worker begins a test once it knows the next one, or that there is none: it would wait for the others' end.
        if self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def _unfinished(work: dict[str, dict[str, bool]]) -> dict[str, dict[str, bool]]:
    return {scope: unit for scope, unit in work.items() if not all(unit.values())}


class SteadyEnvironment:
    """Lets threads that are not Python's read the environment while Python changes it.

    A `getenv` of glibc before 2.41 crashes where a `setenv` moves the list of variables meanwhile. pytest sets one for
    each test, and polars, once it has read from a bucket, reads one every tenth of a second from a thread of its own.
    Here the list has room for all of them in one place, and what was ever in it is never freed.
    """

    _ROOM = 10_000

    def __init__(self) -> None:
        self._environ = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
        self._list = (ctypes.c_void_p * self._ROOM)()
        self._kept: list[ctypes.Array[ctypes.c_char]] = []
        self._lock = threading.Lock()

    def put(self, name: str | bytes, value: str | bytes) -> None:
        """As os.putenv."""
        text = ctypes.create_string_buffer(os.fsencode(name) + b"=" + os.fsencode(value))
        self._kept.append(text)
        with self._lock:
            place, _ = self._find(os.fsencode(name))
            self._list[place] = ctypes.addressof(text)  # a null follows the last one already

    def remove(self, name: str | bytes) -> None:
        """As os.unsetenv."""
        with self._lock:
            place, end = self._find(os.fsencode(name))
            for later in range(place, end):
                self._list[later] = self._list[later + 1]

    def _find(self, name: bytes) -> tuple[int, int]:
        """The place of a variable, that behind the last one if it is not set, and that behind the last one."""
        if self._environ.value != ctypes.addressof(self._list):  # at first, and after a setenv that was not Python's
            before = ctypes.cast(self._environ, ctypes.POINTER(ctypes.c_void_p))
            for place in range(self._ROOM):
                self._list[place] = before[place]
                if not before[place]:
                    break
            self._environ.value = ctypes.addressof(self._list)
        found = None
        for place, text in enumerate(self._list):
            if text is None:
                return place if found is None else found, place
            if found is None and ctypes.string_at(text).startswith(name + b"="):
                found = place
        raise RuntimeError(f"over {self._ROOM} variables in the environment")


def steady_environment() -> None:
    """Has os.environ use a `SteadyEnvironment` from now on, where the C library is glibc."""
    if hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        environment = SteadyEnvironment()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))  # threads read it when the interpreter has ended, too
        os.putenv, os.unsetenv = environment.put, environment.remove
