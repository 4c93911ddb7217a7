"""A real daemon: what is uploaded into a bucket is analysed into a bucket, each asset once per change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.datasets import DatasetEntry, load_dataset, register
from fastdup_dagster.home import ensure_home
from fastdup_dagster.storage import open_store

_PATIENCE = 240


class Watched:
    """A bucket that a daemon watches."""

    def __init__(self, client: Any, bucket: str, instance: dg.DagsterInstance, log: Path) -> None:
        self.client, self.bucket, self.instance, self.log = client, bucket, instance, log

    def upload(self, folder: Path, split: str) -> None:
        for path in folder.iterdir():
            self.client.upload_file(str(path), self.bucket, f"in/{split}/{path.name}")
        self.client.put_object(Bucket=self.bucket, Key=f"in/{split}/_SUCCESS", Body=b"")

    def made(self) -> Counter[str]:
        """How often each asset of each partition was materialised."""
        counted: Counter[str] = Counter()
        for asset in SPLIT_ASSETS:
            for record in self.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records:
                counted[f"{record.partition_key} {asset}"] += 1
        return counted

    def wait_for(self, runs: int) -> Counter[str]:
        """What was made, once so many runs have ended."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            found = self.instance.get_runs()
            if len(found) >= runs and all(run.is_finished for run in found):
                assert {run.status for run in found} == {dg.DagsterRunStatus.SUCCESS}, self.log.read_text()[-3000:]
                return self.made()
            time.sleep(0.3)
        raise TimeoutError(self.log.read_text()[-3000:])


@pytest.fixture
def watched(s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    settings = {
        "DAGSTER_HOME": str(tmp_path / "home"),
        "FASTDUP_SENSORS": "on",
        "FASTDUP_UPLOADS_LAUNCH": "split",
        "FASTDUP_UPLOADS_SECONDS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    ensure_home()
    with (tmp_path / "home" / "dagster.yaml").open("a") as config:
        config.write("\nrun_queue:\n  dequeue_interval_seconds: 1\n")
    bucket = s3_server.bucket()
    entry = DatasetEntry(root=f"s3://{bucket}/in", splits={"train": "train"}, store=f"s3://{bucket}/out")
    register("pets", entry)
    log = tmp_path / "daemon.log"
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "fastdup_dagster.definitions"]
    with log.open("wb") as output, dg.DagsterInstance.get() as instance:
        daemon = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            yield Watched(s3_server.client, bucket, instance, log)
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with_group(daemon.pid, number)
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    continue
            with_group(daemon.pid, signal.SIGKILL)


def with_group(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def test_uploads_into_a_bucket_are_analysed_once_per_change_while_a_daemon_runs(
    watched: Watched, photos: Callable[..., Any], tmp_path: Path
) -> None:
    photos(tmp_path / "train", 7)
    photos(tmp_path / "val", 5, first=50)
    photos(tmp_path / "more", 1, first=90)
    watched.upload(tmp_path / "train", "train")
    watched.upload(tmp_path / "val", "val")
    once = {f"pets/{split} {asset}": 1 for split in ("train", "val") for asset in SPLIT_ASSETS}
    assert watched.wait_for(2) == once
    assert load_dataset("pets").splits == {"train": "train", "val": "val"}
    watched.upload(tmp_path / "more", "train")
    twice = once | {f"pets/train {asset}": 2 for asset in SPLIT_ASSETS}
    assert watched.wait_for(3) == twice
    store = open_store(f"s3://{watched.bucket}/out")
    assert store.read("image_manifest", "pets/train").height == 8
    assert b"<html" in store.page_bytes("pets/val/report.html")
    latest = watched.instance.get_latest_materialization_event(dg.AssetKey("embeddings"))
    assert latest is not None
    assert latest.asset_materialization is not None
    assert latest.asset_materialization.metadata["computed now"].value == 1
    time.sleep(3)  # some more looks, which find nothing
    assert watched.made() == twice
