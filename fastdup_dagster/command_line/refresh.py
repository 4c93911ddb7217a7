"""Makes again what is out of date, and nothing else, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.command_line.analyse import PartitionRun, log_config, observe_data_set, run_partition
from fastdup_dagster.command_line.display import Display, display_logger
from fastdup_dagster.command_line.selection import Chosen
from fastdup_dagster.command_line.staleness import Lineage, Stale
from fastdup_dagster.datasets import partition_key
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.stages.pages import visible


@dataclass
class Refreshed:
    """What was made again, and what turned out as it was.

    Attributes:
        runs: in order; one partition may have several.
        made: tables that were made again, by partition.
        spared: tables that would have been made again, if what is above them had changed, by partition.
    """

    runs: list[PartitionRun] = field(default_factory=list)
    made: dict[str, list[str]] = field(default_factory=dict)
    spared: dict[str, list[str]] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether every gate is open and nothing else failed."""
        return all(run.success for run in self.runs)


class Refresh:
    """The code location, and what is known of its partitions.

    Args:
        instance: where the runs are recorded.
        display: shows progress.
        overrides: settings of this process alone.
        verbose: Dagster's own log, too.
    """

    def __init__(
        self, instance: dg.DagsterInstance, display: Display, overrides: Mapping[str, Any], verbose: bool = False
    ) -> None:
        self._instance, self._verbose = instance, verbose
        self._datasets = DatasetsResource(overrides=dict(overrides))
        loggers = {"live": display_logger(display), "console": dg.colored_console_logger}
        self._defs = build_definitions(self._datasets, display, loggers)
        self._lineage = Lineage(instance, self._defs, self._datasets)

    def plan(self, chosen: Sequence[Chosen]) -> list[Stale]:
        """What is out of date, and what will be if that changes; nothing is recorded or made."""
        found: list[Stale] = []
        for name, entry, splits in chosen:
            of_splits = [stale for split in splits for stale in self._lineage.stale(partition_key(name, split))]
            found += of_splits
            if len(entry.splits) > 1:
                found += self._lineage.stale(name, of_splits)
        return found

    def run(self, chosen: Sequence[Chosen]) -> Refreshed:
        """Makes again what is out of date, a data set's splits first, then their comparison.

        What another one's failure does not concern is made all the same.
        """
        done = Refreshed()
        for name, entry, splits in chosen:
            add_partitions(self._instance, name, list(entry.splits))
            observe_data_set(self._instance, name, list(entry.splits), self._datasets)
            for split in splits:
                self._refresh(partition_key(name, split), done)
            if len(entry.splits) > 1:
                self._refresh(name, done)
        return done

    def _refresh(self, partition: str, done: Refreshed) -> None:
        """Makes one batch after another, and looks again after each what it has changed."""
        made: list[str] = []
        doubted: dict[str, None] = {}
        while True:
            # What was made is not made twice: files that change all the time would keep it here for ever.
            stale = [entry for entry in self._lineage.stale(partition) if entry.table not in made]
            doubted |= dict.fromkeys(entry.table for entry in stale if not entry.certain)
            batch = self._lineage.next_batch(stale)
            if not batch:
                break
            run = run_partition(self._defs, self._instance, partition, log_config(partition, self._verbose), batch)
            done.runs.append(run)
            made += batch
            if not run.success:
                break
        if made:
            done.made[partition] = made
            done.spared[partition] = [table for table in doubted if table not in made] if done.runs[-1].success else []


def say_stale(console: Console, stale: Sequence[Stale]) -> None:
    """Prints what is out of date and why."""
    if not stale:
        console.print("Everything is up to date.", highlight=False)
        return
    table = Table(title="Out of date", title_justify="left")
    for column in ("partition", "table", "why"):
        table.add_column(column, overflow="fold")
    last = None
    for entry in stale:
        table.add_section() if entry.partition != last and last is not None else None
        why = escape(visible(entry.why))
        table.add_row(
            entry.partition if entry.partition != last else "",
            entry.table,
            why if entry.certain else f"[dim]{why}[/dim]",
        )
        last = entry.partition
    console.print(table)


def say_refreshed(console: Console, done: Refreshed) -> None:
    """Prints what was made again, what was spared, and what failed."""
    for partition, tables in done.made.items():
        runs = [run for run in done.runs if run.partition == partition]
        failed = not all(run.success for run in runs)
        seconds = sum(run.seconds for run in runs)
        mark = "[red]FAILED[/red]" if failed else "[green]made again[/green]"
        console.print(f"{partition}  {mark}  {', '.join(tables)}  [dim]{seconds:.1f} s[/dim]", highlight=False)
        if done.spared[partition]:
            console.print(f"{partition}  as before   {', '.join(done.spared[partition])}", highlight=False)
    for run in done.runs:
        for check in run.checks:
            if check.outcome == "failed":
                said = f"{check.asset}.{check.check}: {check.observed}; accepted: {check.limit}"
                console.print(f"[red]FAILED[/red] {run.partition}  {escape(visible(said))}", highlight=False)
        for error in run.errors:
            console.print(f"[red]ERROR[/red] {run.partition}  {escape(visible(error))}", highlight=False)


def as_json(stale: Sequence[Stale], done: Refreshed | None) -> dict[str, Any]:
    """The same for programs."""
    told: dict[str, Any] = {"stale": [vars(entry) for entry in stale]}
    if done is None:
        return told | {"success": not stale}
    return told | {
        "success": done.success,
        "made": done.made,
        "as_before": {partition: tables for partition, tables in done.spared.items() if tables},
        "errors": [f"{run.partition}: {error}" for run in done.runs for error in run.errors],
        "failed_checks": [
            {"partition": c.partition, "asset": c.asset, "check": c.check, "observed": c.observed, "limit": c.limit}
            for run in done.runs
            for c in run.checks
            if c.outcome == "failed"
        ],
    }
