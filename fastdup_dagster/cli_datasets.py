"""`fastdup-dagster datasets`: the commands on datasets.yaml. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fastdup_dagster.command_line.process import quiet, usage_errors


@click.group()
def datasets() -> None:
    """The data sets that are registered here, in datasets.yaml of the Dagster home or where FASTDUP_DATASETS says."""


@datasets.command("list", epilog="\b\nExample:\n  fastdup-dagster datasets list --json")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def list_(as_json: bool) -> None:
    """Shows every entry: where it is, its splits, what differs from the default settings."""
    quiet()
    from rich.console import Console

    from fastdup_dagster.command_line import registered

    with usage_errors():
        entries = registered.entries_or_errors()
    if as_json:
        told = {n: {"error": e} if isinstance(e, str) else e.model_dump(mode="json") for n, e in entries.items()}
        click.echo(json.dumps(told, indent=2))
    else:
        registered.say_datasets(Console(), entries)


@datasets.command(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster datasets add photos ~/photos\n"
    "  fastdup-dagster datasets add photos ~/photos --split train=train --split test=lists/test.txt\n"
    "  fastdup-dagster datasets add birds ~/birds --annotations labels.csv --split-column subset\n"
    "  fastdup-dagster datasets add far s3://bucket/images --split all=."
)
@click.argument("name")
@click.argument("root")
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="NAME=PLACE",
    help="A folder or list file below ROOT, or with --split-column a value of it; by default what is found.",
)
@click.option("--annotations", help="A csv file below ROOT, with a column filename.")
@click.option("--split-column", help="The column of the annotations that says which split a file is in.")
@click.option(
    "--settings", "settings_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML file."
)
@click.option("--store", help="Folder for tables and pages; by default the home's.")
@click.option("--replace", is_flag=True, help="Let NAME stand for this from now on.")
def add(
    name: str,
    root: str,
    splits: Sequence[str],
    annotations: str | None,
    split_column: str | None,
    settings_file: Path | None,
    store: str | None,
    replace: bool,
) -> None:
    """Registers the images of ROOT, a folder or an s3:// prefix, under NAME; nothing is run."""
    quiet()
    from fastdup_dagster.command_line import registered
    from fastdup_dagster.home import ensure_home
    from fastdup_dagster.settings import load_settings

    pairs = [pair.partition("=") for pair in splits]
    if wrong := [text for text, (split, equals, place) in zip(splits, pairs, strict=True) if not (split and place)]:
        raise click.UsageError(f"--split {wrong[0]}: expected NAME=PLACE, such as train=train or all=.")
    with usage_errors():
        ensure_home()
        settings = load_settings(settings_file).model_dump(mode="json", exclude_unset=True) if settings_file else {}
        given = {split: place for split, _, place in pairs}
        entry = registered.add(name, root, given, annotations, split_column, settings, store, replace)
    click.echo(f"{name}: {', '.join(entry.splits)}", err=True)


@datasets.command(
    epilog="\b\nExamples:\n  fastdup-dagster datasets check\n  fastdup-dagster datasets check photos --json\n"
    "\b\nExit code: 0 if every entry holds, 1 if one does not, 2 for wrong usage."
)
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def check(names: Sequence[str], as_json: bool) -> None:
    """Lists every split of NAMES, or of all data sets, and says what is wrong: places, annotations, settings."""
    quiet()
    from rich.console import Console

    from fastdup_dagster.command_line import registered

    with usage_errors():
        checked = registered.check(names)
    if as_json:
        click.echo(json.dumps(registered.checked_as_json(checked), indent=2))
    else:
        registered.say_checked(Console(), checked)
    sys.exit(1 if any(row.problem for row in checked) else 0)
