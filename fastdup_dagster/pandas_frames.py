"""Polars frames as the pandas frames of the V1 accessors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pandas as pd


def to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """A pandas frame of the same columns: text as `str`, whole numbers as int64, other numbers as float64.

    The dtype of a column does not depend on whether there are rows; gaps make floats of whole numbers.
    """
    import pandas as pd

    wide = frame.with_columns(
        pl.col(pl.Float32).cast(pl.Float64), pl.col(pl.Int8, pl.Int16, pl.Int32, pl.UInt8).cast(pl.Int64)
    )
    columns = {}
    for name, dtype in wide.schema.items():
        if dtype == pl.String:
            columns[name] = pd.Series(wide[name].to_list(), dtype="str")
        elif dtype.is_nested():
            columns[name] = pd.Series(wide[name].to_list(), dtype="object")
        else:
            columns[name] = wide[name].to_pandas()
    return pd.DataFrame(columns, columns=pd.Index(list(columns), dtype="str"))
