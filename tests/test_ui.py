"""`fastdup-dagster dev` as a person sees it: the graph, a split materialised by clicks, its page, its gallery."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from ports import reserved_port

from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.home import ensure_home

pytestmark = pytest.mark.browser

_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
_START_SECONDS, _RUN_SECONDS = 120, 240


# Dagster has no setting for the 30 seconds that its daemon rests between two looks at backfills.
_SITECUSTOMIZE = """
import sys
if "dagster._daemon" in sys.orig_argv:
    from dagster._daemon import controller
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
"""


@dataclass
class Served:
    """`fastdup-dagster dev`, on ports of its own."""

    port: int
    pages_port: int
    home: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pages_url(self) -> str:
        return f"http://127.0.0.1:{self.pages_port}"

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "fastdup_dagster.cli", "dev"]
        command += ["--port", str(self.port), "--pages-port", str(self.pages_port)]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=self.home.parent)
        end = time.monotonic() + _START_SECONDS
        while not _answers(f"{self.url}/server_info"):
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _session(leader: int) -> list[int]:
    """Processes whose session the `dev` process's Dagster began."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == leader or int(fields[3]) == leader:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, photos: Callable[..., Any]) -> Iterator[Callable[[], Served]]:
    """Gives the server that runs on the data sets `pets` and `birds`, and starts one if there is none."""
    folder = tmp_path_factory.mktemp("ui")
    photos(folder / "pets" / "train", 12)
    photos(folder / "pets" / "test", 3, first=60)
    shutil.copy(folder / "pets" / "train" / "photo-0003.jpg", folder / "pets" / "train" / "copy.jpg")
    photos(folder / "birds" / "train", 3, first=70)
    photos(folder / "birds" / "test", 3, first=80)
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    with pytest.MonkeyPatch.context() as patch, reserved_port() as port, reserved_port() as pages_port:
        patch.setenv("DAGSTER_HOME", str(folder / "home"))
        patch.setenv("PYTHONPATH", str(folder / "path"))
        ensure_home()
        with (folder / "home" / "dagster.yaml").open("a") as config:
            config.write("\nrun_queue:\n  dequeue_interval_seconds: 1\n")
        splits = {"train": "train", "test": "test"}
        with dg.DagsterInstance.get() as instance:
            for name in ("pets", "birds"):
                entry = DatasetEntry(root=str(folder / name), splits=splits, settings={"num_threads": 2})
                register(name, entry)
                add_partitions(instance, name, list(splits))
        # Links that are in events name a port: it stays the same.
        server = Served(port, pages_port, folder / "home", folder / "dev.log")

        def running() -> Served:
            if server.process is None or server.process.poll() is not None:
                server.start()
            return server

        try:
            yield running
        finally:
            if server.process is not None and server.process.poll() is None:
                server.process.terminate()
                server.process.wait(60)


@pytest.fixture
def served(serve: Callable[[], Served]) -> Served:
    return serve()


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium, or set CHROMIUM to its path)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        made = browser.new_page(viewport={"width": 1600, "height": 1100})
        made.set_default_timeout(60_000)
        yield made
        browser.close()


def see(page: Any, text: str) -> None:
    """Waits until the text stands somewhere on the page where it can be seen."""
    page.get_by_text(text).locator("visible=true").first.wait_for()


def shoot(page: Any, name: str) -> None:
    """Keeps a picture of the page where UI_SCREENSHOTS says, for a person to look at."""
    if folder := os.environ.get("UI_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_the_graph_loads_without_a_warning_of_ours(served, page):
    page.goto(f"{served.url}/asset-groups/")
    for group in ("images", "graph", "report"):
        see(page, group)
    shoot(page, "groups")
    page.goto(f"{served.url}/locations/fastdup_dagster.definitions/asset-groups/graph/lineage")
    for asset in ("knn_graph", "similarity", "outliers", "components"):
        see(page, asset)
    shoot(page, "graph")
    log = served.log.read_text()
    assert "fastdup_dagster" not in "".join(line for line in log.splitlines() if "Warning" in line)
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def clicked(serve: Callable[[], Served], page: Any) -> Served:
    """The server, once pets/train was materialised by clicks."""
    served = serve()
    page.goto(f"{served.url}/locations/fastdup_dagster.definitions/jobs/analyse_split")
    page.get_by_text("Materialize all").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text("pets/train", exact=True).first.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()
    of_train = dg.RunsFilter(tags={"dagster/partition": "pets/train"})
    end = time.monotonic() + _RUN_SECONDS
    with dg.DagsterInstance.from_config(str(served.home)) as instance:
        while not (runs := [run for run in instance.get_runs(of_train) if run.is_finished]):
            assert time.monotonic() < end, served.log.read_text()
            time.sleep(0.3)
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS]
    return served


