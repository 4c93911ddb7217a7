"""Sources are recorded per partition: by the listing, by the observation that the UI and schedules run, never twice."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from fastdup_dagster.assets.observed import (
    EMBEDDING_MODEL,
    SOURCES,
    current_versions,
    observe,
    observed_version,
    settings_key,
)
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.model import ModelResource


def now(key: str) -> dict[dg.AssetKey, str]:
    return current_versions(key, DatasetsResource(), ModelResource())


def recorded(project, key: str) -> dict[dg.AssetKey, str]:
    return {source: version for source in SOURCES if (version := observed_version(project.instance, source, key))}


def test_a_listing_records_the_sources_of_its_split_and_of_its_data_set(project):
    assert recorded(project, "pets/train") == {}
    assert project.run("pets/train", "image_manifest").success
    assert recorded(project, "pets/train") == now("pets/train")
    assert recorded(project, "pets") == now("pets")
    assert recorded(project, "pets/test") == {}
    [version] = now("pets").values()
    assert json.loads(version)["splits"] == ["test", "train"]


def test_what_is_recorded_is_not_repeated(project):
    for _ in range(2):
        observe(project.instance, "pets/train", now("pets/train"))
    assert len(project.instance.fetch_observations(EMBEDDING_MODEL, limit=10).records) == 1


def test_a_model_that_cannot_be_opened_is_for_its_own_step_to_say(project, tmp_path):
    project.register({"num_threads": 2, "model_path": str(tmp_path / "gone.onnx")})
    assert project.run("pets/train", "image_manifest").success
    assert EMBEDDING_MODEL not in recorded(project, "pets/train")
    assert settings_key("similarity") in recorded(project, "pets/train")
    assert not project.run("pets/train", "embeddings").success


@pytest.mark.parametrize("keys", [[s for s in SOURCES if s != settings_key("split_leakage")], [SOURCES[-1]]])
def test_the_observation_of_the_ui_records_every_partition_and_passes_over_what_is_not_registered(project, keys):
    project.instance.add_dynamic_partitions("split", ["gone/train"])
    project.instance.add_dynamic_partitions("dataset", ["gone"])
    job = build_definitions().resolve_implicit_job_def_def_for_assets(keys)
    assert job is not None
    assert job.execute_in_process(instance=project.instance, asset_selection=keys).success
    for key in ("pets/train", "pets/test", "pets"):
        assert recorded(project, key) == {s: v for s, v in now(key).items() if s in keys}
    assert recorded(project, "gone/train") == recorded(project, "gone") == {}


def test_what_a_source_was_is_looked_up_by_event(project):
    instance, source = project.instance, settings_key("outliers")
    observe(instance, "pets/train", {source: "a"})
    first = instance.fetch_observations(source, limit=1).records[0].storage_id
    observe(instance, "pets/train", {source: "b"})
    assert observed_version(instance, source, "pets/train") == "b"
    assert observed_version(instance, source, "pets/train", at=first) == "a"
    assert observed_version(instance, source, "pets/train", at=first - 1) == "a", "taken for what it was at first"
    assert observed_version(instance, source, "pets/test", at=first) is None
