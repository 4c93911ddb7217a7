"""The pass on a real Ray cluster of this machine with two workers: the same tables, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fastdup_dagster.models import load_model
from fastdup_dagster.settings import settings_from
from fastdup_dagster.sharding.ray_backend import RayBackend
from fastdup_dagster.sharding.ray_cluster import RayOptions, cluster
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.storage import TableStore

if find_spec("ray") is None:  # not imported yet: what it reads from the environment then is for the backend to set
    pytest.skip("Ray is not installed (pip install 'fastdup_dagster[ray]')", allow_module_level=True)
# One process runs all of these (conftest.py): a cluster takes both cores for seconds until it is there.

SHARD = 6
# Joins the cluster, and kills itself after some shards.
DRIVER = """
    import os, signal, sys
    import polars as pl
    from pathlib import Path
    from fastdup_dagster.models import load_model
    from fastdup_dagster.settings import settings_from
    from fastdup_dagster.sharding.ray_backend import RayBackend
    from fastdup_dagster.sharding.ray_cluster import RayOptions
    from fastdup_dagster.stages.features import compute_features
    from fastdup_dagster.storage import TableStore

    manifest, store, address, size = sys.argv[1:]

    def die(done, total):
        if done >= total / 3:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = settings_from({"num_threads": 2})
    backend = RayBackend(RayOptions(address, workers=2, shard_size=int(size), environment=("FASTDUP_MODELS",)))
    compute_features(
        pl.read_parquet(manifest), settings, load_model(settings), TableStore(store), "pets/train",
        progress=die, backend=backend,
    )
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine that the tests share, with room for two workers."""
    with cluster(RayOptions(workers=2)) as (started, is_own):
        assert is_own
        yield started


@pytest.fixture
def backend(ray: Any) -> RayBackend:
    return RayBackend(RayOptions(workers=2, shard_size=SHARD))


def at_work(folder: Path) -> list[tuple[str, int]]:
    """Shards that are being worked on, and the process that does."""
    return [(name, int(pid)) for name, pid, *_ in (path.name.split(".") for path in folder.rglob("*.attempt"))]


def parts(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in folder.rglob("part-*.arrow")}


def test_a_worker_that_is_killed_while_it_works_loses_nothing(mixed, local, backend, tmp_path: Path) -> None:
    killed: list[int] = []
    finished: dict[Path, int] = {}

    def watch(done: int, total: int) -> None:
        deadline = time.monotonic() + 5
        while not killed and time.monotonic() < deadline:
            before = parts(tmp_path)
            for name, pid in at_work(tmp_path):
                if not any(name in path.name for path in before):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    finished.update(before)
                    break
        if done == total:
            assert finished.items() <= parts(tmp_path).items()

    digests, summary = mixed.run(tmp_path, backend, progress=watch)
    assert killed and finished and not Path(f"/proc/{killed[0]}").exists()
    assert digests == local
    assert (summary.rows, summary.invalid["error_code"].to_list()) == (mixed.rows, ["CORRUPT_IMAGE"])


def test_what_a_killed_pass_has_finished_is_taken_over_by_a_local_one(mixed, local, ray, tmp_path: Path) -> None:
    mixed.manifest.write_parquet(tmp_path / "manifest.parquet")
    address = ray.get_runtime_context().gcs_address
    given = [tmp_path / "manifest.parquet", tmp_path / "store", address, str(SHARD)]
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(DRIVER), *given], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert ray.is_initialized() and ray.cluster_resources()["CPU"] == 3  # what was joined goes on
    digests, summary = mixed.run(tmp_path / "store")
    assert digests == local
    assert summary.inferred <= mixed.distinct * 2 / 3


def test_an_error_of_the_model_ends_the_pass_with_its_own_words(mixed, backend, tmp_path: Path) -> None:
    settings = settings_from({"num_threads": 2})
    model = load_model(settings)
    missing = settings.with_changes(model_path=str(tmp_path / "gone.onnx"))
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx"):
        compute_features(mixed.manifest, missing, model, TableStore(tmp_path), "pets/train", backend=backend)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("ray")
def test_dagster_takes_the_backend_that_the_environment_names(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = project.store.lineage("embeddings", "pets/train").digest
    monkeypatch.setenv("FASTDUP_BACKEND", "ray")
    monkeypatch.setenv("FASTDUP_RAY_WORKERS", "2")
    ran: list[int] = []
    compute = RayBackend.compute
    monkeypatch.setattr(RayBackend, "compute", lambda self, work: ran.append(len(work.tasks)) or compute(self, work))
    config = {"ops": {"features": {"config": {"recompute": True}}}}
    assert project.run("pets/train", "image_manifest", "embeddings", "img_stats", **config).success
    assert project.store.lineage("embeddings", "pets/train").digest == before
    assert ran == [10]
