"""Memory that Arrow no longer uses goes back to the system, which its own choice of allocator does late."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOWN = "import fastdup_dagster.storage, pyarrow; print(pyarrow.default_memory_pool().backend_name)"


def allocator(chosen: str | None) -> str:
    """What Arrow uses in a process that imports the package first."""
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if chosen is not None:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = chosen
    return subprocess.run(
        [sys.executable, "-c", SHOWN], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="Arrow has other allocators on other systems")
def test_arrow_uses_jemalloc_unless_the_user_chose_another() -> None:
    assert allocator(None) == "jemalloc"
    assert allocator("system") == "system"
