"""The report of a data set follows what is published, whoever materialised it, and says what its checks said last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fastdup_dagster.assets.check_history import latest_outcomes
from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.dataset_report import published_report
from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.stages.dataset_report import find_leaks
from fastdup_dagster.stages.report import DatasetReport


def said(project: Any) -> DatasetReport:
    datasets = DatasetsResource()
    pages = PagesResource(store=StoreResource(datasets=datasets))
    return published_report(project.instance, datasets, pages, project.name)


def page_of(project: Any) -> Path:
    return project.store.pages("pets") / "report.html"


def metadata(result: Any, asset: str) -> dict[str, Any]:
    return dict(result.asset_materializations_for_node(asset)[-1].metadata)


def test_a_split_and_the_comparison_each_leave_the_report_of_the_data_set_and_link_it(project) -> None:
    page_of(project).unlink(missing_ok=True)
    done = project.run("pets/train")
    assert metadata(done, "galleries")["report of the data set"].url.endswith("/pets/report.html")
    first = page_of(project).read_text()
    assert first.count('data-outcome="passed"') == sum(len(CHECKS[table]) for table in SPLIT_ASSETS)
    compared = project.run("pets")
    assert metadata(compared, "split_leakage")["report of the data set"].url.endswith("/pets/report.html")
    page = page_of(project).read_text()
    links = set(re.findall(r'<a [^>]*href="([^"#]+)"', page))
    assert {"_leaks/leaks.html", "train/report.html", "test/duplicates.html"} <= links
    assert all((page_of(project).parent / link).is_file() for link in links)
    told = re.sub(r"<[^>]+>", "", page)
    assert "1 (12.5 %)" in told and "2 (20.0 %)" in told  # of test, and of train with the copy of that image


def test_a_run_may_leave_the_report_to_whoever_launched_it(project) -> None:
    page_of(project).unlink(missing_ok=True)
    later = {"config": {"report": False}}
    assert project.run("pets/test", "galleries", ops={"galleries": later}).success
    assert project.run("pets", ops={"split_leakage": later}).success
    assert not page_of(project).exists()


def test_what_does_not_fit_together_is_left_out_with_the_reason(project) -> None:
    store = project.store
    assert project.run("pets").success
    report = said(project)
    assert (report.leakage is not None, report.why, list(report.notes)) == (True, {}, [])
    store.remove("components", "pets/test")
    store.remove("img_stats", "pets/train")
    report = said(project)
    assert report.splits["train"] is None and "img_stats" in report.why["train"]
    assert report.splits["test"].missing == {"components"} and "components" in report.why["test"]
    assert report.leakage is None


def test_leaks_of_another_listing_are_not_shown_under_the_names_of_this_one(project) -> None:
    assert project.run("pets").success
    assert find_leaks(project.store, "pets", ["test", "train"]).table.height
    (project.images / "train" / "photo-0000.jpg").unlink()
    assert project.run("pets/train").success
    report = said(project)
    assert report.leakage is None
    assert report.notes == ["leaks of train are not shown: split_leakage was made before what is published"]
    assert project.run("pets").success
    assert said(project).leakage.height


def test_a_failed_gate_is_in_the_report_until_it_passes(project) -> None:
    assert project.run("pets").success
    project.register({"num_threads": 2, "limits": {"max_leak_share": 0.0}})
    assert not project.run("pets").success
    page = page_of(project).read_text()
    assert "FAILED: share_of_leaked on pets" in page
    assert "leak.jpg" in page  # the pairs that were published before
    project.register({"num_threads": 2})
    assert project.run("pets").success
    assert "FAILED" not in page_of(project).read_text()


def test_the_last_result_counts_and_each_partition_has_its_own(project) -> None:
    assert latest_outcomes(project.instance, "pets/train", ["knn_graph"]) == []
    assert project.run("pets/train", "knn_graph").success
    found = latest_outcomes(project.instance, "pets/train", ["knn_graph"])
    assert {outcome.check for outcome in found} == set(CHECKS["knn_graph"])
    assert {outcome.outcome for outcome in found} == {"passed"}
    assert latest_outcomes(project.instance, "pets/test", ["knn_graph"]) == []
    key = dg.AssetKey("knn_graph")
    later = dg.AssetCheckEvaluation(
        asset_key=key, check_name="edge_count", passed=False, partition="pets/train",
        metadata={"observed": "1", "bad rows": dg.MetadataValue.table([dg.TableRecord({"a": 1})])},
    )  # fmt: skip
    project.instance.report_runless_asset_event(later)
    [failed] = [o for o in latest_outcomes(project.instance, "pets/train", ["knn_graph"]) if not o.passed]
    assert (failed.check, failed.observed, failed.bad_rows.equals(pl.DataFrame({"a": [1]}))) == (
        "edge_count",
        "1",
        True,
    )
