"""`fastdup-dagster export`. Heavy imports wait until the command needs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from fastdup_dagster.command_line.process import quiet, usage_errors


@click.command(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster export photos --format coco --out cleaned.json --dry-run\n"
    "  fastdup-dagster export photos --format coco --out cleaned.json --drop invalid,near_duplicates,leaks\n"
    "  fastdup-dagster export photos --format yolo --out cleaned --split train --copy-images\n"
    "  fastdup-dagster export --work-dir results --format coco --out cleaned.json\n"
    "\b\nReasons to drop: invalid, blurry, dark, bright, outliers, leaks, duplicates, near_duplicates, or none.\n"
    "Of images that are the same, the one that is listed first stays, once all other rules have been applied;\n"
    "of a leak, the smaller split keeps its image, or of two of one size the last by name."
)
@click.argument("name", required=False)
@click.option("--format", "kind", type=click.Choice(["coco", "yolo"]), required=True, help="What is written.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The JSON file of COCO, or a new folder for YOLO."
)
@click.option("--split", "splits", multiple=True, help="A split; by default all.")
@click.option(
    "--drop", default="invalid,duplicates", show_default=True, help="Why to leave something out, separated by commas."
)
@click.option(
    "--dropped",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A csv file for what is left out and why; by default OUT with .dropped.csv.",
)
@click.option(
    "--work-dir", type=click.Path(file_okay=False, path_type=Path), help="Of a run of the Python API, instead of NAME."
)
@click.option("--copy-images", is_flag=True, help="YOLO: copy the images; by default links lead to them.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there; never a folder that is not empty.")
@click.option("--dry-run", is_flag=True, help="Count what would be left out, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Counts as JSON on standard output.")
def export(
    name: str | None,
    kind: str,
    out: Path,
    splits: Sequence[str],
    drop: str,
    dropped: Path | None,
    work_dir: Path | None,
    copy_images: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Writes the annotations of NAME, a data set that was run, cleaned, as COCO or YOLO.

    Boxes, or whole images, that have one of the reasons are left out; images, tables and pages stay as they are.
    """
    if (name is None) == (work_dir is None):
        raise click.UsageError("give the NAME of a data set, or --work-dir")
    if work_dir is not None and splits:
        raise click.UsageError("--split is for data sets: --work-dir holds one listing")
    quiet()
    from rich.console import Console

    from fastdup_dagster.command_line import export as exporting

    target = out.expanduser().absolute()
    listed = (dropped or out.with_name(f"{out.stem}.dropped.csv")).expanduser().absolute()
    reasons = [] if drop.strip() == "none" else [reason.strip() for reason in drop.split(",") if reason.strip()]
    with usage_errors():
        material = exporting.of_dataset(str(name), splits) if work_dir is None else exporting.of_work_dir(work_dir)
        found = exporting.plan(material, reasons)
        made = None if dry_run else exporting.write(found, material, kind, target, listed, overwrite, copy_images)
    if as_json:
        click.echo(json.dumps(exporting.as_json(found, made, None if made is None else listed), indent=2))
        return
    exporting.say(Console(), found)
    if made is not None:
        click.echo(f"{made}: {len(found.images):,} images\n{listed}: what was left out, and why")
