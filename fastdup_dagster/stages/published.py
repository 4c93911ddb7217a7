"""The published listing of a partition, handed out only together with tables that were made from it.

Ids are positions in the listing, and the listing is published before the decode pass has proved itself. When its
gate then stops the split, the store holds the new listing and the old tables: names looked up by id would be those
of other images. `source_key` tells the two apart, since it holds a hash of each image's path, change token and box.
What is made from edges has no such column: its file says by digest which table it was made from (`Lineage`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from fastdup_dagster.stages.reuse import source_tokens
from fastdup_dagster.storage import TableStore

# The table that the ids of each table of edges come from; the first ones come from the listing.
_IDS_FROM = {
    "knn_graph": "embeddings",
    "similarity": "knn_graph",
    "outliers": "knn_graph",
    "components": "knn_graph",
}


class MixedTablesError(ValueError):
    """A published table was made from another listing than the published one; the message names both."""


def _same(tokens: Sequence[str], table: pl.DataFrame) -> bool:
    keys = table["source_key"]
    return len(tokens) == len(keys) and all(key.endswith(token) for key, token in zip(keys, tokens, strict=True))


def check_together(key: str, manifest: pl.DataFrame, **tables: pl.DataFrame) -> None:
    """Refuses tables that were not made from the listing.

    Args:
        key: of the partition, for the message.
        manifest: the table `image_manifest`.
        tables: `embeddings` and `img_stats`, as far as ids come from them; at least their `source_key`.

    Raises:
        MixedTablesError: naming the table and what to do.
    """
    tokens = source_tokens(manifest)
    for name, table in tables.items():
        if not _same(tokens, table):
            raise MixedTablesError(
                f"table {name!r} of {key!r} was made from another listing than the published image_manifest: the files "
                "changed, and a gate or an interrupt stopped the run that followed. Run the split again, until its "
                "gates pass"
            )


def check_edges(store: TableStore, key: str, *tables: str) -> None:
    """Refuses tables of edges that were made from others than the published ones, and from another listing.

    Only digests are read. A table whose file says nothing of what it was made from is refused too.

    Args:
        store: holds the tables.
        key: of the partition.
        tables: `knn_graph`, `similarity`, `outliers`, `components`, as far as they are looked at.

    Raises:
        FileNotFoundError: if one of them was never published.
        MixedTablesError: naming every such table, what it was made from, and what to do.
    """
    looked_at = {above for table in tables for above in _and_above(table)}
    stale = {
        table: parent
        for table, parent in _IDS_FROM.items()
        if table in looked_at and store.lineage(table, key).made_of.get(parent, "") != store.lineage(parent, key).digest
    }
    if stale:
        said = ", ".join(f"{table!r} (from another {parent!r})" for table, parent in stale.items())
        raise MixedTablesError(
            f"tables of {key!r} were made from others than the published ones: {said}. Their ids may be those of other "
            f"images. Materialise {', '.join(stale)} again, or run the whole split"
        )


def _and_above(table: str) -> Iterator[str]:
    while table in _IDS_FROM:
        yield table
        table = _IDS_FROM[table]


def check_published(store: TableStore, key: str, manifest: pl.DataFrame, *edges: str, **tables: pl.DataFrame) -> None:
    """Refuses what was not made from the listing.

    Args:
        store: holds the tables.
        key: of the partition.
        manifest: the table `image_manifest`.
        edges: tables of edges that ids come from, see `check_edges`; the `embeddings` under them are checked too.
        tables: see `check_together`.

    Raises:
        FileNotFoundError: if a table was never published.
        MixedTablesError: if a table was made from another listing.
    """
    if edges and "embeddings" not in tables:
        tables["embeddings"] = store.read("embeddings", key, ["source_key"])
    check_together(key, manifest, **tables)
    check_edges(store, key, *edges)


def manifest_of(store: TableStore, key: str, *edges: str, **tables: pl.DataFrame) -> pl.DataFrame:
    """The published listing of a partition, for the names of ids in the given tables; see `check_published`.

    Raises:
        FileNotFoundError: if no listing was published.
        MixedTablesError: if a table was made from another listing.
    """
    manifest = store.read("image_manifest", key)
    check_published(store, key, manifest, *edges, **tables)
    return manifest


def names_of(store: TableStore, key: str, *edges: str, **tables: pl.DataFrame) -> pl.DataFrame:
    """`index, filename` of the published listing, for people; no rows if it is not the one of the given tables."""
    try:
        return manifest_of(store, key, *edges, **tables).select("index", "filename")
    except (FileNotFoundError, MixedTablesError):
        return pl.DataFrame(schema={"index": pl.Int64, "filename": pl.String})
