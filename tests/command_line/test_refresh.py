"""The rerun matrix on the real assets: for each event, exactly the tables that are made again, and no others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.cli import main
from fastdup_dagster.command_line import analyse
from fastdup_dagster.command_line import refresh as refreshing
from fastdup_dagster.command_line.display import PlainDisplay
from fastdup_dagster.command_line.refresh import Refresh, Refreshed
from fastdup_dagster.command_line.selection import choose
from fastdup_dagster.command_line.staleness import Stale
from fastdup_dagster.datasets import DatasetEntry, partition_key, register
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.stages.read_settings import READ_SETTINGS
from fastdup_dagster.storage import TableStore

OF_SPLIT = [table for table in CHECKS if table in SPLIT_ASSETS]  # captions are made on demand
BELOW_EMBEDDINGS = ["knn_graph", "similarity", "outliers", "components", "galleries"]


@dataclass
class World:
    """`pets` with two splits of a folder, `listed` with one list file; everything is up to date at first."""

    folder: Path
    instance: dg.DagsterInstance
    settings: dict[str, dict[str, Any]] = field(default_factory=lambda: {"pets": {}, "listed": {}})
    settled: bool = False
    first: Refreshed = field(default_factory=Refreshed)

    @property
    def store(self) -> TableStore:
        return TableStore(self.folder / "home" / "store")

    @property
    def train(self) -> Path:
        return self.folder / "images" / "train"

    def register(self) -> None:
        common = {"num_threads": 2}
        splits = {path.name: path.name for path in sorted((self.folder / "images").iterdir())}
        pets = DatasetEntry(root=str(self.folder / "images"), splits=splits, settings=self.settings["pets"] | common)
        register("pets", pets)
        listed = DatasetEntry(
            root=str(self.folder), splits={"all": "list.txt"}, settings=self.settings["listed"] | common
        )
        register("listed", listed)

    def change(self, dataset: str = "pets", **settings: Any) -> None:
        self.settings[dataset] |= settings
        self.settled = False
        self.register()

    def work(self) -> Refresh:
        return Refresh(self.instance, PlainDisplay(lambda line: None), {})

    def plan(self) -> list[Stale]:
        return self.work().plan(choose((), ()))

    def refresh(self) -> Refreshed:
        done = self.work().run(choose((), ()))
        published = {run.partition: set() for run in done.runs}
        for run in done.runs:
            published[run.partition] |= run.published
        if done.success:  # what was to be made is what steps have materialised
            assert {key: set(tables) for key, tables in done.made.items()} == published
        self.settled = done.success
        return done


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, photos: Callable[..., list[Path]]) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("matrix")
    photos(folder / "images" / "train", 6)
    photos(folder / "images" / "test", 4, first=100)
    shutil.copy(folder / "images" / "train" / "photo-0003.jpg", folder / "images" / "train" / "copy.jpg")
    names = [str(path) for path in photos(folder / "more", 5, first=200)]
    (folder / "list.txt").write_text("\n".join(names))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("DAGSTER_HOME", str(folder / "home"))
        patch.delenv("FASTDUP_DATASETS", raising=False)
        world = World(folder, instance)
        world.register()
        world.first = world.refresh()
        yield world


@pytest.fixture
def world(shared: World) -> World:
    """The shared one, up to date whatever the test before it did."""
    if not shared.settled:
        shared.refresh()
    return shared


def test_at_first_all_is_made_in_one_run_a_partition(world):
    splits = dict.fromkeys(("pets/test", "pets/train", "listed/all"), OF_SPLIT)
    assert world.first.made == {**splits, "pets": ["split_leakage"]}
    assert len(world.first.runs) == 4


def test_when_nothing_changed_nothing_runs(world):
    assert world.plan() == []
    assert world.refresh().made == {}


def test_another_model_makes_embeddings_and_what_is_below_of_each_split_not_img_stats(world):
    world.change(high_accuracy=not world.settings["pets"].get("high_accuracy", False))
    planned: dict[str, list[str]] = {}
    for stale in world.plan():
        planned.setdefault(stale.partition, []).append(stale.table)
    expected = ["embeddings", *BELOW_EMBEDDINGS]
    assert planned == {"pets/test": expected, "pets/train": expected, "pets": ["split_leakage"]}
    made = world.refresh().made
    assert {key: sorted(tables) for key, tables in made.items()} == {
        "pets/test": sorted(expected),
        "pets/train": sorted(expected),
        "pets": ["split_leakage"],
    }


@pytest.mark.parametrize(
    ("setting", "value", "tables"),
    [
        ("threshold", 0.8, ["similarity", "galleries"]),
        ("outlier_percentile", 0.3, ["outliers", "galleries"]),
        ("nearest_neighbors_k", 3, [*BELOW_EMBEDDINGS]),
        ("num_threads", 1, []),
    ],
)
def test_a_changed_setting_reruns_from_where_it_is_read_on_in_its_own_data_set(world, setting, value, tables):
    world.change("listed", **{setting: value})
    assert world.refresh().made == ({"listed/all": tables} if tables else {})


def test_a_limit_is_a_setting_of_the_tables_that_its_gate_guards(world):
    world.change("listed", limits={"max_invalid_share": 0.2})
    done = world.refresh()
    assert done.made == {"listed/all": ["embeddings", "img_stats", "galleries"]}
    assert [run.features.get("inferred now", 0) for run in done.runs] == [0, 0][: len(done.runs)]


def test_a_changed_setting_says_what_it_was(world):
    before = world.settings["listed"].get("threshold", 0.9)
    world.change("listed", threshold=0.71)
    [similarity, galleries] = world.plan()
    assert similarity == Stale("listed/all", "similarity", f"settings: threshold {before} → 0.71")
    assert (galleries.table, galleries.certain) == ("galleries", True)


def test_added_images_compute_themselves_alone(world, photos):
    photos(world.train, 2, first=300)
    [listing, *_] = world.plan()
    assert (listing.table, listing.why) == ("image_manifest", "files: 2 added")
    done = world.refresh()
    assert done.made["pets/train"] == OF_SPLIT
    assert set(done.made) == {"pets/train", "pets"}
    [features] = [run.features for run in done.runs if run.features]
    assert (features["inferred now"], features["reused"]) == (2, len(list(world.train.iterdir())) - 2)


def test_a_removed_file_computes_nothing_anew(world):
    (world.train / "photo-0001.jpg").unlink()
    done = world.refresh()
    [features] = [run.features for run in done.runs if run.features]
    assert features["computed now"] == 0
    assert "knn_graph" in done.made["pets/train"]


def test_a_changed_list_of_files_reruns_its_own_split(world):
    path = world.folder / "list.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    [listing, *_] = world.plan()
    assert listing == Stale("listed/all", "image_manifest", "files: 1 removed")
    assert set(world.refresh().made) == {"listed/all"}


def test_a_touch_costs_a_read_and_stops_there(world):
    for path in world.train.iterdir():
        os.utime(path, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns + 1_000_000_000))
    done = world.refresh()
    assert done.made == {"pets/train": ["image_manifest", "embeddings", "img_stats"]}
    assert done.spared == {"pets/train": BELOW_EMBEDDINGS}
    [features] = [run.features for run in done.runs if run.features]
    assert features["inferred now"] == 0


def test_a_renamed_file_is_shown_by_its_new_name(world):
    (world.train / "copy.jpg").rename(world.train / "copied.jpg")
    done = world.refresh()
    assert "galleries" in done.made["pets/train"]
    assert "knn_graph" not in done.made["pets/train"]
    assert "split_leakage" in done.made["pets"]
    assert "copied.jpg" in (world.store.pages("pets/train") / "duplicates.html").read_text()
    (world.train / "copied.jpg").rename(world.train / "copy.jpg")
    world.settled = False


def test_new_code_with_the_same_result_stops_there(world, monkeypatch):
    def newer(*arguments: Any, **options: Any) -> dg.Definitions:
        made = build_definitions(*arguments, **options)
        assets = [
            part.map_asset_specs(lambda spec: spec.replace_attributes(code_version="next"))
            if isinstance(part, dg.AssetsDefinition) and part.keys == {dg.AssetKey("outliers")}
            else part
            for part in made.assets or ()
        ]
        return dg.Definitions(assets, jobs=made.jobs, resources=made.resources, loggers=made.loggers)

    monkeypatch.setattr(refreshing, "build_definitions", newer)
    assert [stale for stale in world.plan() if stale.certain] == [
        Stale(key, "outliers", "its code: version next") for key in ("pets/test", "pets/train", "listed/all")
    ]
    done = world.refresh()
    assert done.made == {key: ["outliers"] for key in ("pets/test", "pets/train", "listed/all")}
    assert world.refresh().made == {}
    world.settled = False


def test_a_table_that_is_gone_is_made_again_alone(world):
    world.store.remove("knn_graph", "listed/all")
    assert world.plan()[0] == Stale("listed/all", "knn_graph", "its table is gone")
    assert world.refresh().made == {"listed/all": ["knn_graph"]}


def test_a_new_split_is_made_and_compared(world, photos):
    photos(world.folder / "images" / "val", 3, first=400)
    world.register()
    done = world.refresh()
    assert done.made == {"pets/val": OF_SPLIT, "pets": ["split_leakage"]}
    shutil.rmtree(world.folder / "images" / "val")
    world.register()
    world.settled = False


def test_a_failed_gate_stops_its_split_alone_and_is_tried_again(world):
    broken = [world.train / f"broken-{number}.jpg" for number in range(4)]
    for path in broken:
        path.write_text("no image")
    done = world.refresh()
    assert not done.success
    assert done.made["pets/train"] == ["image_manifest", "embeddings", "img_stats"]
    assert {c.check for run in done.runs for c in run.checks if c.outcome == "failed"} == {"share_of_unreadable"}
    assert [stale.table for stale in world.plan() if stale.certain] == ["embeddings", "img_stats"]
    for path in broken:
        path.unlink()
    assert world.refresh().success


def test_what_cannot_be_listed_is_out_of_date(world):
    path = world.folder / "list.txt"
    path.rename(world.folder / "elsewhere.txt")
    try:
        [listing, *_] = world.plan()
        assert (listing.table, listing.certain) == ("image_manifest", True)
        assert "list.txt" in listing.why
        assert not world.refresh().success
    finally:
        (world.folder / "elsewhere.txt").rename(path)


def test_dagster_says_the_same(world, photos):
    """Its own status knows one step ahead: what is certain here is stale there, and nothing else."""
    photos(world.train, 1, first=500)
    world.settled = False
    world.change("listed", threshold=0.77)
    analyse.observe_data_set(world.instance, "listed", ["all"], world.work()._datasets)
    defs = build_definitions()
    done = analyse.run_partition(defs, world.instance, "pets/train", {}, ["image_manifest"])
    assert done.success
    graph = defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(world.instance, graph, LoadingContextForTest(world.instance))
    keys = [partition_key(name, split) for name, _, splits in choose((), ()) for split in splits]
    theirs = {
        (key, table)
        for key in keys
        for table in OF_SPLIT
        if resolver.get_status(dg.AssetKey(table), key) is not StaleStatus.FRESH
    }
    assert theirs == {
        (stale.partition, stale.table) for stale in world.plan() if stale.certain and "/" in stale.partition
    }
    assert theirs == {
        ("pets/train", "embeddings"),
        ("pets/train", "img_stats"),
        ("listed/all", "similarity"),
        ("listed/all", "galleries"),
    }


def test_every_table_names_the_settings_that_it_reads():
    assert set(READ_SETTINGS) == set(CHECKS)


@pytest.fixture
def invoke(world, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Iterator[dg.DagsterInstance]:
        yield world.instance

    monkeypatch.setattr(analyse, "open_instance", opened)
    return lambda *arguments: CliRunner().invoke(main, ["refresh", *map(str, arguments)])


def test_a_dry_run_says_why_changes_nothing_and_ends_with_1(world, invoke):
    world.change("listed", threshold=0.66)

    def state() -> tuple[int, dict[Path, int]]:
        files = {path: path.stat().st_mtime_ns for path in (world.folder / "home").rglob("*") if path.is_file()}
        return len(world.instance.all_logs("")) + len(world.instance.get_runs()), files

    before = state()
    result = invoke("--dry-run")
    assert result.exit_code == 1, result.output
    assert "threshold" in result.stdout
    assert "0.66" in result.stdout
    assert state() == before
    assert invoke("--name", "pets", "--dry-run").exit_code == 0
    assert "up to date" in invoke("--name", "pets").stdout


def test_the_command_makes_it_again_and_writes_what_ci_reads(world, invoke, tmp_path, monkeypatch):
    import json
    from xml.etree import ElementTree as Xml

    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    world.change("listed", threshold=0.61)
    result = invoke("--name", "listed", "--json", "--junit", tmp_path / "out.xml")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["made"] == {"listed/all": ["similarity", "galleries"]}
    assert [row["table"] for row in told["stale"]] == ["similarity", "galleries"]
    [suite] = Xml.parse(tmp_path / "out.xml").getroot()
    assert (suite.get("name"), suite.get("failures")) == ("listed/all", "0")
    assert {case.get("classname") for case in suite} == {"listed/all.similarity", "listed/all.galleries"}
    assert "| listed/all | :white" in (tmp_path / "summary.md").read_text().replace("\\", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--name", "nope"], "no data set 'nope'"), (["--split", "dev"], "no split 'dev'; there are:")],
)
def test_wrong_usage_is_exit_code_2(invoke, arguments, said):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
