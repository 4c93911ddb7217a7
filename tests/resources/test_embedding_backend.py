"""Who reads the images is chosen by the environment; threads of this process, if nothing is said."""

from __future__ import annotations

import os

import pytest

from fastdup_dagster.resources.embedding_backend import EmbeddingBackendResource, variable
from fastdup_dagster.sharding.ray_backend import RayBackend
from fastdup_dagster.stages.embedding_backend import LocalBackend


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name == "FASTDUP_BACKEND" or name.startswith("FASTDUP_RAY_")]:
        monkeypatch.delenv(name)


def test_threads_of_this_process_unless_something_else_is_said() -> None:
    assert isinstance(EmbeddingBackendResource.from_environment().choose(), LocalBackend)


def test_the_environment_chooses_ray_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "kind": "ray",
        "address": "head:6379",
        "workers": 8,
        "cpus": 4,
        "shard_size": 100_000,
        "environment": "A, B",
    }
    for name, value in said.items():
        monkeypatch.setenv(variable(name), str(value))
    assert os.environ["FASTDUP_BACKEND"] == "ray" and os.environ["FASTDUP_RAY_CPUS"] == "4"
    made = EmbeddingBackendResource.from_environment()
    assert {name: getattr(made, name) for name in said} == said
    backend = made.choose()
    assert isinstance(backend, RayBackend)
    assert backend.options.environment == ("A", "B") and backend.options.workers == 8


@pytest.mark.parametrize(("field", "value"), [("kind", "spark"), ("workers", "0"), ("cpus", "many")])
def test_a_wrong_value_is_refused_with_the_variable(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    monkeypatch.setenv(variable(field), value)
    with pytest.raises(ValueError, match=f"{variable(field)}='{value}'"):
        EmbeddingBackendResource.from_environment()
