"""What a run tells at its end: a table for people, JSON for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastdup_dagster.command_line.analyse import Analysis, PartitionRun
from fastdup_dagster.command_line.plan import Plan
from fastdup_dagster.stages.pages import data_size, visible
from fastdup_dagster.stages.report import dataset_summaries
from fastdup_dagster.stages.summary import MEASURES

_SHOWN_ROWS = 5


def say_plan(console: Console, plan: Plan) -> None:
    """Says what is about to happen: files, time, memory, disk, and how that was estimated."""
    for split in plan.splits:
        known = split.images - split.new
        reused = f", {known:,} unchanged" if known else ""
        text = split.problem or f"{split.images:,} images, {data_size(split.size)}{reused}"
        console.print(f"[bold]{plan.name}/{split.split}[/bold]  {escape(visible(text))}", highlight=False)
    for note in plan.notes:
        console.print(f"[yellow]NOTE[/yellow] {escape(visible(note))}", highlight=False, soft_wrap=True)
    if plan.captioner:
        said = f"Captions of images that have none yet, by {visible(plan.captioner)}"
        console.print(escape(said), highlight=False, soft_wrap=True)
    rate = f" at about {plan.rate:,.0f} images/s" if plan.rate else ""
    console.print(
        f"To read: {plan.new:,} images{rate}, about {duration(plan.seconds)} ({plan.basis}), then seconds for the "
        f"rest. Memory up to about {data_size(plan.memory)}, disk about {data_size(plan.disk)} in "
        f"{plan.entry.store_root()}",
        highlight=False,
        soft_wrap=True,
    )


def duration(seconds: float) -> str:
    """Seconds for people: 8 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say_results(console: Console, analysis: Analysis) -> None:
    """Prints the summary table, failed checks with their bad rows, errors, and where the report is."""
    summaries, total = dataset_summaries(analysis.report)
    table = Table(title=analysis.name, title_justify="left")
    table.add_column("")
    for split in analysis.splits:
        table.add_column(split, justify="right")
    if len(summaries) > 1:
        table.add_column("all", justify="right")
    for measure in MEASURES:
        values = [getattr(summaries[s], measure.field) if s in summaries else None for s in analysis.splits]
        values += [getattr(total, measure.field)] if len(summaries) > 1 else []
        table.add_row(measure.title, *("–" if value is None else f"{value:,}" for value in values))
    if any(run.captions for run in analysis.splits.values()):
        table.add_row("Captions", *(_captions_cell(run) for run in analysis.splits.values()))
    table.add_row("Checks", *(_checks_cell(analysis, split) for split in analysis.splits))
    stopped = [", ".join(_failed_gates(analysis.splits[split])) for split in analysis.splits]
    if any(stopped):
        table.add_row("Stopped at", *(f"[red]{assets}[/red]" if assets else "" for assets in stopped))
    console.print(table)
    said: list[object] = []
    for check in analysis.report.checks:
        if check.outcome != "passed":
            colour = "red" if check.outcome == "failed" else "yellow"
            console.print(
                f"[{colour}]{check.outcome.upper()}[/{colour}] {check.partition}  {check.asset}.{check.check}: "
                f"{escape(visible(check.observed))}; accepted: {escape(visible(check.limit))}",
                highlight=False,
                soft_wrap=True,
            )
            if check.bad_table not in said:  # both tables of a decode pass have the same bad rows
                _say_bad_rows(console, check.bad_table)
            said.append(check.bad_table)
    for error in analysis.report.errors:
        console.print(f"[red]ERROR[/red] {escape(error)}", highlight=False, soft_wrap=True)
    for note in analysis.report.notes:
        console.print(f"[yellow]NOTE[/yellow] {escape(visible(note))}", highlight=False, soft_wrap=True)
    console.print(f"Report: {analysis.page}", highlight=False, soft_wrap=True)
    if analysis.link:
        console.print(f"Open it: {escape(analysis.link)}", highlight=False, soft_wrap=True)


def _say_bad_rows(console: Console, table: tuple[list[str], list[tuple[object, ...]], int]) -> None:
    columns, rows, count = table
    if not rows:
        return
    shown = Table(box=None, padding=(0, 2), header_style="dim")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows[:_SHOWN_ROWS]:
        shown.add_row(*(escape(visible("" if cell is None else cell)) for cell in row))
    console.print(shown)
    if count > _SHOWN_ROWS:
        console.print(f"  … the report shows {count:,}", style="dim")


def _captions_cell(run: PartitionRun) -> str:
    """Images captioned in this run, and those of before, and those without."""
    if not run.captions:
        return "–"
    said = f"{run.captions['captioned now']:,} now, {run.captions['reused']:,} reused"
    failed = run.captions["without a caption"]
    return f"{said}, {failed:,} without" if failed else said


def _checks_cell(analysis: Analysis, split: str) -> str:
    run = analysis.splits[split]
    failed = sum(check.outcome == "failed" for check in run.checks)
    if failed:
        return f"[red]{failed} failed[/red]"
    if not run.success:
        return "[red]error[/red]"
    warnings = sum(check.outcome == "warning" for check in run.checks)
    passed = f"[green]{len(run.checks) - warnings} passed[/green]"
    return f"{passed}, [yellow]{warnings} warned[/yellow]" if warnings else passed


def _failed_gates(run: PartitionRun) -> list[str]:
    """The assets that a check kept from being published."""
    return list(dict.fromkeys(check.asset for check in run.checks if check.outcome == "failed"))


def as_json(analysis: Analysis) -> dict[str, Any]:
    """The same for programs."""
    summaries, total = dataset_summaries(analysis.report)
    rates = analysis.report.leak_rates
    return {
        "name": analysis.name,
        "success": analysis.success,
        "splits": {
            split: {
                "success": run.success,
                "run_id": run.run_id,
                "seconds": round(run.seconds, 3),
                "features": {name.replace(" ", "_"): value for name, value in run.features.items()},
                "captions": {name.replace(" ", "_"): value for name, value in run.captions.items()} or None,
                "summary": summaries[split].as_dict() if split in summaries else None,
                "pages": analysis.pages.get(split),
                "failed_gates": _failed_gates(run),
                "errors": run.errors,
            }
            for split, run in analysis.splits.items()
        },
        "total": total.as_dict(),
        "notes": list(analysis.report.notes),
        "leakage": None if rates is None else rates.to_dicts(),
        "errors": analysis.leakage.errors if analysis.leakage else [],
        "checks": [
            {
                "partition": check.partition,
                "asset": check.asset,
                "check": check.check,
                "outcome": check.outcome,
                "observed": check.observed,
                "limit": check.limit,
                "bad_rows": [] if check.bad_rows is None else check.bad_rows.to_dicts(),
            }
            for check in analysis.report.checks
        ],
        "model": analysis.report.model,
        "report": analysis.page,
        "link": analysis.link,
    }
