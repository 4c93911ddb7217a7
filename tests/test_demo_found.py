"""The engine against the demo: what is planted is found, by the real model and the default settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastdup_dagster.demo import SPLITS, DemoTables, SplitTables, make_demo, score_demo
from fastdup_dagster.models import load_model
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.components import components
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.stages.knn_graph import knn_graph
from fastdup_dagster.stages.outliers import outliers
from fastdup_dagster.stages.similarity import similarity
from fastdup_dagster.stages.split_leakage import split_leakage
from fastdup_dagster.storage import TableStore


class Run:
    """A run over the demo in memory: what was planted, the tables, and unit vectors by (split, filename)."""

    def __init__(self, folder: Path) -> None:
        settings = Settings()
        model = load_model(settings)
        self.planted = make_demo(folder / "images")
        store = TableStore(folder / "store")
        splits, embeddings, stats = {}, {}, {}
        self.vectors: dict[tuple[str, str], np.ndarray] = {}
        for split in SPLITS:
            key = f"demo/{split}"
            manifest = list_images(open_source(folder / "images" / split), settings, split).frame
            with compute_features(manifest, settings, model, store, key) as features:
                for table in features.staged.values():
                    table.publish()
                features.finish()
            embeddings[split], stats[split] = store.read("embeddings", key), store.read("img_stats", key)
            graph = knn_graph(embeddings[split], settings)
            splits[split] = SplitTables(
                manifest,
                stats[split],
                similarity(graph, settings, stats[split]),
                outliers(graph, settings),
                components(graph, settings),
            )
            for name, vector in zip(manifest["filename"], embeddings[split]["embedding"], strict=True):
                if vector is not None:
                    self.vectors[split, name] = vector.to_numpy() / np.linalg.norm(vector.to_numpy())
        self.tables = DemoTables(splits, split_leakage(embeddings, stats, settings))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_everything_planted_is_found_without_a_false_alarm(run: Run) -> None:
    score = score_demo(run.planted, run.tables)
    wrong = score.filter((pl.col("found") != pl.col("planted")) | (pl.col("false_alarms") > 0))
    assert wrong.rows() == []
    assert score["planted"].sum() == len(run.planted) + score.filter(pl.col("kind") == "exact_copy")["planted"].item()


def test_images_that_nothing_was_done_to_do_not_resemble_each_other(run: Run) -> None:
    plants = set(run.planted.select("split", "filename").iter_rows())
    files = [file for file in run.vectors if file not in plants]
    bases = np.array([run.vectors[file] for file in files])
    assert np.triu(bases @ bases.T, 1).max() < Settings().threshold


def test_outliers_are_less_alike_to_anything_than_all_else(run: Run) -> None:
    """By the lowest of an image's two edges, which is what the table `outliers` ranks by."""
    for split in SPLITS:
        files = [file for file in run.vectors if file[0] == split]
        vectors = np.array([run.vectors[file] for file in files])
        second = np.sort(vectors @ vectors.T - 2 * np.eye(len(files)), axis=1)[:, -2]
        planted = set(run.planted.filter((pl.col("kind") == "outlier") & (pl.col("split") == split))["filename"])
        ranked = [name for _, (_, name) in sorted(zip(second, files, strict=True))]
        assert set(ranked[: len(planted)]) == planted
