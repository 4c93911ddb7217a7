"""Every check is tripped by a defect; then nothing of the asset is published and nothing below it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest
from ruamel.yaml import YAML

import fastdup_dagster
from fastdup_dagster import storage
from fastdup_dagster.assets import features, galleries, quality
from fastdup_dagster.assets.checks import CHECKS, QUALITY, STRUCTURE
from fastdup_dagster.assets.gates import gate
from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.resources import datasets as listings
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import EMBEDDINGS
from fastdup_dagster.settings import settings_from
from fastdup_dagster.stages import components, knn_graph, outliers, similarity, split_leakage
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.storage import StagedTable

Change = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Defect:
    """A stage that computes something wrong: the module it is looked up in, its name, and what goes wrong."""

    check: str
    module: Any
    stage: str
    change: Change


def first(column: str, value: Any) -> Change:
    """The first row gets another value."""
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit(value))
        .otherwise(column)
        .cast(frame.schema[column])
        .alias(column)
    )


def every(column: str, value: Any) -> Change:
    """All rows get another value."""
    return lambda frame: frame.with_columns(pl.lit(value, frame.schema[column]).alias(column))


def rising(frame: pl.DataFrame) -> pl.DataFrame:
    """Over the threshold, but the least alike first."""
    return frame.with_columns((0.91 + pl.int_range(pl.len()) / 100).cast(pl.Float32).alias("distance"))


def alone(frame: pl.DataFrame) -> pl.DataFrame:
    """A component of one image."""
    return every("count", 1)(frame.head(1))


def falling(frame: pl.DataFrame) -> pl.DataFrame:
    """One more outlier after the others, less alike than they are."""
    return pl.concat([frame, frame.tail(1).with_columns(pl.col("distance") - 1, pl.col("outlier") + 1)])


def repeat(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame.head(1)])


def shifted(column: str) -> Change:
    """Ids of no image."""
    return lambda frame: frame.with_columns(pl.col(column) + 1000)


NAN = float("nan")

DEFECTS = [
    Defect("image_manifest.unique_ids", listings, "list_split", repeat),
    Defect("image_manifest.unique_ids", listings, "list_split", first("filename", "photo-0001.jpg")),
    Defect("image_manifest.unique_ids", listings, "list_split", first("instance_id", None)),
    Defect("image_manifest.known_error_codes", listings, "list_split", first("error_code", "OUCH")),
    Defect("knn_graph.edge_count", knn_graph, "knn_graph", lambda f: f[1:]),
    Defect("knn_graph.edge_count", knn_graph, "knn_graph", lambda f: pl.concat([f[1:], f[-1:]])),
    Defect("knn_graph.no_self_edges", knn_graph, "knn_graph", first("to", 0)),
    Defect("knn_graph.similarity_range", knn_graph, "knn_graph", first("distance", 1.2)),
    Defect("knn_graph.similarity_range", knn_graph, "knn_graph", every("distance", NAN)),
    Defect("knn_graph.known_images", knn_graph, "knn_graph", shifted("from")),
    Defect("knn_graph.known_images", knn_graph, "knn_graph", first("to", None)),
    Defect("knn_graph.edge_count", knn_graph, "knn_graph", first("rank", None)),
    Defect("similarity.over_threshold", similarity, "similarity", every("distance", 0.9)),
    Defect("similarity.over_threshold", similarity, "similarity", every("distance", NAN)),
    Defect("similarity.known_pairs", similarity, "similarity", first("kind", None)),
    Defect("similarity.known_pairs", similarity, "similarity", shifted("to")),
    Defect("similarity.sorted", similarity, "similarity", rising),
    Defect("similarity.known_pairs", similarity, "similarity", first("kind", "cousins")),
    Defect("similarity.known_pairs", similarity, "similarity", lambda f: f.with_columns(pl.col("from").alias("to"))),
    Defect("outliers.least_alike_first", outliers, "outliers", every("rank", 7)),
    Defect("outliers.least_alike_first", outliers, "outliers", falling),
    Defect("outliers.least_alike_first", outliers, "outliers", every("distance", NAN)),
    Defect("outliers.known_images", outliers, "outliers", shifted("outlier")),
    Defect("outliers.known_images", outliers, "outliers", shifted("nearest")),
    Defect("outliers.one_row_per_outlier", outliers, "outliers", repeat),
    Defect("components.sizes_add_up", components, "components", first("count", 3)),
    Defect("components.sizes_add_up", components, "components", alone),
    Defect("components.one_component_per_image", components, "components", repeat),
    Defect("components.known_images", components, "components", shifted("index")),
    Defect("components.similarity_range", components, "components", every("mean_distance", NAN)),
    Defect("components.similarity_range", components, "components", every("max_distance", 1.5)),
    Defect("galleries.numbers_agree", galleries, "render_galleries", lambda f: f.with_columns(pl.col("total") + 1)),
    Defect("split_leakage.pairs_cross_splits", split_leakage, "split_leakage", first("to", 99)),
    Defect("split_leakage.pairs_cross_splits", split_leakage, "split_leakage", first("split_to", "test")),
    Defect("split_leakage.similarity_range", split_leakage, "split_leakage", first("distance", 1.5)),
    Defect("split_leakage.similarity_range", split_leakage, "split_leakage", every("distance", NAN)),
    Defect("split_leakage.pairs_cross_splits", split_leakage, "split_leakage", first("kind", None)),
    Defect("split_leakage.share_of_leaked", split_leakage, "leak_rates", every("rate_to", 2.0)),
    Defect("split_leakage.share_of_leaked", split_leakage, "leak_rates", every("rate_to", NAN)),
]  # fmt: skip

BELOW = {
    "image_manifest": SPLIT_ASSETS,
    "knn_graph": ("knn_graph", "similarity", "outliers", "components", "galleries"),
    "similarity": ("similarity", "galleries"),
    "outliers": ("outliers", "galleries"),
    "components": ("components", "galleries"),
    "galleries": ("galleries",),
    "split_leakage": ("split_leakage",),
}


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    found = [e for e in result.get_asset_check_evaluations() if not e.passed]
    return {f"{e.asset_key.to_user_string()}.{e.check_name}": e for e in found}


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "_staging" not in str(p)
    }


def assert_stopped(project, result: dg.ExecuteInProcessResult, asset: str, before: dict[str, bytes]) -> None:
    """Nothing was materialised, the tables are the old ones, and the only new page is the one that says why.

    The report of the data set says so too, if it was the comparison of the splits that was stopped.
    """
    assert not result.success
    made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert not made & set(BELOW.get(asset, SPLIT_ASSETS[1:]))
    after = bytes_below(project.store.root)
    pages = {name for name in after if "gate_" in name}
    assert len(pages) == 1
    if asset == "split_leakage":
        report = "pages/pets/report.html"
        assert b"FAILED: " in after.pop(report)
        before.pop(report)
    assert {name: data for name, data in after.items() if name not in pages} == before


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: f"{d.check}-{d.stage}")
def test_a_defect_trips_its_check_and_nothing_is_published(project, monkeypatch, defect: Defect):
    asset = defect.check.split(".")[0]
    right = getattr(defect.module, defect.stage)

    def wrong(*args: Any, **options: Any) -> Any:
        made = right(*args, **options)
        return (
            defect.change(made) if isinstance(made, pl.DataFrame) else type(made)(defect.change(made.frame), made.notes)
        )

    monkeypatch.setattr(defect.module, defect.stage, wrong)
    before = bytes_below(project.store.root)
    result = project.run("pets" if asset == "split_leakage" else "pets/train", *BELOW[asset])
    evaluation = failed_checks(result)[defect.check]
    assert evaluation.blocking == (evaluation.check_name in STRUCTURE[asset])
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert evaluation.metadata["limit"].value
    assert evaluation.metadata["observed"].value not in ("", None)
    assert_stopped(project, result, asset, before)


def rewrite(monkeypatch: pytest.MonkeyPatch, table: str, change: Change) -> None:
    """The decode pass leaves a table that is wrong."""
    right = features.compute_features

    def wrong(*args: Any, **options: Any) -> Any:
        done = right(*args, **options)
        good = done.staged[table]
        frame = change(good.scan().collect())
        schema = good.schema
        if table == "embeddings":
            schema = EMBEDDINGS.with_embedding_width(frame["embedding"].dtype.shape[0])
        bad = StagedTable(schema, good.key, good.target, good.path.parent)
        bad.write(frame)
        bad.close()
        done.staged[table] = bad
        return done

    monkeypatch.setattr(features, "compute_features", wrong)


def vector(value: float) -> Change:
    """The first row's vector holds one value alone."""
    return lambda f: f.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit([value] * 576, pl.Array(pl.Float32, 576)))
        .otherwise("embedding")
        .alias("embedding")
    )


