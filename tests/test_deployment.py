"""The files of docs/deployment fit the schemas of Dagster and Kubernetes, and name what the package knows."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster._config import process_config, resolve_to_config_type, validate_config
from dagster._core.instance.config import dagster_instance_config, dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "deployment"
# What the chart's own schema knows on its top level; the schema itself comes with no package.
CHART = {
    "global", "nameOverride", "fullnameOverride", "rbacEnabled", "imagePullSecrets", "dagsterWebserver",
    "computeLogManager", "dagster-user-deployments", "scheduler", "runLauncher", "postgresql",
    "generatePostgresqlPasswordSecret", "generateCeleryConfigSecret", "rabbitmq", "redis", "flower", "ingress",
    "dagsterDaemon", "extraManifests", "pythonLogs", "busybox", "migrate", "telemetry", "serviceAccount",
    "retention", "concurrency", "additionalInstanceConfig",
}  # fmt: skip
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def load(name: str) -> dict[str, Any]:
    return YAML(typ="safe").load((FOLDER / name).read_text())  # type: ignore[no-any-return]


def snake(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the chart as the keys of Dagster that its templates write, one level deep."""
    return {_HUMP.sub(lambda hump: f"_{hump[1].lower()}", key): value for key, value in config.items()}


def check_class(module: str, name: str, config: Mapping[str, Any]) -> None:
    """Holds a class's config against the schema that the class gives."""
    found = getattr(importlib.import_module(module), name)
    result = process_config(resolve_to_config_type(found.config_type()), config)
    assert result.success, [error.message for error in result.errors]


def check_instance(config: Mapping[str, Any]) -> None:
    result = validate_config(dagster_instance_config_schema(), config)
    assert result.success, [error.message for error in result.errors or ()]


def check_object(model: Any, written: Mapping[str, Any]) -> None:
    """Holds an object of Kubernetes against its model; unknown keys are refused."""
    k8s_model_from_dict(model, k8s_snake_case_dict(model, dict(written)))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "DB", "USER", "PASSWORD"):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", "x")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("DAGSTER_K8S_NAMESPACE", "dagster")


def test_the_instance_on_kubernetes_fits_dagsters_schema_and_those_of_its_classes() -> None:
    found, _ = dagster_instance_config(str(FOLDER / "kubernetes"))  # as Dagster itself reads the file
    check_instance(found)
    for part in ("run_launcher", "compute_logs"):
        check_class(found[part]["module"], found[part]["class"], found[part]["config"])
    check_class("dagster_postgres", "DagsterPostgresStorage", found["storage"]["postgres"])
    launcher = found["run_launcher"]["config"]
    UserDefinedDagsterK8sConfig.from_dict(launcher["run_k8s_config"])
    for volume in launcher["volumes"]:
        check_object(client.V1Volume, volume)
    for mount in launcher["volume_mounts"]:
        check_object(client.V1VolumeMount, mount)
    assert found["run_retries"]["retry_on_asset_or_op_failure"] is False  # a failed gate is not run again


def test_a_wrong_key_would_be_seen() -> None:
    found = load("kubernetes/dagster.yaml")
    with pytest.raises(AssertionError, match="instance_config_maps"):
        check_class("dagster_k8s", "K8sRunLauncher", {**found["run_launcher"]["config"], "instance_config_maps": "x"})
    with pytest.raises(AssertionError, match="run_retry"):
        check_instance({**found, "run_retry": {}})
    with pytest.raises(Exception, match="Unexpected keys"):
        check_object(client.V1Volume, {"name": "x", "configmap": {"name": "x"}})


def test_the_helm_values_come_to_what_dagsters_schemas_take() -> None:
    values = load("kubernetes/values.yaml")
    assert set(values) <= CHART
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    launched = {**snake(launcher), "run_k8s_config": snake(launcher["runK8sConfig"]), "instance_config_map": "x"}
    UserDefinedDagsterK8sConfig.from_dict(launched["run_k8s_config"])
    check_class("dagster_k8s", K8sRunLauncher.__name__, launched)
    logs = values["computeLogManager"]
    check_class("dagster_aws.s3", logs["type"], snake(logs["config"]["s3ComputeLogManager"]))
    daemon = values["dagsterDaemon"]
    queue = snake(daemon["runCoordinator"]["config"]["queuedRunCoordinator"])
    check_class("dagster._core.run_coordinator", "QueuedRunCoordinator", queue)
    check_instance({"run_monitoring": snake(daemon["runMonitoring"]), **values["additionalInstanceConfig"]})
    assert not daemon["runRetries"]["enabled"]  # or the chart would write the key twice


def test_the_code_location_of_the_helm_values_is_one_that_kubernetes_takes() -> None:
    [deployment] = load("kubernetes/values.yaml")["dagster-user-deployments"]["deployments"]
    context = {key: deployment[key] for key in ("env", "volumes", "resources")}
    K8sContainerContext.create_from_config({"k8s": {**context, "volume_mounts": deployment["volumeMounts"]}})
    probe = {key: value for key, value in deployment["startupProbe"].items() if key != "enabled"}
    container = {
        "name": "x",
        "startupProbe": probe,
        "volumeMounts": deployment["volumeMounts"],
        "env": deployment["env"],
    }
    check_object(client.V1Container, {**container, "resources": deployment["resources"]})
    check_object(client.V1PodSecurityContext, deployment["podSecurityContext"])
    check_object(client.V1PersistentVolumeClaim, load("kubernetes/volume.yaml"))
    claims = [volume["persistentVolumeClaim"] for volume in deployment["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"claimName": load("kubernetes/volume.yaml")["metadata"]["name"]}]


def test_every_variable_that_a_file_sets_is_one_that_the_package_reads() -> None:
    sources = [path for part in ("fastdup_dagster", "assets", "resources") for path in (ROOT / part).rglob("*.py")]
    read = set(re.findall(r"FASTDUP_[A-Z_]+", "\n".join(path.read_text() for path in sources)))
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    named = {(path.name, name) for path in files for name in re.findall(r"FASTDUP_[A-Z_]+", path.read_text())}
    assert len({name for _, name in named}) > 5
    assert [(file, name) for file, name in named if name not in read] == []


def test_what_the_image_installs_is_there() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text()
    kept = set(re.findall(r"^!(\S+)", ignored, re.MULTILINE))
    assert all((ROOT / name).exists() for name in kept)
    linked = [path.resolve() for name in kept for path in (ROOT / name).rglob("*") if path.is_symlink()]
    assert all(path.relative_to(ROOT).parts[0] in kept for path in linked)  # or the link leads nowhere in the build
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"} <= kept  # what the build reads
    extras = re.findall(r"^([a-z0-9-]+) = \[\"dagster", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.search(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE)[1] in extras  # type: ignore[index]
    user = load("kubernetes/values.yaml")["dagster-user-deployments"]["deployments"][0]["podSecurityContext"][
        "runAsUser"
    ]
    assert f"--uid {user} " in text
    assert f"\nUSER {user}\n" in text
