"""`fastdup-dagster models`: the models that have names, and which of them are on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fastdup_dagster.models.download import Progress
    from fastdup_dagster.models.store import StoredModel

_SHA256 = click.option("--sha256", help="Of the file, if you know it: 64 hex digits; another one is refused.")


@click.group(
    epilog="\b\nExamples:\n"
    "  fastdup-dagster models list\n"
    "  fastdup-dagster models pull dinov2s --trust-first-use\n"
    "  fastdup-dagster models add clip clip_vision.onnx --licence MIT\n"
    "  fastdup-dagster models verify\n"
    "\b\nModels are kept in the folder FASTDUP_MODELS, by default fastdup_dagster/models in your cache folder.\n"
    "With FASTDUP_OFFLINE=1 nothing is fetched. Nothing but `pull`, and `add` of an address, ever is."
)
def models() -> None:
    """Models by name, such as dinov2s and clip: what there is, fetch, check, add.

    A run takes them by `--model NAME`, in Python by `run(model_path=NAME)`, and never fetches one itself.
    """


@models.command("list", epilog="\b\nExample:\n  fastdup-dagster models list --json")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def list_models(as_json: bool) -> None:
    """Every model that has a name, with licence, address, and whether it is here."""
    from fastdup_dagster.models.registry import MODELS
    from fastdup_dagster.models.store import ModelStore

    store = ModelStore()
    rows = [_row(model, store.find(model.name)) for model in MODELS.values()]
    if as_json:
        click.echo(json.dumps({"folder": str(store.root), "models": rows}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "d", "licence", "here", "sha256", title=f"Models in {store.root}")
    for row in rows:
        here = f"{row['bytes'] / 1e6:.1f} MB" if row["here"] else "" if row["urls"] else "no address"
        hashed = f"by {row['trusted']}" if row["here"] else "known" if row["verified"] else "unknown"
        width = "" if row["width"] is None else str(row["width"])
        table.add_row(row["name"], row["title"], width, row["licence"] or "unknown", here, hashed)
    Console().print(table)


@models.command(
    epilog="\b\nExamples:\n  fastdup-dagster models pull resnet50\n"
    "  fastdup-dagster models pull dinov2s --trust-first-use\n"
    "\b\nAn interrupted download goes on where it stopped when the command is given again."
)
@click.argument("name")
@click.option("--trust-first-use", is_flag=True, help="Take a file whose sha256 nobody states, and record its hash.")
@_SHA256
def pull(name: str, trust_first_use: bool, sha256: str | None) -> None:
    """Fetches the model NAME from its publisher, and checks its sha256."""
    from fastdup_dagster.models.download import pull as fetch
    from fastdup_dagster.models.store import ModelStore

    with _errors(), _progress() as progress:
        stored = fetch(ModelStore(), name, sha256=sha256, trust_first_use=trust_first_use, progress=progress)
    _say_stored(stored)


@models.command(
    epilog="\b\nExamples:\n  fastdup-dagster models add clip clip_vision.onnx --licence MIT\n"
    "  fastdup-dagster models add yolov5s https://example.org/mine.onnx --licence AGPL-3.0 --sha256 HEX"
)
@click.argument("name")
@click.argument("source", metavar="PATH|URL")
@click.option("--licence", "--license", "licence", required=True, help="Of the weights, as their publisher states it.")
@_SHA256
def add(name: str, source: str, licence: str, sha256: str | None) -> None:
    """Puts a file, a folder of files, or what is at an address, under the name NAME.

    Data that an .onnx file keeps beside itself comes along. An address without --sha256 is trusted at first use.
    """
    from fastdup_dagster.models.download import pull as fetch
    from fastdup_dagster.models.store import ModelStore

    store = ModelStore()
    with _errors():
        if "://" not in source:
            stored = store.add(name, Path(source).expanduser(), licence, sha256)
        else:
            with _progress() as progress:
                stored = fetch(
                    store, name, url=source, sha256=sha256, licence=licence, trust_first_use=True, progress=progress
                )
    _say_stored(stored)


@models.command(
    epilog="\b\nExample:\n  fastdup-dagster models verify clip\n"
    "\b\nExit code: 0 if every file is as it came, 1 if not, 2 for wrong usage."
)
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Reads the files of NAMES, by default of all models that are here, and compares their sha256."""
    from fastdup_dagster.models.registry import MODELS
    from fastdup_dagster.models.store import ModelStore

    store = ModelStore()
    good = True
    with _errors():
        for name in names or MODELS:
            stored = store.require(name, name) if names else store.find(name)
            if stored is None:
                continue
            problems = stored.changed()
            good &= not problems
            click.echo(f"{stored.name}: {'; '.join(problems) or 'as it came'}")
    sys.exit(0 if good else 1)


def _row(model: Any, stored: StoredModel | None) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "title": model.title,
        "width": model.width,
        "licence": model.licence if stored is None else stored.licence,
        "urls": [file.url for file in model.files],
        "verified": model.verified,
        "note": model.note,
        "here": stored is not None,
        "bytes": None if stored is None else stored.size,
        "files": {} if stored is None else dict(stored.files),
        "source": None if stored is None else stored.source,
        "trusted": None if stored is None else stored.trusted,
    }


def _say_stored(stored: StoredModel) -> None:
    for name, sha256 in stored.files.items():
        click.echo(f"{stored.name}: {stored.folder / name} sha256 {sha256} ({stored.trusted})")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on standard error, one a file."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show
