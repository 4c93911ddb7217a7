"""Names of ids come from the listing that the ids were given by, or not at all."""

from __future__ import annotations

import os
import re
import shutil

import polars as pl
import pytest

from fastdup_dagster.image_search import search_of_partition
from fastdup_dagster.schemas import KNN_GRAPH
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.dataset_report import read_split
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.stages.published import MixedTablesError, check_edges, check_together, manifest_of
from fastdup_dagster.storage import Lineage, table_digest

KEY = "pets/test"


def listing(project) -> pl.DataFrame:
    return list_images(open_source(project.images / "test"), Settings()).frame


def stop_after_the_listing(project) -> None:
    """Files that sort first, so many of them broken that the gate of the decode pass stops the split."""
    for number in range(6):
        (project.images / "test" / f"aaa_{number}.jpg").write_text("not an image")
    result = project.run(KEY)
    assert not result.success
    assert project.store.read("image_manifest", KEY)["filename"][0] == "aaa_0.jpg"


@pytest.mark.parametrize("change", ["add", "remove", "touch", "other order"])
def test_a_table_belongs_to_the_listing_of_the_same_files_in_the_same_state_alone(project, change):
    assert project.run(KEY, "image_manifest", "embeddings", "img_stats").success
    table = project.store.read("embeddings", KEY)
    check_together(KEY, listing(project), embeddings=table)
    folder = project.images / "test"
    if change == "add":
        shutil.copy(folder / "leak.jpg", folder / "zz.jpg")
    elif change == "remove":
        (folder / "leak.jpg").unlink()
    elif change == "touch":
        os.utime(folder / "leak.jpg", ns=(1, 1))
    else:
        (folder / "leak.jpg").rename(folder / "zz.jpg")
    with pytest.raises(MixedTablesError, match="'embeddings' of 'pets/test'"):
        check_together(KEY, listing(project), embeddings=table)


def test_tables_that_a_stopped_run_left_behind_get_no_names(project):
    assert project.run(KEY, "image_manifest", "embeddings", "img_stats", "knn_graph").success
    embeddings = project.store.read("embeddings", KEY, ["source_key"])
    assert manifest_of(project.store, KEY, embeddings=embeddings).height == 8
    stop_after_the_listing(project)
    with pytest.raises(MixedTablesError, match=r"'embeddings' of 'pets/test'.*Run the split again"):
        manifest_of(project.store, KEY, embeddings=embeddings)
    with pytest.raises(ValueError, match=r"'embeddings' of 'pets/test'"):
        search_of_partition(project.store, KEY, Settings(), 3, None)
    galleries = project.run(KEY, "galleries")
    assert not galleries.success
    assert "img_stats" in galleries.get_step_failure_events()[0].step_failure_data.error.to_string()
    for asset, words in (("similarity", "worst pairs"), ("outliers", "worst")):
        result = project.run(KEY, asset)
        assert result.success
        [made] = result.get_asset_materialization_events()
        shown = made.step_materialization_data.materialization.metadata[words].value
        assert shown.startswith("not shown: table")


def test_a_split_whose_new_files_were_refused_is_not_compared(project):
    planted = project.images / "test" / "zz_leak.jpg"
    shutil.copy(project.images / "train" / "photo-0005.jpg", planted)
    for key in ("pets/train", KEY, "pets"):
        assert project.run(key).success
    page = project.store.pages("pets") / "_leaks" / "leaks.html"
    assert "zz_leak.jpg" in page.read_text()
    stop_after_the_listing(project)
    result = project.run("pets")
    assert result.success
    [made] = result.get_asset_materialization_events()
    notes = made.step_materialization_data.materialization.metadata["notes"].value
    assert notes.startswith("test is not compared: table 'embeddings' of 'pets/test'")
    text = page.read_text()
    assert "photo-0" not in text
    assert "aaa_" not in text
    assert "Not compared: test" in text
    assert project.store.read("split_leakage", "pets").is_empty()
    project.register({"num_threads": 2, "limits": {"max_leak_share": 0.5}})
    refused = project.run("pets")
    assert not refused.success
    [share] = [c for c in refused.get_asset_check_evaluations() if not c.passed]
    assert "; test is not compared" in str(share.metadata["observed"].value)


def names_of(project) -> set[str]:
    pages = project.store.pages(KEY)
    return {name for page in pages.glob("*.html") for name in re.findall(r"aaa[\w-]*\.jpg", page.read_text())}


def put_first(project) -> None:
    """A file that shifts every id by one; then the tables of images are made anew, and those of edges are not."""
    shutil.copy(project.images / "train" / "photo-0005.jpg", project.images / "test" / "aaa.jpg")
    assert project.run(KEY, "image_manifest", "embeddings", "img_stats").success


def test_edges_of_an_earlier_listing_get_no_names_and_a_whole_run_mends_them(project):
    assert project.run(KEY).success
    put_first(project)
    galleries = project.run(KEY, "galleries")
    assert not galleries.success
    said = galleries.get_step_failure_events()[0].step_failure_data.error.to_string()
    assert "tables of 'pets/test' were made from others than the published ones: 'knn_graph' (from another" in said
    assert "Materialise knn_graph again, or run the whole split" in said
    assert not names_of(project)
    with pytest.raises(MixedTablesError, match="knn_graph"):
        read_split(project.store, KEY)
    for asset, words in (("similarity", "worst pairs"), ("outliers", "worst")):
        [made] = project.run(KEY, asset).get_asset_materialization_events()
        shown = made.step_materialization_data.materialization.metadata[words].value
        assert shown.startswith("not shown: tables of 'pets/test'")
    assert project.run(KEY).success
    assert read_split(project.store, KEY).manifest["filename"][0] == "aaa.jpg"


def test_what_is_made_from_an_earlier_graph_is_named_too(project):
    assert project.run(KEY).success
    put_first(project)
    assert project.run(KEY, "knn_graph", "outliers").success
    with pytest.raises(MixedTablesError, match=r"'similarity' .*, 'components' .*Materialise similarity, components"):
        read_split(project.store, KEY)
    check_edges(project.store, KEY, "outliers")
    assert project.run(KEY, "similarity", "components", "galleries").success


def test_a_touched_file_leaves_edges_as_good_as_they_were(project):
    assert project.run(KEY).success
    os.utime(project.images / "test" / "leak.jpg", ns=(1, 1))
    assert project.run(KEY, "image_manifest", "embeddings", "img_stats").success
    assert project.run(KEY, "galleries").success


def test_what_a_table_was_made_from_is_no_part_of_its_digest(project):
    store = project.store
    graph = store.read("knn_graph", KEY)
    version = table_digest(KNN_GRAPH, graph)
    assert store.write(KNN_GRAPH, KEY, graph) == version
    assert store.lineage("knn_graph", KEY) == Lineage(version, {})
    assert store.write(KNN_GRAPH, KEY, graph, {"embeddings": "e"}) == version
    assert store.lineage("knn_graph", KEY) == Lineage(version, {"embeddings": "e"})
    with pytest.raises(MixedTablesError, match="knn_graph"):
        check_edges(store, KEY, "knn_graph")