def narrow(frame: pl.DataFrame) -> pl.DataFrame:
    """Vectors of nine numbers."""
    return frame.with_columns(pl.col("embedding").cast(pl.List(pl.Float32)).list.head(9).list.to_array(9))


FEATURE_DEFECTS = [
    ("embeddings.finite_vectors", vector(0.0)),
    ("embeddings.finite_vectors", vector(float("nan"))),
    ("embeddings.finite_vectors", narrow),
    ("embeddings.finite_vectors", first("embedding", None)),
    ("embeddings.one_row_per_image", lambda f: f[1:]),
    ("embeddings.one_row_per_image", repeat),
    ("img_stats.one_row_per_image", lambda f: f.with_columns(pl.col("index") + 1)),
    ("img_stats.values_in_range", first("mean", 300.0)),
    ("img_stats.values_in_range", first("contrast", -0.1)),
    ("img_stats.values_present", first("pixel_hash", None)),
    ("img_stats.values_present", first("content_hash", None)),
    ("img_stats.values_present", first("thumbnail", None)),
    ("img_stats.values_present", first("blur", None)),
    ("img_stats.values_present", first("mean", NAN)),
    ("img_stats.values_present", first("img_w", None)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "change"), FEATURE_DEFECTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_wrong_row_of_the_decode_pass_stops_both_of_its_tables(project, monkeypatch, check: str, change: Change):
    rewrite(monkeypatch, check.split(".")[0], change)
    before = bytes_below(project.store.root)
    result = project.run("pets/train", "embeddings", "img_stats", "knn_graph")
    assert check in failed_checks(result)
    assert_stopped(project, result, "features", before)


@pytest.mark.parametrize("assets", [("embeddings", "img_stats"), ("embeddings",), ("img_stats",)])
def test_too_many_broken_files_stop_the_split(project, assets):
    for number in range(5):
        (project.images / "train" / f"broken-{number}.jpg").write_text("no image <b>|")
    before = {n: b for n, b in bytes_below(project.store.root).items() if "image_manifest" not in n}
    result = project.run("pets/train", "image_manifest", *assets, "knn_graph")
    failed = failed_checks(result)
    assert set(failed) == {f"{asset}.share_of_unreadable" for asset in assets}
    for evaluation in failed.values():
        assert evaluation.metadata["observed"].value == "5 of 15 rows (33.3%)"
        assert "5.0%" in evaluation.metadata["limit"].value
        names = {record.data["filename"] for record in evaluation.metadata["bad rows"].records}
        assert names == {f"broken-{number}.jpg" for number in range(5)}
    assert not result.success
    after = bytes_below(project.store.root)
    page = next(data.decode() for name, data in after.items() if "gate_features.html" in name)
    assert "share_of_unreadable" in page
    assert "broken-4.jpg" in page
    assert {n: b for n, b in after.items() if "gate_" not in n and "image_manifest" not in n} == before


def test_the_accepted_share_is_a_setting_and_a_mended_split_loses_its_page(project):
    (project.images / "train" / "broken.jpg").write_text("no image")
    assert not project.run("pets/train", "image_manifest", "embeddings", "img_stats").success
    page = project.store.pages("pets/train") / "gate_features.html"
    assert page.exists()
    project.register({"num_threads": 2, "limits": {"max_invalid_share": 0.1}})
    assert project.run("pets/train", "embeddings", "img_stats").success
    assert not page.exists()


def test_an_empty_folder_is_a_failed_check_that_says_where_it_looked(project):
    for path in (project.images / "train").iterdir():
        path.unlink()
    before = bytes_below(project.store.root)
    result = project.run("pets/train")
    observed = failed_checks(result)["image_manifest.has_rows"].metadata["observed"].value
    assert str(project.images / "train") in observed
    assert "jpg" in observed
    assert_stopped(project, result, "image_manifest", before)


def test_a_missing_page_stops_the_galleries(project, monkeypatch):
    right = galleries.render_galleries

    def wrong(tables: Any, folder: Path, *args: Any, **options: Any) -> pl.DataFrame:
        frame = right(tables, folder, *args, **options)
        (folder / "outliers.html").unlink()
        return frame

    monkeypatch.setattr(galleries, "render_galleries", wrong)
    before = bytes_below(project.store.root)
    result = project.run("pets/train", "galleries")
    assert set(failed_checks(result)) == {"galleries.pages_exist"}
    assert_stopped(project, result, "galleries", before)


def test_a_leak_over_the_limit_stops_the_comparison(project):
    project.register({"num_threads": 2, "limits": {"max_leak_share": 0.05}})
    before = bytes_below(project.store.root)
    result = project.run("pets")
    evaluation = failed_checks(result)["split_leakage.share_of_leaked"]
    assert evaluation.metadata["limit"].value == "at most 5.0% of a split (limits.max_leak_share)"
    assert evaluation.metadata["observed"].value == "20.0% of train stands in test too (2 images)"
    rows = [record.data for record in evaluation.metadata["bad rows"].records]
    assert {(row["file_from"], row["file_to"]) for row in rows} == {
        ("leak.jpg", "copy.jpg"),
        ("leak.jpg", "photo-0003.jpg"),
    }
    assert "leak.jpg" in (project.store.pages("pets") / "gate_split_leakage.html").read_text()
    assert_stopped(project, result, "split_leakage", before)


def test_statistics_that_were_not_asked_for_may_be_missing_the_others_not(project):
    project.register({"num_threads": 2, "run_stats": False})
    assert project.run("pets/train", "embeddings", "img_stats").success
    project.register({"num_threads": 2, "run_advanced_stats": True})
    assert project.run("pets/train", "embeddings", "img_stats").success


def test_a_share_of_exactly_the_limit_is_accepted():
    frame = pl.DataFrame({"error_code": ["READ_ERROR"] * 41 + [None] * 59}).with_row_index("index")
    table = frame.with_columns(image="index")
    for limit, passed in ((0.41, True), (0.409, False)):
        settings = settings_from({"limits": {"max_invalid_share": limit}})
        suite = quality.failed("error_code", "share_of_unreadable", settings)
        [share] = GreatExpectationsResource().check(table, "img_stats", "pets/train", suite)
        assert (share.check, share.passed) == ("share_of_unreadable", passed)


def test_every_check_has_its_defect_above():
    tried = {defect.check for defect in DEFECTS} | {check for check, _ in FEATURE_DEFECTS}
    tried |= {"embeddings.share_of_unreadable", "img_stats.share_of_unreadable"}  # broken files
    tried |= {"image_manifest.has_rows", "galleries.pages_exist"}  # an empty folder, a missing page
    tried |= {f"captions.{check}" for check in CHECKS["captions"]}  # in test_captions.py
    tried |= {f"detections.{check}" for check in CHECKS["detections"]}  # in test_detections.py
    tried |= {f"{asset}.{check}" for asset, checks in QUALITY.items() for check in checks}  # in test_quality.py
    assert tried == {f"{asset}.{check}" for asset, checks in CHECKS.items() for check in checks}


@pytest.mark.parametrize(("asset", "step"), [("embeddings", "features"), ("galleries", "galleries")])
def test_a_step_that_another_run_is_working_on_is_refused_and_disturbs_nothing(project, monkeypatch, asset, step):
    monkeypatch.setattr(storage, "_PATIENCE", 0.1)
    working = project.store.staging(step, "pets/train", "parts", "part-1.parquet")
    working.parent.mkdir(parents=True)
    working.write_bytes(b"of the other run")
    with project.store.lock(step, "pets/train"):
        result = project.run("pets/train", asset)
        assert not result.success
        [event] = result.get_step_failure_events()
        assert f"another run is working on {step} of 'pets/train'" in event.step_failure_data.error.to_string()
        assert working.read_bytes() == b"of the other run"
    assert project.run("pets/train", asset).success


def test_two_comparisons_of_a_data_set_at_once_wait_for_one_another(project, monkeypatch):
    monkeypatch.setattr(storage, "_PATIENCE", 0.1)
    held = threading.Event()

    def hold() -> None:
        with project.store.lock("split_leakage", "pets"):
            held.set()
            time.sleep(storage._PATIENCE + 1)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(10)
    assert project.run("pets").success
    assert not other.is_alive()
    other.join()


def test_a_failed_gate_is_not_tried_again(project):
    key = "pets/train"
    pages = PagesResource(store=StoreResource(datasets=DatasetsResource()))
    context: Any = SimpleNamespace(
        partition_key=key, op_execution_context=SimpleNamespace(op_def=SimpleNamespace(name="outliers"))
    )
    outcome = CheckOutcome("outliers", "least_alike_first", key, passed=False, observed=1, limit=2)
    with pytest.raises(dg.Failure, match="least_alike_first: 1, accepted: 2") as stopped:
        list(gate(context, pages, [outcome]))
    assert stopped.value.allow_retries is False
    settings = YAML(typ="safe").load((Path(fastdup_dagster.__file__).parents[1] / "dagster.yaml").read_text())
    assert settings["run_retries"]["retry_on_asset_or_op_failure"] is False


def test_a_failed_warning_stops_nothing(project):
    pages = PagesResource(store=StoreResource(datasets=DatasetsResource()))
    context: Any = SimpleNamespace(
        partition_key="pets/train", op_execution_context=SimpleNamespace(op_def=SimpleNamespace(name="outliers"))
    )
    outcome = CheckOutcome("outliers", "least_alike_first", "pets/train", passed=False, blocking=False)
    [result] = gate(context, pages, [outcome])
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
