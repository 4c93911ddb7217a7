"""Names of ids come from the listing that the ids were given by, or not at all."""

from __future__ import annotations

import os
import shutil

import polars as pl
import pytest

from fastdup_dagster.image_search import search_of_partition
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.stages.published import MixedTablesError, check_together, manifest_of

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
