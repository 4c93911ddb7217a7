"""`fastdup-dagster`: the commands and their options. What they do is in `fastdup_dagster.command_line`.

Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastdup_dagster import cli_upkeep
from fastdup_dagster.cli_export import export
from fastdup_dagster.command_line.models import models
from fastdup_dagster.command_line.process import quiet as _quiet
from fastdup_dagster.variables import VariableError

if TYPE_CHECKING:
    from fastdup_dagster.command_line.analyse import Analysis

# `--captions` without a model: that of the settings.
_CHOSEN = ""

_Command = TypeVar("_Command", bound=Callable[..., Any])

# option, name of the setting, type, help
_SETTINGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--k", "nearest_neighbors_k", click.IntRange(min=1), "Neighbours per image (2)."),
    ("--threshold", "threshold", float, "Pairs: similarity over it (0.9)."),
    ("--cc-threshold", "cc_threshold", float, "Clusters: similarity at or over it (0.96)."),
    ("--outlier-percentile", "outlier_percentile", float, "Share of the edges that count as outliers (0.05)."),
    ("--model", "model_path", str, "A name out of `models list`, an .onnx of your own, or `bundled` (default)."),
    ("--max-invalid-share", "max_invalid_share", float, "Broken files that are accepted, 0 to 1 (0.05)."),
)


def _place(value: str) -> str | Path:
    """A path, or a place in an object store, which stays text: a Path would lose one of its slashes."""
    return value if value.startswith(("s3://", "minio://")) else Path(value)


def _setting_options(command: _Command) -> _Command:
    for flag, name, kind, text in reversed(_SETTINGS):
        command = click.option(flag, name, type=kind, default=None, help=text)(command)
    return command


_COMMON: tuple[Callable[[_Command], _Command], ...] = (
    click.option("--num-threads", type=click.IntRange(min=1), help="Threads; the cores of this machine by default."),
    click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output."),
    click.option("--verbose", is_flag=True, help="Dagster's own log, too."),
)


def _common_options(command: _Command) -> _Command:
    for option in reversed(_COMMON):
        command = option(command)
    return command


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VariableError as error:  # by whichever command: the code location reads them when it is imported
            raise click.UsageError(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fastdup-dagster")
def main() -> None:
    """Finds what is wrong with an image data set: copies, leaks, outliers, broken, blurred, dark and bright images.

    Results go to the Dagster home (DAGSTER_HOME, else ~/.fastdup_dagster); `fastdup-dagster dev` shows them.
    """


@main.command(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster run ~/photos --name photos\n"
    "  fastdup-dagster run ~/coco --name coco --split train --split val --threshold 0.92\n"
    "  fastdup-dagster run list.txt --name mine --store results --json > results.json\n"
    "  fastdup-dagster run s3://bucket/photos --name remote --store s3://bucket/results\n"
    "  fastdup-dagster run ~/photos --name photos --captions blip\n"
    "\b\nExit code: 0 if every gate is open, 1 if one is not or a step failed, 2 for wrong usage."
)
@click.argument("path", type=_place)
@click.option("--name", help="Of the data set; by default the folder's name.")
@click.option(
    "--split",
    "splits",
    multiple=True,
    help="A split to run: a sub-folder, an archive called like one, or `all` for the whole folder; by default every "
    "one called train, val, test, …",
)
@_setting_options
@click.option(
    "--high-accuracy/--no-high-accuracy",
    default=None,
    help="The bundled model with 960 numbers, or with 576 (default).",
)
@click.option(
    "--settings", "settings_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML file."
)
@click.option(
    "--captions",
    is_flag=False,
    flag_value=_CHOSEN,
    metavar="[MODEL]",
    help="Caption the images, too: by automatic, tags, vitgpt2, blip, vqa, age, or the folder of a model; by default "
    "as the data set's settings say.",
)
@click.option("--recompute", is_flag=True, help="Read every image again, even unchanged ones.")
@click.option(
    "--data-docs", is_flag=True, help="Great Expectations' own pages of all checks, too (FASTDUP_DATA_DOCS=1)."
)
@click.option("--replace", is_flag=True, help="Let --name stand for PATH from now on.")
@click.option("--store", "--out", "out", help="Folder, or s3://bucket/prefix, for tables and pages.")
@_common_options
def run(
    path: str | Path,
    name: str | None,
    splits: Sequence[str],
    high_accuracy: bool | None,
    settings_file: Path | None,
    captions: str | None,
    recompute: bool,
    data_docs: bool,
    replace: bool,
    out: str | None,
    num_threads: int | None,
    as_json: bool,
    verbose: bool,
    **flags: Any,
) -> None:
    """Analyses the images of PATH: a folder, an archive, a video, or a text or csv file with one path a row.

    It may be local, or in an object store: s3://bucket/prefix, minio://server/bucket/prefix.

    The data set is registered under --name with these settings, and its splits are materialised one after another.
    Options given once are remembered for that name; --settings and options go over what is remembered.
    """
    changes = _changes(settings_file, {**flags, "high_accuracy": high_accuracy, "captions": captions})
    if data_docs:
        os.environ["FASTDUP_DATA_DOCS"] = "1"
    overrides = {} if num_threads is None else {"num_threads": num_threads}
    _quiet()
    from fastdup_dagster.command_line import plan as planning
    from fastdup_dagster.home import ensure_home

    try:
        ensure_home()
        called = name or planning.default_name(path)
        entry, chosen = planning.resolve_entry(path, called, splits, changes, out, replace)
        made = planning.make_plan(called, entry, chosen, overrides, recompute, captions is not None)
    except (ImportError, NotImplementedError, OSError, TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    planning.register_plan(made)
    analysis = _analyse(made, overrides, recompute, verbose)
    _say(analysis, as_json)
    sys.exit(0 if analysis.success else 1)


@main.command(
    epilog="\b\nExample:\n  fastdup-dagster demo --out demo\n"
    "\b\nExit code: 0 if everything planted was found, 1 if not, or if a step failed, 2 for wrong usage."
)
@click.option("--seed", default=0, show_default=True, help="Another seed, other pictures and defects.")
@click.option("--name", default="demo", show_default=True, help="Of the data set.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for pictures, tables and pages.")
@_common_options
def demo(seed: int, name: str, out: Path | None, num_threads: int | None, as_json: bool, verbose: bool) -> None:
    """Makes a data set with planted defects, finds them, and prints planted against found."""
    _quiet()
    from fastdup_dagster.command_line import demo as demonstrating
    from fastdup_dagster.command_line import plan as planning
    from fastdup_dagster.demo import make_demo
    from fastdup_dagster.home import ensure_home

    overrides = {} if num_threads is None else {"num_threads": num_threads}
    try:
        home = ensure_home()
        folder = (out or home / "demo").absolute()
        images = folder / f"images-{seed}"
        demonstrating.check_name_is_free(name, images)
        planted = make_demo(images, seed)
        entry, splits = planning.resolve_entry(images, name, (), {}, folder / "results", replace=True)
        made = planning.make_plan(name, entry, splits, overrides, recompute=False)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    planning.register_plan(made)
    analysis = _analyse(made, overrides, False, verbose)
    score = demonstrating.score(planted, analysis) if analysis.success else None
    _say(analysis, as_json, score=None if score is None else score.to_dicts())
    if score is not None and not as_json:
        demonstrating.say_score(score)
    sys.exit(0 if score is not None and score["found"].equals(score["planted"]) else 1)


@main.command(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster search holiday.jpg --name photos --k 5\n"
    "  fastdup-dagster search holiday.jpg --work-dir results --threshold 0.9 --json"
)
@click.argument("image", type=_place)
@click.option("--name", help="Of a data set that was run; may be left out if there is only one.")
@click.option("--split", "splits", multiple=True, help="A split to search; by default all.")
@click.option(
    "--work-dir", type=click.Path(file_okay=False, path_type=Path), help="Of a run of the Python API, instead."
)
@click.option("--k", default=10, show_default=True, type=click.IntRange(min=1), help="Results at most.")
@click.option("--threshold", type=float, help="Only images more alike than this.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output.")
def search(
    image: str | Path,
    name: str | None,
    splits: Sequence[str],
    work_dir: Path | None,
    k: int,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Finds the images that are most like IMAGE, among those that were analysed."""
    _quiet()
    from fastdup_dagster.command_line import search as searching

    try:
        if work_dir is not None and (name or splits):
            raise ValueError("--work-dir stands instead of --name and --split, not beside them")
        found = (
            searching.search_work_dir(image, work_dir, k, threshold)
            if work_dir is not None
            else searching.search_dataset(image, name, splits, k, threshold)
        )
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # NotImplementedError is a RuntimeError
        raise click.UsageError(str(error)) from error
    searching.say_found(found, as_json)


