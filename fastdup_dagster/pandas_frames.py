"""Polars frames as the pandas frames of the V1 accessors."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pandas as pd


def to_pandas(frame: pl.DataFrame, nullable: Collection[str] = ()) -> pd.DataFrame:
    """A pandas frame of the same columns; the dtype of a column does not depend on which rows there are.

    Text is `str`, whole numbers are `int64`, other numbers `float64`, truth values `bool`. Of the columns that may lack
    a value, whole numbers are `Int64` and truth values `boolean`, whether or not one is lacking in these rows.

    Args:
        frame: what to convert.
        nullable: names of the columns that may lack a value.
    """
    import pandas as pd

    columns = {}
    for name, dtype in frame.schema.items():
        values = frame[name]
        if dtype == pl.String:
            columns[name] = pd.Series(values.to_list(), dtype="str")
        elif dtype.is_nested():
            columns[name] = pd.Series(values.to_list(), dtype="object")
        elif name in nullable and (dtype.is_integer() or dtype == pl.Boolean):
            kind = "UInt64" if dtype == pl.UInt64 else "Int64" if dtype.is_integer() else "boolean"
            columns[name] = pd.Series(values.to_list(), dtype=kind)
        elif dtype.is_integer() and dtype != pl.UInt64:
            columns[name] = values.cast(pl.Int64).to_pandas()
        elif dtype == pl.Float32:
            columns[name] = values.cast(pl.Float64).to_pandas()
        else:
            columns[name] = values.to_pandas()
    return pd.DataFrame(columns, columns=pd.Index(list(columns), dtype="str"))
