"""A worker that crashes costs one test, not the run; and the environment may change while another thread reads it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_CONFTEST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import pytest
from workers import Scheduling

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)
"""
_TESTS = """
import os, signal
import pytest

@pytest.mark.parametrize("number", range(40))
def test_it(number):
    if number in (10, 13):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_crashes_fail_a_test_each_and_the_others_run_once(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_crash.py").write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    ended = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False)
    assert "2 failed, 38 passed" in ended.stdout, ended.stdout + ended.stderr
    assert all(f"crashed while running 'test_crash.py::test_it[{number}]'" in ended.stdout for number in (10, 13))


def _seen(name: str) -> str:
    """What a child process, which the C library gives its environment, finds."""
    asked = f"import os; print(os.environ.get({name!r}))"
    return subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def test_children_see_what_is_set_changed_and_removed(monkeypatch) -> None:
    monkeypatch.setenv("FIRST_OF_TWO", "1")
    monkeypatch.setenv("FIRST_OF_TWO_MORE", "2")
    monkeypatch.setenv("FIRST_OF_TWO", "3")
    assert (_seen("FIRST_OF_TWO"), _seen("FIRST_OF_TWO_MORE")) == ("3", "2")
    monkeypatch.delenv("FIRST_OF_TWO")
    assert (_seen("FIRST_OF_TWO"), _seen("FIRST_OF_TWO_MORE")) == ("None", "2")
    assert _seen("HOME") == str(os.environ.get("HOME"))


_MANY = f"""
import ctypes, os, subprocess, sys
sys.path.insert(0, {str(HERE)!r})
from workers import steady_environment
steady_environment()
libc = ctypes.CDLL(None)
at = ctypes.c_void_p.in_dll(libc, "environ")
os.environ["FIRST"] = "1"
before = at.value
for number in range(1000):
    os.environ[f"NAME_{{number}}"] = "x"
for number in range(1000):
    del os.environ[f"NAME_{{number}}"]
print(at.value == before)
libc.setenv(b"NOT_BY_PYTHON", b"kept", 1)
os.environ["BY_PYTHON"] = "too"
subprocess.run([sys.executable, "-c", "import os; print(os.environ['NOT_BY_PYTHON'], os.environ['BY_PYTHON'])"])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc's list is kept in place")
def test_the_list_that_other_threads_read_stays_where_it_is() -> None:
    command = [sys.executable, "-u", "-c", _MANY]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.split("\n")[:2]) == (0, ["True", "kept too"]), ended.stderr
