"""Tables, pages and gates of an analysis whose store is a bucket: as in a folder, down to the digests."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from fastdup_dagster.datasets import DatasetEntry, load_dataset, register
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import TABLES
from fastdup_dagster.storage import open_store, table_digest


@pytest.fixture
def moved(project, s3_server, monkeypatch) -> Any:
    """The data set `pets` with its store in a bucket, nothing published there yet."""
    monkeypatch.delenv("FASTDUP_PAGES_URL", raising=False)
    bucket = s3_server.bucket()
    entry = load_dataset("pets")
    register("pets", DatasetEntry(**{**entry.model_dump(), "store": f"s3://{bucket}/results"}))
    return project, open_store(f"s3://{bucket}/results"), bucket


def metadata(result: Any) -> dict[str, dict[str, Any]]:
    found = {}
    for event in result.get_asset_materialization_events():
        values = event.step_materialization_data.materialization.metadata
        found[event.asset_key.to_user_string()] = {name: value.value for name, value in values.items()}
    return found


def test_an_analysis_into_a_bucket_gives_the_tables_of_one_into_a_folder_and_a_second_one_computes_nothing(
    moved, s3_server
) -> None:
    project, store, bucket = moved
    for partition in ("pets/train", "pets/test", "pets"):
        result = project.run(partition)
        assert result.success
    for name, schema in TABLES.items():
        key = "pets" if name == "split_leakage" else "pets/train"
        if not project.store.exists(name, key):
            continue
        assert table_digest(schema, store.read(name, key)) == table_digest(schema, project.store.read(name, key)), name
    said = metadata(project.run("pets/train"))
    assert said["embeddings"]["computed now"] == 0
    assert said["embeddings"]["reused"] == 10
    assert said["embeddings"]["dagster/uri"] == f"s3://{bucket}/results/embeddings/pets/train.parquet"
    assert store.read("galleries", "pets/train")["uri"][0] == f"s3://{bucket}/results/pages/pets/train/report.html"
    page = urllib.request.urlopen(said["galleries"]["duplicates"]).read().decode()
    assert "data:image/jpeg;base64," in page
    assert not [path for path in store.root.rglob("*") if path.suffix in (".parquet", ".html")]


def test_a_gate_that_stops_a_split_leaves_the_old_tables_and_a_page_that_says_why(moved, s3_server) -> None:
    project, store, _ = moved
    assert project.run("pets/train").success
    before = table_digest(TABLES["img_stats"], store.read("img_stats", "pets/train"))
    for number in range(6):
        (project.images / "train" / f"broken-{number}.jpg").write_bytes(b"\xff\xd8 not an image")
    result = project.run("pets/train")
    assert not result.success
    assert table_digest(TABLES["img_stats"], store.read("img_stats", "pets/train")) == before
    [failure] = [event for event in result.get_step_failure_events() if event.step_key == "features"]
    url = failure.step_failure_data.user_failure_data.metadata["page"].value
    assert "X-Amz-Expires=604800" in url
    assert "broken-0.jpg" in urllib.request.urlopen(url).read().decode()
    for number in range(6):
        (project.images / "train" / f"broken-{number}.jpg").unlink()
    assert project.run("pets/train").success
    with pytest.raises(FileNotFoundError):
        store.page_bytes("pets/train/gate_features.html")


def test_links_go_to_the_server_of_pages_where_one_is_known_and_are_signed_elsewhere(moved, monkeypatch) -> None:
    pages = PagesResource(store=StoreResource(datasets=DatasetsResource()))
    assert "X-Amz-Signature=" in pages.link("pets/train", "report.html").url
    monkeypatch.setenv("FASTDUP_LINK_SECONDS", "0")
    assert pages.link("pets/train", "report.html").url == "http://127.0.0.1:3010/pets/train/report.html"
    monkeypatch.delenv("FASTDUP_LINK_SECONDS")
    monkeypatch.setenv("FASTDUP_PAGES_URL", "http://127.0.0.1:3999")
    assert pages.link("pets/train", "report.html").url == "http://127.0.0.1:3999/pets/train/report.html"


def test_the_store_is_the_entrys_else_the_environments_else_the_homes(home, monkeypatch) -> None:
    register("mine", DatasetEntry(root="/x", splits={"all": "."}, store="s3://mine/results"))
    register("other", DatasetEntry(root="/x", splits={"all": "."}))
    assert load_dataset("other").store_root() == home / "store"
    monkeypatch.setenv("FASTDUP_STORE", "s3://ours/results")
    assert load_dataset("other").store_root() == "s3://ours/results"
    assert load_dataset("mine").store_root() == "s3://mine/results"
    monkeypatch.setenv("FASTDUP_STORE", str(home / "elsewhere"))
    assert load_dataset("other").store_root() == home / "elsewhere"
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        DatasetEntry(root="/x", splits={"all": "."}, store="s3://")
