"""Loads and publishes tables: one Parquet object per asset and partition, whole or not at all."""

import collections.abc
import typing
from typing import Any, TypeAlias

import dagster as dg
import polars as pl
import pyarrow as pa

from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import TABLES
from fastdup_dagster.storage import StagedTable, TableStore

MADE_OF = "made of"
"""Output metadata: digest of each table that the output was made from, by name; it goes into the file."""

Table: TypeAlias = pl.DataFrame | pl.LazyFrame | pa.Table


class ParquetIOManager(dg.ConfigurableIOManager):
    """Parquet IO manager over `TableStore`.

    An output is a frame, or a `StagedTable` that was written beforehand and is now renamed into place. An
    input takes the type that its parameter is annotated with: `pl.DataFrame`, `pl.LazyFrame`, `pa.Table`, or a
    `dict` of one of them by partition key. With metadata `allow_missing_partitions` on the input, partitions
    that were never published are left out of that dict.
    """

    store: dg.ResourceDependency[StoreResource]

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame | StagedTable) -> None:
        """Publishes a table.

        Raises:
            TypeError: for anything that is neither a frame nor a staged table.
        """
        table, key = context.asset_key.path[-1], context.partition_key
        if isinstance(obj, StagedTable):
            path = obj.publish()
        elif isinstance(obj, pl.DataFrame):
            store = self.store.of(key)
            store.write(TABLES[table], key, obj, _made_of(context))
            path = store.path(table, key)
        else:
            raise TypeError(f"asset {table!r} [{key}]: expected a frame or a staged table, not {type(obj).__name__}")
        context.add_output_metadata({"dagster/uri": str(path)})

    def load_input(self, context: dg.InputContext) -> Table | dict[str, Table]:
        """Reads the partitions that the input maps to.

        Raises:
            FileNotFoundError: naming table, partition and path, if one was never published.
            TypeError: if several partitions come in, and the parameter is not annotated as a dict.
        """
        table = context.asset_key.path[-1]
        wanted = context.dagster_type.typing_type
        keys = sorted(context.asset_partition_keys)
        if typing.get_origin(wanted) in (dict, collections.abc.Mapping):
            kind = typing.get_args(wanted)[1]
            optional = bool((context.definition_metadata or {}).get("allow_missing_partitions"))
            stores = {key: self.store.of(key) for key in keys}
            found = (key for key in keys if not optional or stores[key].exists(table, key))
            return {key: _read(stores[key], table, key, kind) for key in found}
        if len(keys) != 1:
            raise TypeError(f"input {context.name!r} gets {len(keys)} partitions of {table!r}: annotate it as a dict")
        return _read(self.store.of(keys[0]), table, keys[0], wanted)


def _made_of(context: dg.OutputContext) -> dict[str, str]:
    """What the asset says that it was made of: its output's metadata `MADE_OF`."""
    said = context.output_metadata.get(MADE_OF)
    value = said.value if isinstance(said, dg.JsonMetadataValue) else None
    return dict(value) if isinstance(value, collections.abc.Mapping) else {}


def _read(store: TableStore, table: str, key: str, kind: Any) -> Table:
    frame = store.scan(table, key)
    if kind is pl.LazyFrame:
        return frame
    return frame.collect().to_arrow() if kind is pa.Table else frame.collect()
