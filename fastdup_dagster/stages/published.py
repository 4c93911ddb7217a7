"""The published listing of a partition, handed out only together with tables that were made from it.

Ids are positions in the listing, and the listing is published before the decode pass has proved itself. When its
gate then stops the split, the store holds the new listing and the old tables: names looked up by id would be those
of other images. `source_key` tells the two apart, since it holds a hash of each image's path, change token and box.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fastdup_dagster.stages.reuse import source_keys
from fastdup_dagster.storage import TableStore


class MixedTablesError(ValueError):
    """A published table was made from another listing than the published one; the message names both."""


def _tokens(manifest: pl.DataFrame) -> list[str]:
    return source_keys(manifest, "")  # the key of a row without the recipe that it was made by


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
    tokens = _tokens(manifest)
    for name, table in tables.items():
        if not _same(tokens, table):
            raise MixedTablesError(
                f"table {name!r} of {key!r} was made from another listing than the published image_manifest: the files "
                "changed, and a gate or an interrupt stopped the run that followed. Run the split again, until its "
                "gates pass"
            )


def manifest_of(store: TableStore, key: str, **tables: pl.DataFrame) -> pl.DataFrame:
    """The published listing of a partition, for the names of ids in the given tables; see `check_together`.

    Raises:
        FileNotFoundError: if no listing was published.
        MixedTablesError: if a table was made from another listing.
    """
    manifest = store.read("image_manifest", key)
    check_together(key, manifest, **tables)
    return manifest
