"""What may be said about a cluster, and that Ray is imported for those who ask for it only."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from fastdup_dagster.sharding import ray_cluster
from fastdup_dagster.sharding.ray_cluster import RayOptions, cluster, workers_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"cpus": 0}, "cpus=0"),
        ({"gpus": -0.5}, "gpus=-0.5"),
        ({"shard_size": 0}, "shard_size=0"),
        ({"address": "ray://head:10001"}, "Ray Client is not supported"),
        ({"environment": ("AWS_SECRET_ACCESS_KEY",)}, "AWS_SECRET_ACCESS_KEY is not handed to workers"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayOptions(**options)  # type: ignore[arg-type]


def test_only_variables_that_are_set_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDUP_MODELS", "/models")
    monkeypatch.delenv("AWS_REGION", raising=False)
    assert RayOptions(environment=("FASTDUP_MODELS", "AWS_REGION")).handed_on() == {"FASTDUP_MODELS": "/models"}


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in (*ray_cluster._ALWAYS, *ray_cluster._OF_OUR_OWN, "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "token")  # so that the test leaves none behind
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'fastdup_dagster\[ray\]'"),
        cluster(RayOptions()),
    ):
        pass


def test_an_address_where_nothing_answers_is_named_at_once() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {address}.*FASTDUP_RAY_ADDRESS"):
            ray_cluster._require_answer(address)


class Nodes:
    """A cluster of machines with so many CPUs; one of them is gone."""

    def __init__(self, *cpus: float) -> None:
        self.cpus = cpus

    def nodes(self) -> list[dict[str, object]]:
        alive = [{"Alive": True, "Resources": {"CPU": count} if count else {}} for count in self.cpus]
        return [*alive, {"Alive": False, "Resources": {"CPU": 64.0}}]


@pytest.mark.parametrize(
    ("options", "cpus", "workers"),
    [
        ({"address": "auto", "cpus": 4}, (16.0, 7.0, 2.0, 0.0), 5),  # as many as have room
        ({"address": "auto", "cpus": 4, "workers": 8}, (16.0,), 8),  # a cluster may grow
        ({"workers": 2}, (3.0,), 2),
    ],
)
def test_workers_are_those_that_were_asked_for_or_that_have_room(
    options: dict[str, object], cpus: tuple[float, ...], workers: int
) -> None:
    assert workers_of(Nodes(*cpus), RayOptions(**options)) == workers  # type: ignore[arg-type]


def test_a_worker_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no machine of the Ray cluster has 8 CPUs"):
        workers_of(Nodes(4.0, 4.0), RayOptions("auto", cpus=8))


def test_nobody_imports_ray_unasked() -> None:
    script = (
        "import sys; from fastdup_dagster.resources.embedding_backend import EmbeddingBackendResource as R;"
        "import fastdup_dagster.definitions; R().choose(); R(kind='ray').choose();"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
