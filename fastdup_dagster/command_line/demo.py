"""The end of `fastdup-dagster demo`: what was planted against what was found."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich.console import Console

from fastdup_dagster.command_line.analyse import Analysis
from fastdup_dagster.datasets import DatasetsError, dataset_names, load_dataset
from fastdup_dagster.demo import PLANTED_FILE, DemoTables, SplitTables, format_score, score_demo
from fastdup_dagster.schemas import SPLIT_LEAKAGE


def score(planted: pl.DataFrame, analysis: Analysis) -> pl.DataFrame:
    """The score of a finished run over the demo; see `score_demo`."""
    splits = {
        split: SplitTables(
            image_manifest=found.manifest,
            img_stats=found.img_stats,
            similarity=found.similarity,
            outliers=found.outliers,
            components=found.components,
        )
        for split, found in analysis.report.finished.items()
    }
    leakage = analysis.report.leakage
    return score_demo(planted, DemoTables(splits, SPLIT_LEAKAGE.frame() if leakage is None else leakage))


def say_score(found: pl.DataFrame) -> None:
    """Prints the score."""
    Console().print(format_score(found))


def check_name_is_free(name: str, images: Path) -> None:
    """The demo takes the place of an earlier demo, and of nothing else.

    Raises:
        DatasetsError: if the name stands for a data set that is no demo.
    """
    if name in dataset_names():
        known = Path(load_dataset(name).root)
        if known != images and not (known / PLANTED_FILE).is_file():
            raise DatasetsError(f"data set {name!r} stands for {known}, which is no demo; choose another --name")
