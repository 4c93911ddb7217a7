"""Materialises splits of registered data sets, one after another in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from rich.console import Console

from fastdup_dagster.command_line.analyse import Analysis, analyse
from fastdup_dagster.command_line.display import Display
from fastdup_dagster.command_line.selection import Chosen
from fastdup_dagster.command_line.staleness import Lineage
from fastdup_dagster.datasets import partition_key
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.resources.datasets import DatasetsResource


def missing_splits(instance: dg.DagsterInstance, chosen: Sequence[Chosen], captions: bool = False) -> list[Chosen]:
    """The splits of which a table was never made, or is gone; all of a data set if its comparison is.

    Args:
        instance: where the runs are recorded.
        chosen: where to look.
        captions: those without captions, too.
    """
    datasets = DatasetsResource()
    lineage = Lineage(instance, build_definitions(datasets), datasets)
    found = []
    for name, entry, splits in chosen:
        absent = [split for split in splits if lineage.is_missing(partition_key(name, split), captions)]
        if absent or (len(entry.splits) > 1 and lineage.is_missing(name)):
            found.append((name, entry, absent))
    return found


def backfill(
    instance: dg.DagsterInstance,
    chosen: Sequence[Chosen],
    display: Display,
    overrides: Mapping[str, Any],
    recompute: bool = False,
    verbose: bool = False,
    captions: bool = False,
) -> list[Analysis]:
    """Runs all steps of the splits, then compares the splits of each data set; what fails holds up nothing else."""
    return [
        analyse(instance, name, entry, splits, display, overrides, recompute, verbose, captions=captions)
        for name, entry, splits in chosen
    ]


def say_counts(console: Console, analyses: Sequence[Analysis]) -> None:
    """Prints how much of each split was new."""
    for analysis in analyses:
        for run in analysis.splits.values():
            counts = {name: run.features.get(name, 0) for name in ("computed now", "inferred now", "reused")}
            said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            if run.captions:
                said += f", captioned now {run.captions['captioned now']:,}, reused {run.captions['reused']:,}"
            console.print(f"{run.partition}  {said}  {run.seconds:.1f} s", highlight=False)
    if not analyses:
        console.print("Nothing is missing.", highlight=False)
