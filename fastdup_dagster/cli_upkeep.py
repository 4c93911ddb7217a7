"""`fastdup-dagster refresh`, `backfill` and `datasets`: commands on what is registered already.

Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastdup_dagster.cli_datasets import datasets
from fastdup_dagster.command_line.process import quiet, usage_errors

if TYPE_CHECKING:
    import dagster as dg

    from fastdup_dagster.command_line.display import Display

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _name_option(command: _Command) -> _Command:
    return click.option("--name", "names", multiple=True, help="A data set; by default all that are registered.")(
        command
    )


def _split_option(text: str) -> Callable[[_Command], _Command]:
    return click.option("--split", "splits", multiple=True, help=text)


def _run_options(command: _Command) -> _Command:
    options: tuple[Callable[[_Command], _Command], ...] = (
        click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="JUnit file to write."),
        click.option(
            "--num-threads", type=click.IntRange(min=1), help="Threads; the cores of this machine by default."
        ),
        click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output."),
        click.option("--verbose", is_flag=True, help="Dagster's own log, too."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster refresh --dry-run\n"
    "  fastdup-dagster refresh --name photos --split train --junit refresh.xml\n"
    "\b\nExit code: 0 if everything is up to date in the end, 1 if not, 2 for wrong usage."
)
@_name_option
@_split_option("A split; by default all.")
@click.option("--dry-run", is_flag=True, help="Say what is out of date and why; make and record nothing.")
@_run_options
def refresh(
    names: Sequence[str],
    splits: Sequence[str],
    dry_run: bool,
    junit: Path | None,
    num_threads: int | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Makes again what is out of date, and nothing else.

    Lists every split, compares files, settings, models and code with what the tables were made from, and runs what
    differs, in order. Where content turns out as it was, it stops: what lies below is as good as new.
    """
    quiet()
    from rich.console import Console

    from fastdup_dagster.command_line import refresh as refreshing
    from fastdup_dagster.command_line.ci_report import write_github_summary, write_junit
    from fastdup_dagster.command_line.selection import choose

    with usage_errors():
        chosen = choose(names, splits)
    done = None
    with _instance_and_display() as (instance, display):
        work = refreshing.Refresh(instance, display, _overrides(num_threads), verbose)
        stale = work.plan(chosen)
        if not as_json:
            refreshing.say_stale(Console(), stale)
        if not dry_run:
            done = work.run(chosen)
    if as_json:
        click.echo(json.dumps(refreshing.as_json(stale, done), indent=2, default=str))
    elif done is not None:
        refreshing.say_refreshed(Console(), done)
    if done is not None:
        write_github_summary("Refresh", done.runs)
        if junit:
            write_junit(junit, done.runs)
    sys.exit(0 if (done.success if done is not None else not stale) else 1)


@click.command(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster backfill --all\n"
    "  fastdup-dagster backfill --name photos --split train --split val --junit backfill.xml\n"
    "  fastdup-dagster backfill --missing\n"
    "\b\nExit code: 0 if every gate is open, 1 if one is not or a step failed, 2 for wrong usage."
)
@_name_option
@_split_option("A split, of every data set that has one of that name.")
@click.option("--all", "every", is_flag=True, help="Every split.")
@click.option("--missing", is_flag=True, help="Only splits of which a table was never made, or is gone.")
@click.option("--captions", is_flag=True, help="Caption the images, too, as the data set's settings say.")
@click.option("--recompute", is_flag=True, help="Read every image again, even unchanged ones.")
@_run_options
def backfill(
    names: Sequence[str],
    splits: Sequence[str],
    every: bool,
    missing: bool,
    captions: bool,
    recompute: bool,
    junit: Path | None,
    num_threads: int | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Materialises all tables of these splits, one split after another in this process, then compares them.

    Rows whose file, settings and model are as before are taken over: a second time nothing is inferred.
    """
    quiet()
    from rich.console import Console

    from fastdup_dagster.command_line import backfill as filling
    from fastdup_dagster.command_line import output
    from fastdup_dagster.command_line.ci_report import write_github_summary, write_junit
    from fastdup_dagster.command_line.selection import choose

    if [bool(splits), every, missing].count(True) != 1:
        raise click.UsageError("give one of --split, --all and --missing")
    with usage_errors():
        chosen = choose(names, splits)
    with _instance_and_display() as (instance, display):
        wanted = filling.missing_splits(instance, chosen, captions) if missing else chosen
        analyses = filling.backfill(instance, wanted, display, _overrides(num_threads), recompute, verbose, captions)
    runs = [run for analysis in analyses for run in analysis.runs]
    if as_json:
        click.echo(json.dumps([output.as_json(analysis) for analysis in analyses], indent=2, default=str))
    else:
        console = Console()
        for analysis in analyses:
            output.say_results(console, analysis)
        filling.say_counts(console, analyses)
    write_github_summary("Backfill", runs)
    if junit:
        write_junit(junit, runs)
    sys.exit(0 if all(run.success for run in runs) else 1)


def _overrides(num_threads: int | None) -> dict[str, Any]:
    return {} if num_threads is None else {"num_threads": num_threads}


@contextmanager
def _instance_and_display() -> Iterator[tuple[dg.DagsterInstance, Display]]:
    """The instance of this home and a display; an interrupt ends the command in order."""
    from fastdup_dagster.command_line import analyse
    from fastdup_dagster.command_line.display import open_display, terminal

    try:
        with analyse.open_instance() as instance, terminal() as console, open_display(console) as display:
            yield instance, display
    except KeyboardInterrupt:
        click.echo("Interrupted. What was computed is kept: the same command goes on from there.", err=True)
        sys.exit(130)


COMMANDS = (refresh, backfill, datasets)
