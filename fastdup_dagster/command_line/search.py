"""`fastdup-dagster search`: the images of a data set, or of a work_dir, that are most like one image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import polars as pl

from fastdup_dagster.datasets import dataset_names, load_dataset, partition_key
from fastdup_dagster.engine import Fastdup
from fastdup_dagster.image_search import search_of_partition
from fastdup_dagster.storage import open_store

_COLUMNS = {"split": pl.String, "filename": pl.String, "similarity": pl.Float64}


def search_work_dir(image: str | Path, work_dir: Path, k: int, threshold: float | None) -> pl.DataFrame:
    """`split, filename, similarity` of the nearest images of a run of the Python API, most alike first.

    Raises:
        RuntimeError: if the work_dir holds no finished run.
        ValueError: if the image cannot be used.
    """
    opened = Fastdup(work_dir)
    opened.init_search(k, threshold=threshold)
    found = opened.search(image)
    rows = [(None, name, value) for name, value in zip(found["to"], found["distance"], strict=True)]
    return pl.DataFrame(rows, schema=_COLUMNS, orient="row")


def search_dataset(
    image: str | Path, name: str | None, splits: Sequence[str], k: int, threshold: float | None
) -> pl.DataFrame:
    """`split, filename, similarity` of the nearest images of a data set, most alike first.

    Args:
        image: the image.
        name: of the data set; None if there is only one.
        splits: those to search, all if there are none.
        k: results at most.
        threshold: only images more alike than this.

    Raises:
        FileNotFoundError: if none of the splits was run.
        ValueError: for an unknown data set or split, or an image that cannot be used.
    """
    called = name or _only_one()
    entry = load_dataset(called)
    for split in splits:
        entry.source(split)
    settings, store = entry.typed_settings(), open_store(entry.store_root())
    wanted = list(splits) or [
        split for split in entry.splits if store.exists("embeddings", partition_key(called, split))
    ]
    if not wanted:
        raise FileNotFoundError(f"data set {called!r} has no results yet: fastdup-dagster run")
    rows = []
    for split in wanted:
        index = search_of_partition(store, partition_key(called, split), settings, k, threshold)
        rows += [(split, to, value) for _, to, value in index.search(str(image)).iter_rows()]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return pl.DataFrame(rows[:k], schema=_COLUMNS, orient="row")


def _only_one() -> str:
    known = dataset_names()
    if len(known) != 1:
        raise ValueError(f"--name is needed: there are {', '.join(known) or 'no data sets yet'}")
    return known[0]


def say_found(found: pl.DataFrame, as_json: bool) -> None:
    """Prints the results: a line each, or JSON."""
    if as_json:
        click.echo(json.dumps(found.to_dicts(), indent=2))
        return
    for split, filename, similarity in found.iter_rows():
        click.echo(f"{similarity:.4f}  {f'{split}  ' if split else ''}{filename}")
    if found.is_empty():
        click.echo("nothing that is alike", err=True)