main.add_command(models)
main.add_command(export)


@main.command(epilog="\b\nExample:\n  fastdup-dagster dev --port 3000")
@click.option("--port", default=3000, show_default=True, help="Of the Dagster UI, on this machine alone.")
@click.option("--pages-port", default=3010, show_default=True, help="Of galleries and reports, on this machine alone.")
@click.option("--workspace", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A workspace.yaml.")
def dev(port: int, pages_port: int, workspace: Path | None) -> None:
    """Serves the Dagster UI and daemon on what was run here, and the galleries that it links to."""
    from fastdup_dagster.command_line.dev import serve
    from fastdup_dagster.home import ensure_home

    def ready() -> None:
        click.echo(f"Dagster UI http://127.0.0.1:{port}, pages http://127.0.0.1:{pages_port}, home {home}", err=True)

    try:
        home = ensure_home()
        code = serve(port, pages_port, workspace, {"FASTDUP_PAGES_URL": f"http://127.0.0.1:{pages_port}"}, ready)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    sys.exit(code)


def _changes(settings_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Settings that this command line changes: those of the file, then those of the options."""
    from fastdup_dagster.settings import load_settings, settings_from

    given = {name: value for name, value in flags.items() if value is not None}
    share, captioner = given.pop("max_invalid_share", None), given.pop("captions", _CHOSEN)
    if "model_path" in given:
        given |= _model(given["model_path"])
    try:
        changes = load_settings(settings_file).model_dump(mode="json", exclude_unset=True) if settings_file else {}
        changes |= given
        if share is not None:
            changes["limits"] = {**changes.get("limits", {}), "max_invalid_share": share}
        if captioner != _CHOSEN:
            changes["captions"] = {**changes.get("captions", {}), "model": _captioner(captioner)}
        settings_from(changes)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    return changes


def _model(given: str) -> dict[str, Any]:
    """Settings of `--model`; the bundled one needs none, so what is remembered of another one is forgotten."""
    if given == "bundled":
        return {"model_path": None, "d": None}
    from fastdup_dagster.settings import NAMED_MODELS

    if given in NAMED_MODELS:
        from fastdup_dagster.models.store import ModelStore

        try:
            ModelStore().require(given, f"--model {given}")
        except FileNotFoundError as error:
            raise click.UsageError(str(error)) from error
        return {"model_path": given, "d": None}
    path = Path(given).expanduser().resolve()
    if not path.is_file():
        raise click.UsageError(f"--model {given}: does not exist; give the path of an .onnx file, or `bundled`")
    return {"model_path": str(path)}


def _captioner(given: str) -> str:
    """A folder by its whole path, since settings are remembered; every other name as it is."""
    from fastdup_dagster.models.captioning import AUTOMATIC, NAMED, TAGS

    path = Path(given).expanduser()
    named = given in (AUTOMATIC, TAGS, *NAMED, *NAMED.values())
    return str(path.resolve()) if not named and path.is_dir() else given


def _analyse(plan: Any, overrides: dict[str, Any], recompute: bool, verbose: bool) -> Analysis:
    """Says the plan and runs it with live progress."""
    from rich.console import Console

    from fastdup_dagster.command_line import output
    from fastdup_dagster.command_line.analyse import analyse, open_instance
    from fastdup_dagster.command_line.display import open_display, terminal

    output.say_plan(Console(stderr=True), plan)
    chosen = [split.split for split in plan.splits]
    try:
        with open_instance() as instance, terminal() as console, open_display(console) as display:
            return analyse(
                instance,
                plan.name,
                plan.entry,
                chosen,
                display,
                overrides,
                recompute,
                verbose,
                plan.notes,
                captions=plan.captioner is not None,
            )
    except KeyboardInterrupt:
        click.echo("Interrupted. What was computed is kept: the same command goes on from there.", err=True)
        sys.exit(130)


def _say(analysis: Analysis, as_json: bool, **more: Any) -> None:
    """Prints the results: tables for people, or JSON with `more` beside."""
    from rich.console import Console

    from fastdup_dagster.command_line import output

    if as_json:
        click.echo(json.dumps(output.as_json(analysis) | more, indent=2, default=str))
    else:
        output.say_results(Console(), analysis)


for _command in cli_upkeep.COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    main()
