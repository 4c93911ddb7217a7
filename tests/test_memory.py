"""Arrow keeps less of the memory that it no longer uses than by its own choice of allocator."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pyarrow as pa
import pytest

from fastdup_dagster.memory import settle_allocator

SETTLED = """
import pyarrow
from fastdup_dagster.memory import settle_allocator
settle_allocator()
print(pyarrow.default_memory_pool().backend_name)
"""
FIRST, LATE = "import fastdup_dagster.storage", "import pandas, pyarrow"


def allocator(imports: str, chosen: str | None = None) -> str:
    """What Arrow uses in a pass of a process that begins with these imports."""
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if chosen is not None:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = chosen
    return subprocess.run(
        [sys.executable, "-c", imports + SETTLED], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="Arrow has other allocators on other systems"
)
@pytest.mark.parametrize("imports", [FIRST, LATE])
def test_arrow_uses_jemalloc_unless_the_user_chose_another(imports: str) -> None:
    assert allocator(imports) == "jemalloc"
    assert allocator(imports, "system") == "system"
    assert allocator(imports, "mimalloc") == "mimalloc"
    assert allocator(f"{imports}\nimport pyarrow\npyarrow.set_memory_pool(pyarrow.system_memory_pool())") == "system"


def test_an_arrow_without_that_allocator_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pa.default_memory_pool()
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: ["mimalloc", "system"])
    monkeypatch.setattr(pa, "jemalloc_memory_pool", None)  # cannot be called
    pa.set_memory_pool(pa.mimalloc_memory_pool())
    try:
        settle_allocator()
        assert pa.default_memory_pool().backend_name == "mimalloc"
    finally:
        pa.set_memory_pool(before)
