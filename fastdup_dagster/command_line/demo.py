"""The end of `fastdup-dagster demo`: what was planted against what was found."""

from __future__ import annotations

import polars as pl
from rich.console import Console

from fastdup_dagster.command_line.analyse import Analysis
from fastdup_dagster.demo import DemoTables, SplitTables, format_score, score_demo
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


def say_score(planted: pl.DataFrame, analysis: Analysis) -> None:
    """Prints the score."""
    Console().print(format_score(score(planted, analysis)))
