"""The settings that a table is said to be made with are those that its stage, and its gate, really read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fastdup_dagster.assets import expectations, quality
from fastdup_dagster.limits import Limits, Severities
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.settings import CaptionSettings, Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages import components, image_manifest, knn_graph, outliers, similarity, split_leakage
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.read_settings import READ_SETTINGS, changed_settings, settings_version
from fastdup_dagster.storage import TableStore

FIELDS = set(Settings.model_fields)
HOW = {"num_threads"}  # changes nothing in a table


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The names of settings that are looked at from now on."""
    seen: set[str] = set()

    def noting(kind: type, prefix: str) -> Callable[[Any, str], Any]:
        plain = kind.__getattribute__

        def read(self: Any, name: str) -> Any:
            if name in kind.model_fields and name not in ("limits", "severity"):
                seen.add(prefix + name)
            return plain(self, name)

        return read

    fingerprint = Settings.fingerprint

    def noted(self: Settings, *names: str) -> str:
        seen.update(names)
        return fingerprint(self, *names)

    monkeypatch.setattr(Settings, "fingerprint", noted)
    monkeypatch.setattr(Settings, "__getattribute__", noting(Settings, ""))
    monkeypatch.setattr(Limits, "__getattribute__", noting(Limits, "limits."))
    monkeypatch.setattr(Severities, "__getattribute__", noting(Severities, "limits.severity."))
    yield seen


def of(table: str, seen: set[str]) -> set[str]:
    """What was read beyond what is declared."""
    found = seen - HOW - set(READ_SETTINGS[table])
    seen.clear()
    return found


def test_no_stage_or_gate_reads_what_it_does_not_declare(reads, model: EmbeddingModel, photos, tmp_path: Path):
    folder = tmp_path / "images"
    photos(folder, 4)
    settings = Settings(num_threads=1, threshold=0.0, cc_threshold=0.1)
    reads.clear()  # they are held against each other when they are made
    listing = image_manifest.list_images(open_source(folder, settings), settings).frame
    assert of("image_manifest", reads) == set()
    tables: dict[str, pl.DataFrame] = {}
    for table in ("embeddings", "img_stats"):
        with compute_features(listing, settings, model, TableStore(tmp_path / "store"), "a/b", [table]) as done:
            tables[table] = done.staged[table].scan().collect()
        quality.failed("error_code", "share_of_unreadable", settings)
        assert of(table, reads) == set()
    expectations.complete_img_stats(settings)
    assert of("img_stats", reads) == set()
    graph = knn_graph.knn_graph(tables["embeddings"], settings)
    expectations.knn_graph(4, settings)
    assert of("knn_graph", reads) == set()
    similarity.similarity(graph, settings, tables["img_stats"])
    expectations.similarity(settings)
    assert of("similarity", reads) == set()
    outliers.outliers(graph, settings)
    expectations.outliers(8, settings)
    assert of("outliers", reads) == set()
    components.components(graph, settings)
    expectations.components(settings)
    assert of("components", reads) == set()
    both = dict.fromkeys(("train", "test"), tables["embeddings"]), dict.fromkeys(("train", "test"), tables["img_stats"])
    split_leakage.split_leakage(*both, settings)
    expectations.split_leakage(["train", "test"], settings)
    quality.leak_rates(settings)
    assert of("split_leakage", reads) == set()


def test_a_report_lists_all_settings_but_those_that_say_how():
    limits = {f"limits.{name}" for name in Limits.model_fields if name != "severity"}
    limits |= {f"limits.severity.{name}" for name in Severities.model_fields}
    captions = {f"captions.{name}" for name in CaptionSettings.model_fields}
    assert set(READ_SETTINGS["galleries"]) == FIELDS - HOW - {"captions", "limits"} | captions | limits


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("threshold", {"similarity", "galleries", "split_leakage"}),
        ("cc_threshold", {"components", "galleries"}),
        ("outlier_percentile", {"outliers", "galleries"}),
        ("find_regex", {"image_manifest", "detections", "galleries"}),
        ("blur_threshold", {"img_stats", "galleries"}),
        ("max_pixels", {"captions", "detections", "embeddings", "img_stats", "galleries"}),
        ("limits.max_leak_share", {"galleries", "split_leakage"}),
        ("limits.max_blurry_share", {"galleries", "img_stats"}),
        ("limits.severity.near_duplicates", {"galleries", "similarity"}),
        ("model_path", {"galleries"}),  # embeddings: by the observed model
        ("num_threads", set()),
    ],
)
def test_a_setting_belongs_to_the_tables_that_are_made_with_it(name, tables):
    assert {table for table, names in READ_SETTINGS.items() if name in names} == tables


def test_a_version_is_the_settings_themselves_and_a_change_is_told():
    before = settings_version("similarity", Settings())
    after = settings_version("similarity", Settings(threshold=0.8, num_threads=3))
    assert json.loads(before)["threshold"] == 0.9
    assert changed_settings(before, after) == "threshold 0.9 → 0.8"
    splits = settings_version("split_leakage", Settings(), splits=["a", "b"])
    assert changed_settings(settings_version("split_leakage", Settings(), splits=["a"]), splits) == (
        'splits ["a"] → ["a", "b"]'
    )
    assert "limits.max_invalid_share" in json.loads(settings_version("embeddings", Settings()))
