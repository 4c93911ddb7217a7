"""The environment chooses the executor; its YAML is held against the executor's own schema when it is chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from ruamel.yaml import YAML

from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.resources import executors
from fastdup_dagster.resources.executors import EXECUTOR, EXECUTOR_CONFIG, EXECUTORS, ExecutorError, chosen_executor

FILES = sorted((Path(__file__).resolve().parents[2] / "docs" / "deployment" / "executors").glob("*.yaml"))
NAMED = ("DAGSTER_CELERY_BROKER_URL", "DAGSTER_CELERY_BACKEND_URL", "RAY_DASHBOARD_ADDRESS")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXECUTOR, raising=False)
    monkeypatch.delenv(EXECUTOR_CONFIG, raising=False)
    for name in NAMED:  # what the files take from the environment
        monkeypatch.setenv(name, "redis://redis.example.com")


def chosen(monkeypatch: pytest.MonkeyPatch, name: str, file: Path | None = None) -> dg.ExecutorDefinition:
    monkeypatch.setenv(EXECUTOR, name)
    if file:
        monkeypatch.setenv(EXECUTOR_CONFIG, str(file))
    return chosen_executor()


def test_steps_run_in_the_process_of_the_run_unless_something_else_is_said() -> None:
    assert chosen_executor().name == "in_process"


def test_every_executor_but_the_default_has_a_file_that_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {file.stem for file in FILES} == set(EXECUTORS) - {"in_process"}
    for file in FILES:
        assert chosen(monkeypatch, file.stem, file).name.replace("-", "_") == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_key_that_an_executor_does_not_know_is_named_with_its_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(file.read_text() + "\nworkerz: 2\n")
    with pytest.raises(
        ExecutorError, match=rf"{EXECUTOR}={file.stem}, {wrong}: workerz: Received unexpected"
    ) as caught:
        chosen(monkeypatch, file.stem, wrong)
    assert "Expected: " in str(caught.value)


@pytest.mark.parametrize("name", ["k8s", "celery_k8s"])
def test_what_goes_into_pods_is_what_kubernetes_knows(name: str) -> None:
    config = YAML(typ="safe").load(next(file for file in FILES if file.stem == name))
    steps = [config.get("step_k8s_config", {}), *config["per_step_k8s_config"].values()]
    assert set(config["per_step_k8s_config"]) <= {"features", "knn_graph", "captions"}
    for step in steps:  # the executor's schema takes anything here
        UserDefinedDagsterK8sConfig.from_dict(step)
    with pytest.raises(Exception, match=r"Unexpected keys in model class V1Container: \{'resource'\}"):
        UserDefinedDagsterK8sConfig.from_dict({"container_config": {"resource": {}}})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("threads", None, "FASTDUP_EXECUTOR='threads': expected one of in_process, multiprocess, docker, k8s"),
        ("dask", None, "dask, no file; name one in FASTDUP_EXECUTOR_CONFIG: cluster: Missing required config entry"),
        ("multiprocess", "start_method: {fork: {}}", r"start_method\.fork: Received .*forkserver\?: … spawn\?: …"),
        ("multiprocess", "max_concurrent: two", 'max_concurrent: Invalid scalar. Value "two" .* expected type "Int"'),
        ("k8s", "job_namespace: {env: NOT_SET}", 'job_namespace: You .* environment variable "NOT_SET" which is not'),
        ("k8s", "- a", "expected the executor's keys and values, found list"),
        ("k8s", "a: [", "while parsing"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_what_to_write(
    name: str, text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "executor.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ExecutorError, match=message) as caught:
        chosen(monkeypatch, name, file if text is not None else None)
    assert text is None or str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExecutorError, match=f"{EXECUTOR_CONFIG}: {tmp_path}/none.yaml: .*No such file"):
        chosen(monkeypatch, "multiprocess", tmp_path / "none.yaml")


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_docker", None)
    with pytest.raises(
        ExecutorError, match=r"dagster_docker is not installed; pip install 'fastdup-dagster\[docker\]'"
    ):
        chosen(monkeypatch, "docker")


def test_a_file_replaces_the_defaults_of_multiprocess_key_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(executors, "_check", lambda name, executor, config, file: seen.append(config))
    chosen(monkeypatch, "multiprocess")
    (tmp_path / "one.yaml").write_text("max_concurrent: 1\n")
    chosen(monkeypatch, "multiprocess", tmp_path / "one.yaml")
    default, changed = seen
    assert default["start_method"]["forkserver"]["preload_modules"] == ["fastdup_dagster.resources.preloaded"]
    assert default["max_concurrent"] >= 1
    assert changed == {**default, "max_concurrent": 1}


@pytest.mark.parametrize("name", ["multiprocess", "dask"])
def test_a_split_is_listed_in_another_process(
    name: str, home: Path, photos: Callable[..., list[Path]], tmp_path: Path
) -> None:
    photos(tmp_path / "root", 3)
    register("pets", DatasetEntry(root=str(tmp_path / "root"), splits={"all": "."}))
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("split", ["pets/all"])
    (tmp_path / "local.yaml").write_text(
        "cluster: {local: {n_workers: 1, processes: false, dashboard_address: null}}\n"
    )
    environ = {**os.environ, EXECUTOR: name} | (
        {EXECUTOR_CONFIG: str(tmp_path / "local.yaml")} if name == "dask" else {}
    )
    command = ["-m", "dagster", "job", "execute", "-m", "fastdup_dagster.definitions", "-j", "list_split"]
    tags = ["--tags", '{"dagster/partition": "pets/all"}']
    done = subprocess.run([sys.executable, *command, *tags], env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (home / "store" / "image_manifest" / "pets" / "all.parquet").is_file()
    # Not from what the command prints: Dagster has the lines of a step repeated by a process that it may end too early.
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        logged = [record.message for record in instance.all_logs(run.run_id)]
    assert any(line.startswith('Finished execution of step "image_manifest"') for line in logged)
    assert any(line.startswith("Launching subprocess") for line in logged) == (name == "multiprocess")
