"""The condition on the real assets: for each event, the partitions requested at the next tick, and no others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import pytest

from fastdup_dagster.assets.automation import SENSOR, lineage_aware
from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.observed import current_versions, observe
from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.definitions import AUTOMATIC, build_definitions
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.model import ModelResource

FEATURES = {"embeddings", "img_stats"}
ALL_BELOW = {*FEATURES, "knn_graph", "similarity", "outliers", "components", "galleries"}


@dataclass
class Ticks:
    """The sensor's evaluations, one after another."""

    project: Any
    defs: dg.Definitions
    cursor: Any = None

    def tick(self) -> dict[str, set[str]]:
        """What is requested now: tables by partition."""
        found = dg.evaluate_automation_conditions(self.defs, self.project.instance, cursor=self.cursor)
        self.cursor = found.cursor
        requested: dict[str, set[str]] = {}
        for table in CHECKS:
            for key in found.get_requested_partitions(dg.AssetKey(table)):
                requested.setdefault(str(key), set()).add(table)
        return requested

    def observe(self) -> None:
        """As on a schedule."""
        for key in ("pets/train", "pets/test", "pets"):
            observe(self.project.instance, key, current_versions(key, DatasetsResource(), ModelResource()))


def copy_events(source: dg.DagsterInstance, target: dg.DagsterInstance) -> None:
    """All that an instance in memory knows, into another one."""
    for storage in ("run_storage", "event_log_storage"):
        here, there = (getattr(instance, storage)._held_conn for instance in (source, target))
        here.connection.driver_connection.backup(there.connection.driver_connection)


@pytest.fixture(scope="module")
def materialised(analysed, tmp_path_factory) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
    """Opens a project in which everything is materialised: always at one place, always as new."""
    folder = tmp_path_factory.mktemp("automation")
    live, kept = folder / "live", folder / "kept"
    shutil.copytree(analysed.home, live / "home")
    shutil.copytree(analysed.images, live / "images")
    (live / "home" / "datasets.yaml").unlink()

    def project_in(instance: dg.DagsterInstance) -> Any:
        return replace(analysed, home=live / "home", images=live / "images", instance=instance)

    with dg.DagsterInstance.ephemeral() as first:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(live / "home"))
            project = project_in(first)
            project.register({"num_threads": 2})
            for key in ("pets/train", "pets/test", "pets"):
                assert project.run(key).success
        live.rename(kept)

        @contextmanager
        def as_new() -> Iterator[Any]:
            shutil.rmtree(live, ignore_errors=True)
            shutil.copytree(kept, live)
            with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
                patch.setenv("DAGSTER_HOME", str(live / "home"))
                copy_events(first, instance)
                yield project_in(instance)

        yield as_new


@pytest.fixture
def ticks(materialised) -> Iterator[Ticks]:
    """Everything is materialised, and the sensor has seen it."""
    with materialised() as project:
        made = Ticks(project, build_definitions())
        assert made.tick() == {}
        yield made


def test_events_lead_to_what_they_concern_and_a_listing_of_the_same_files_to_nothing(ticks, photos):
    project = ticks.project
    assert project.run("pets/train", "image_manifest").success
    assert ticks.tick() == {}, "the same files, listed again"

    photos(project.images / "train", 1, first=800)
    assert project.run("pets/train", "image_manifest").success
    assert ticks.tick() == {"pets/train": ALL_BELOW}, "another file"
    assert ticks.tick() == {}, "requested once"
    assert project.run("pets/train", *ALL_BELOW).success
    assert ticks.tick() == {"pets": {"split_leakage"}}, "once the split is made"
    assert project.run("pets").success
    assert ticks.tick() == {}, "and made"

    ticks.observe()
    assert ticks.tick() == {}, "sources observed as they were"
    project.register({"num_threads": 2, "outlier_percentile": 0.3})
    ticks.observe()
    assert ticks.tick() == {key: {"outliers", "galleries"} for key in ("pets/train", "pets/test")}, "another setting"
    for key in ("pets/train", "pets/test"):
        assert project.run(key, "outliers", "galleries").success
    assert ticks.tick() == {}

    project.register({"num_threads": 2, "outlier_percentile": 0.3, "high_accuracy": True})
    ticks.observe()
    below = ALL_BELOW - {"img_stats"}
    assert ticks.tick() == {"pets/train": below, "pets/test": below}, "another model"


def test_new_code_reruns_all_partitions_of_its_table(ticks):
    made = ticks.defs
    assets = [
        part.map_asset_specs(lambda spec: spec.replace_attributes(code_version="next"))
        if isinstance(part, dg.AssetsDefinition) and part.keys == {dg.AssetKey("galleries")}
        else part
        for part in made.assets or ()
    ]
    ticks.defs = dg.Definitions(assets, jobs=made.jobs, resources=made.resources)
    assert ticks.tick() == {"pets/train": {"galleries"}, "pets/test": {"galleries"}}


class _MadeMeanwhile(dg.AutomationCondition):
    """True; the first time that it is asked of a table, somebody else makes that."""

    def __init__(self, table, make):
        self.table, self.make, self.made = dg.AssetKey(table), make, False

    def evaluate(self, context):
        if context.key == self.table and not self.made:
            self.made = True
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(self.make).result()
        return dg.AutomationResult(context, context.candidate_subset)


