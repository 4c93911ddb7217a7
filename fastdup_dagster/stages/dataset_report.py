"""What a data set's report is made from: the published tables of its splits, as far as they fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import polars as pl

from fastdup_dagster.datasets import captions_key, data_docs_key, leaks_key, partition_key
from fastdup_dagster.schemas import TABLES
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.caption_pages import CAPTIONS_PAGE
from fastdup_dagster.stages.published import MixedTablesError, check_edges, manifest_of
from fastdup_dagster.stages.report import CheckOutcome, DatasetReport
from fastdup_dagster.stages.split_leakage import leak_rates
from fastdup_dagster.stages.summary import SplitTables, invalid_instances
from fastdup_dagster.storage import TableStore

# What the numbers of a split are counted from; without the first there are none, without one of the others some.
COUNTED_IMAGES = frozenset({"image_manifest", "embeddings", "img_stats"})
COUNTED_EDGES = ("knn_graph", "similarity", "outliers", "components")
_WITHOUT_VECTORS = ("index", "model", "error_code", "error", "source_key")


@dataclass(frozen=True)
class Found:
    """The tables of a split that fit together.

    Attributes:
        tables: None if there is nothing to count.
        why: what is not there, or does not fit, and why; empty if all is well.
    """

    tables: SplitTables | None
    why: str = ""


def read_split(store: TableStore, key: str, published: Collection[str] = COUNTED_EDGES) -> SplitTables:
    """The published tables of a split.

    Args:
        store: holds them.
        key: of the partition.
        published: tables of edges to read; one that is not among them is empty, and said to be missing.

    Raises:
        FileNotFoundError: if a table was never published.
        MixedTablesError: if another run has published half of its own meanwhile.
    """
    there = [table for table in COUNTED_EDGES if table in published]
    edges = {t: store.read(t, key) if t in there else TABLES[t].frame() for t in COUNTED_EDGES}
    stats, embeddings = store.read("img_stats", key), store.read("embeddings", key, _WITHOUT_VECTORS)
    return SplitTables(
        manifest=manifest_of(store, key, *there, img_stats=stats, embeddings=embeddings),
        img_stats=stats,
        embeddings=embeddings,
        missing=frozenset(COUNTED_EDGES) - frozenset(there),
        **edges,
    )


def find_split(store: TableStore, key: str) -> Found:
    """The tables of a split as far as they are published and made from each other; never raises for one that is not."""
    fitting, why = [], []
    for table in COUNTED_EDGES:
        try:
            check_edges(store, key, table)
        except (FileNotFoundError, MixedTablesError) as error:
            why.append(str(error))
        else:
            fitting.append(table)
    try:
        return Found(read_split(store, key, fitting), why[0] if why else "")  # what follows from it says no more
    except (FileNotFoundError, MixedTablesError) as error:
        return Found(None, str(error))


def has_captions(store: TableStore, key: str) -> bool:
    """Whether the published captions of a split are those of its published listing."""
    if not (store.exists("captions", key) and store.exists("image_manifest", key)):
        return False
    try:
        manifest_of(store, key, captions=store.read("captions", key, ["source_key"]))
    except (MixedTablesError, pl.exceptions.PolarsError):  # or of a version that had no such column
        return False
    return True


def embedded_from(store: TableStore, keys: Iterable[str]) -> dict[str, str]:
    """The digest of the embeddings of each partition: what a comparison of the splits is made of."""
    digests = {key: store.lineage("embeddings", key).digest for key in keys}
    return {f"embeddings {key}": digest for key, digest in digests.items() if digest}


@dataclass(frozen=True)
class Leaks:
    """What is published of the leaks of a data set.

    Attributes:
        table: SPLIT_LEAKAGE; None if there is nothing that fits.
        splits: which of the splits were compared as they are published now.
        why: what is left out, and why; empty if nothing is.
    """

    table: pl.DataFrame | None = None
    splits: Sequence[str] = ()
    why: str = ""


def find_leaks(store: TableStore, name: str, splits: Collection[str]) -> Leaks:
    """The published pairs across the splits of a data set whose ids are those of the published images.

    Args:
        store: holds them.
        name: of the data set.
        splits: between which pairs are wanted.
    """
    if len(splits) < 2 or not store.exists("split_leakage", name):
        return Leaks()
    made_of, now = store.lineage("split_leakage", name).made_of, embedded_from(store, splits_keys(name, splits))
    fit = [s for s in splits if made_of.get(at := f"embeddings {partition_key(name, s)}") == now.get(at, "")]
    moved = [split for split in splits if split not in fit]
    why = f"leaks of {', '.join(moved)} are not shown: split_leakage was made before what is published" if moved else ""
    if len(fit) < 2:
        return Leaks(why=why)
    leaks = store.read("split_leakage", name)
    return Leaks(leaks.filter(pl.col("split_from").is_in(fit) & pl.col("split_to").is_in(fit)), fit, why)


def splits_keys(name: str, splits: Iterable[str]) -> list[str]:
    """The partition keys of these splits of a data set."""
    return [partition_key(name, split) for split in splits]


def dataset_report(
    store: TableStore,
    name: str,
    tables: Mapping[str, SplitTables | None],
    settings: Settings,
    *,
    model: str,
    checks: Sequence[CheckOutcome],
    paged: Collection[str],
    captioned: Collection[str] = (),
    with_leaks: bool = True,
    notes: Sequence[str] = (),
    errors: Sequence[str] = (),
    why: Mapping[str, str] | None = None,
) -> DatasetReport:
    """What report.html of a data set says.

    Args:
        store: holds the comparison of the splits, and the pages.
        name: of the data set.
        tables: of each split; None for one without results.
        settings: of the data set.
        model: name@sha256.
        checks: results to show.
        paged: splits whose pages are there.
        captioned: splits whose captions belong to these tables, and are on a page.
        with_leaks: whether the published comparison of the splits is a part of it.
        notes: for people.
        errors: what broke, apart from failed checks.
        why: why a split has no results, or not all, where that was no gate.
    """
    done = {split: found for split, found in tables.items() if found is not None}
    leaks = find_leaks(store, name, done) if with_leaks else Leaks()
    said = {split: partition_key(name, split) for split in done if split in captioned}
    sizes = {split: done[split].manifest.height - invalid_instances(done[split]).height for split in leaks.splits}
    return DatasetReport(
        name=name,
        splits=tables,
        settings=settings,
        model=model,
        version=version("fastdup-dagster"),
        created=datetime.now(UTC),
        checks=checks,
        data_docs={
            (check.partition, check.asset): store.pages(data_docs_key(check.partition)) / f"{check.asset}.html"
            for check in checks
            if check.data_docs
        },
        leakage=leaks.table,
        leak_rates=None if leaks.table is None else leak_rates(leaks.table, sizes),
        galleries={split: store.pages(partition_key(name, split)) for split in done if split in paged},
        leaks_page=None if leaks.table is None else store.pages(leaks_key(name)) / "leaks.html",
        captions={split: store.read("captions", key) for split, key in said.items()},
        caption_pages={split: store.pages(captions_key(key)) / CAPTIONS_PAGE for split, key in said.items()},
        notes=[*notes, *([leaks.why] if leaks.why else [])],
        errors=errors,
        why=why or {},
    )