def test_a_split_is_materialised_by_clicks(clicked):
    with dg.DagsterInstance.from_config(str(clicked.home)) as instance:
        made = instance.get_materialized_partitions(dg.AssetKey("galleries"))
        assert {key for key in made if key.startswith("pets")} == {"pets/train"}
        assert "pets" not in instance.get_materialized_partitions(dg.AssetKey("split_leakage"))


def test_its_page_shows_counts_a_chart_and_the_worst_pairs(served, clicked, page):
    page.goto(f"{served.url}/assets/similarity?view=partitions&partition=pets%2Ftrain")
    see(page, "pairs, identical bytes")
    assert re.search(r"dagster/partition_row_count\s+2\b", page.inner_text("body"))
    chart = page.locator("img[src^='data:image/svg+xml']").first
    chart.wait_for()
    assert chart.evaluate("image => image.complete && image.naturalWidth > 0")
    shoot(page, "similarity")
    page.get_by_text("[Show Markdown]").first.click()
    pictures = page.locator("img[src^='data:image/jpeg']")
    pictures.first.wait_for()
    assert pictures.count() == 2
    assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    see(page, "photo-0003.jpg")
    shoot(page, "worst-pairs")


def test_checks_show_observed_value_and_limit(served, clicked, page):
    page.goto(f"{served.url}/assets/knn_graph?view=checks&checkDetail=edge_count")
    see(page, "26 edges")
    shoot(page, "check")


def test_the_link_to_the_gallery_works(served, clicked, page):
    page.goto(f"{served.url}/assets/galleries?view=partitions&partition=pets%2Ftrain")
    link = page.locator(f"a[href='{served.pages_url}/pets/train/duplicates.html']").first
    link.wait_for()
    shoot(page, "galleries")
    page.goto(link.get_attribute("href"))
    see(page, "photo-0003.jpg")
    picture = page.locator("img").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    shoot(page, "gallery")


def test_the_link_works_to_the_report_of_the_data_set_whose_other_split_was_never_made(served, clicked, page):
    page.goto(f"{served.url}/assets/galleries?view=partitions&partition=pets%2Ftrain")
    link = page.locator(f"a[href='{served.pages_url}/pets/report.html']").first
    link.wait_for()
    page.goto(link.get_attribute("href"))
    see(page, "No results.")  # of test
    see(page, "report of this split")
    shoot(page, "report")


def test_a_backfill_by_clicks_makes_every_table_of_every_split_and_one_of_the_data_set_compares_them(served, page):
    page.goto(f"{served.url}/locations/fastdup_dagster.definitions/jobs/analyse_split")
    page.get_by_text("Materialize all").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text("birds/train", exact=True).first.click()
    page.get_by_text("birds/test", exact=True).first.click()
    page.keyboard.press("Escape")
    shoot(page, "backfill-dialog")
    page.get_by_role("button", name="Launch backfill").click()
    with dg.DagsterInstance.from_config(str(served.home)) as instance:
        _wait_for_backfills(instance, 1, served)
        for asset in SPLIT_ASSETS:
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) >= {"birds/train", "birds/test"}, asset
        page.goto(f"{served.url}/runs/b/{instance.get_backfills()[0].backfill_id}")
        see(page, "100% completed")
        shoot(page, "backfill")
        _launch_backfill(served, "split_leakage", "birds")
        _wait_for_backfills(instance, 2, served)
        assert instance.get_materialized_partitions(dg.AssetKey("split_leakage")) == {"birds"}


def _launch_backfill(served, asset, partition):
    """What the UI sends for a backfill of assets."""
    mutation = """mutation ($given: LaunchBackfillParams!) {
        launchPartitionBackfill(backfillParams: $given) { __typename }
    }"""
    given = {"assetSelection": [{"path": [asset]}], "partitionNames": [partition]}
    body = json.dumps({"query": mutation, "variables": {"given": given}}).encode()
    request = urllib.request.Request(f"{served.url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        said = json.load(answer)
    assert said["data"]["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", said


def _wait_for_backfills(instance, count, served):
    end = time.monotonic() + _RUN_SECONDS
    while [b.status for b in instance.get_backfills()] != [BulkActionStatus.COMPLETED_SUCCESS] * count:
        assert time.monotonic() < end, served.log.read_text()
        time.sleep(0.3)


def test_sigterm_ends_it_in_order_and_leaves_no_process(served):
    children = _session(served.process.pid)
    grandchildren = [pid for child in children for pid in _session(child)]
    assert len(children) + len(grandchildren) > 2
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
    time.sleep(1)
    left = [pid for pid in {*children, *grandchildren} - {served.process.pid} if Path(f"/proc/{pid}").exists()]
    assert [pid for pid in left if "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]] == []
    assert not _answers(f"{served.url}/server_info")
    assert not _answers(f"{served.pages_url}/pets/report.html")