def test_what_is_made_in_the_middle_of_a_look_is_not_made_again(ticks, monkeypatch):
    project, in_progress = ticks.project, dg.AutomationCondition.in_progress

    def make():
        assert project.run("pets/train", "outliers").success

    meanwhile = _MadeMeanwhile("outliers", make)
    monkeypatch.setattr(dg.AutomationCondition, "in_progress", staticmethod(lambda: meanwhile & in_progress()))
    defs = ticks.defs
    assets = [
        part.map_asset_specs(lambda spec: spec.replace_attributes(automation_condition=lineage_aware()))
        if isinstance(part, dg.AssetsDefinition) and part.keys == {dg.AssetKey("outliers")}
        else part
        for part in defs.assets or ()
    ]
    meanwhile.made = True
    ticks.defs = dg.Definitions(assets, jobs=defs.jobs, resources=defs.resources)
    ticks.tick()  # with another condition, a look only takes note
    meanwhile.made = False
    project.register({"num_threads": 2, "outlier_percentile": 0.3})
    ticks.observe()
    requested = ticks.tick()
    assert meanwhile.made
    assert "outliers" in requested["pets/test"]
    assert "outliers" not in requested.get("pets/train", set())


def test_nothing_below_a_closed_gate_is_requested(ticks):
    project = ticks.project
    for number in range(5):
        (project.images / "train" / f"broken-{number}.jpg").write_text("no image")
    assert project.run("pets/train", "image_manifest").success
    assert ticks.tick()["pets/train"] == ALL_BELOW
    assert not project.run("pets/train", *ALL_BELOW).success
    assert ticks.tick() == {}


def test_a_warning_closes_no_gate_and_a_limit_that_blocks_does(ticks):
    project = ticks.project

    def with_limit(severity: str, threshold: float) -> dict[str, set[str]]:
        limits = {"max_exact_duplicate_share": 0.05, "severity": {"exact_duplicates": severity}}  # train has a copy
        project.register({"num_threads": 2, "threshold": threshold, "limits": limits})
        ticks.tick()  # what the tick before has requested counts as handled in this one
        ticks.observe()
        return ticks.tick()

    assert with_limit("warn", 0.9)["pets/train"] == {"img_stats", "similarity", "galleries"}
    assert project.run("pets/train", "img_stats").success
    assert "similarity" in with_limit("warn", 0.91)["pets/train"]
    assert "img_stats" in with_limit("block", 0.91)["pets/train"]
    assert not project.run("pets/train", "img_stats").success
    requested = with_limit("block", 0.92)
    assert "similarity" in requested["pets/test"]
    assert "similarity" not in requested.get("pets/train", set())


def test_a_new_split_is_made_once_its_listing_is_there_and_another_data_set_does_not_wait(ticks, photos):
    project = ticks.project
    photos(project.images / "val", 3, first=900)
    project.register({"num_threads": 2})
    add_partitions(project.instance, "others", ["never"])
    assert ticks.tick() == {}, "whoever registers a split lists it"
    assert project.run("pets/val", "image_manifest").success
    assert ticks.tick() == {"pets/val": ALL_BELOW}
    assert project.run("pets/val", *ALL_BELOW).success
    assert ticks.tick() == {"pets": {"split_leakage"}}


def test_a_split_that_is_stopped_holds_up_its_own_data_set_and_no_other(ticks, photos):
    project, others = ticks.project, ticks.project.home / "others"
    photos(others / "test", 2, first=700)
    photos(others / "train", 1, first=710)
    (others / "train" / "broken.jpg").write_text("no image")
    register("others", DatasetEntry(root=str(others), splits={"test": "test", "train": "train"}))
    add_partitions(project.instance, "others", ["test", "train"])
    assert project.run("others/test").success
    assert not project.run("others/train").success

    photos(project.images / "train", 1, first=800)
    assert project.run("pets/train").success
    requested = ticks.tick()
    assert requested["pets"] == {"split_leakage"}
    assert "others" not in requested, "a split of it was never published"
    assert project.run("pets").success

    (others / "train" / "broken.jpg").unlink()
    assert project.run("others/train").success
    assert ticks.tick() == {"others": {"split_leakage"}}
    assert project.run("others").success


def test_the_sensor_is_off_unless_a_setting_turns_it_on(monkeypatch):
    def status() -> dg.DefaultSensorStatus:
        return next(s for s in build_definitions().sensors or () if s.name == SENSOR).default_status

    monkeypatch.delenv(AUTOMATIC, raising=False)
    assert status() is dg.DefaultSensorStatus.STOPPED
    monkeypatch.setenv(AUTOMATIC, "1")
    assert status() is dg.DefaultSensorStatus.RUNNING
    monkeypatch.setenv(AUTOMATIC, "yes")
    with pytest.raises(ValueError, match="write 1"):
        status()


def test_every_table_has_the_condition():
    graph = build_definitions().resolve_asset_graph()
    assert {graph.get(dg.AssetKey(table)).automation_condition.get_label() for table in CHECKS} == {"lineage_aware"}
