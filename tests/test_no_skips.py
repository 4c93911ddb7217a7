"""Where nothing may be skipped, a skipped test is a failed one, unless the machine itself is the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="root reads everything")
def test_machine(): ...

@pytest.mark.skipif(True, reason="no Chromium")
def test_marked(): ...

def test_missing():
    pytest.importorskip("no_such_module")

def test_passes(): ...
"""


def outcome(folder: Path, **environment: str) -> str:
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--rootdir", folder, "-c", os.devnull, folder]
    given = {**os.environ, "PYTHONPATH": str(here), **environment}
    done = subprocess.run([str(c) for c in command], env=given, capture_output=True, text=True, check=False)
    return done.stdout


def test_a_skip_is_a_failure_where_nothing_may_be_skipped(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTDUP_NO_SKIPS", raising=False)
    (tmp_path / "test_some.py").write_text(TESTS)
    assert "1 passed, 3 skipped" in outcome(tmp_path)
    strict = outcome(tmp_path, FASTDUP_NO_SKIPS="1")
    assert "1 failed, 1 passed, 1 skipped" in strict
    assert "1 error" in strict  # a mark skips before the test is set up
    assert "nothing may be skipped here, but: Skipped: no Chromium" in strict


def test_ci_skips_nothing():
    script = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    assert "export FASTDUP_NO_SKIPS=1" in script
