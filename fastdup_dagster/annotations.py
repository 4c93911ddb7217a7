"""A user's annotations: a frame, a csv file, COCO, YOLO or Pascal VOC, checked and brought into one form.

Columns are carried through as they are; `filename` (also spelled `img_filename`), `label`, `split` and the
columns of boxes mean something.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from fastdup_dagster.constants import (
    ANNOT_FILENAME,
    BBOX,
    BBOX_COLUMNS,
    IMG,
    ROTATED_BBOX_COLUMNS,
)
from fastdup_dagster.label_tables import RESERVED, label_table, read_labels
from fastdup_dagster.names import printable
from fastdup_dagster.sources.locations import is_remote, location
from fastdup_dagster.sources.object_store import object_store

if TYPE_CHECKING:
    import pandas as pd

FILENAME_SPELLINGS = (ANNOT_FILENAME, "img_filename")
_SHOWN = 5
_OTHER_TEXT = (pl.Null, pl.Categorical, pl.Enum, pl.Object)


@dataclass(frozen=True)
class Annotations:
    """What a user knows about the instances.

    Attributes:
        filenames: of each row, as given.
        columns: the user's other columns, in order.
        boxes: x, y, width, height or four corners of each row, NaN where a number is missing, None for a row that only
            names an image without a box; None instead of a list for whole images.
        notes: sentences for people: what was left out.
        errors: why a row's box is none, where the reader knows; empty if it never does.
        base: folder, or prefix in an object store, that the file names start at if nobody says where the images are;
            None for the current folder.
        header: of COCO, YOLO and VOC: what it takes to write them back (`label_tables.Header`).
    """

    filenames: list[str]
    columns: pl.DataFrame
    boxes: list[tuple[float, ...] | None] | None
    notes: list[str]
    errors: list[str | None] = field(default_factory=list)
    base: str | Path | None = None
    header: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.filenames)

    def only_instances(self) -> Annotations:
        """Without the rows that only name an image."""
        if self.boxes is None or None not in self.boxes:
            return self
        return self.take([row for row, box in enumerate(self.boxes) if box is not None])

    def take(self, rows: Sequence[int]) -> Annotations:
        """Some of the rows, in the order given."""
        return replace(
            self,
            filenames=[self.filenames[row] for row in rows],
            columns=self.columns[rows],
            boxes=None if self.boxes is None else [self.boxes[row] for row in rows],
            errors=[self.errors[row] for row in rows] if self.errors else [],
        )

    def text(self, name: str) -> pl.Series:
        """A column as text, nulls where it is missing."""
        if name not in self.columns.columns:
            return pl.Series(name, [None] * len(self), dtype=pl.String)
        values = self.columns[name].to_list()
        return pl.Series(name, [None if v is None else _text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str:
    # A column of integers with a gap comes as floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_annotations(given: Any, data_type: str = "infer") -> Annotations:
    """Reads annotations.

    Args:
        given: a pandas or polars frame; the path of a csv file (`.tsv`: separated by tabs), of a COCO `.json`, of a
            YOLO `.yaml`, or of a folder of Pascal VOC `.xml` files; or a COCO dictionary.
        data_type: `image`, `bbox`, or `infer`: boxes if there are columns of boxes.

    Raises:
        FileNotFoundError: if the file or folder is not there.
        TypeError: for anything else.
        ValueError: naming a missing column, missing names, or the first duplicates.
    """
    if (labels := read_labels(given)) is not None:
        table = label_table(labels, data_type)
        return Annotations(
            table.filenames, table.columns, table.boxes, table.notes, table.errors, labels.base, asdict(table.header)
        )
    frame = _frame(given)
    spelling = next((name for name in FILENAME_SPELLINGS if name in frame.columns), None)
    if spelling is None:
        named = getattr(getattr(given, "index", None), "name", None) in FILENAME_SPELLINGS
        hint = "; it is the frame's index: give annotations.reset_index()" if named else ""
        raise ValueError(f"annotations: no column 'filename' among {frame.columns}{hint}")
    if frame.is_empty():
        raise ValueError("annotations: no rows")
    nameless = [row for row, name in enumerate(frame[spelling]) if name is None or str(name) == ""]
    if nameless:
        raise ValueError(f"annotations: no filename in rows {nameless[:_SHOWN]}")
    filenames = [str(name) for name in frame[spelling]]
    reserved = [name for name in RESERVED if name in frame.columns]
    notes = [f"annotation columns replaced by the results' own: {', '.join(reserved)}"] if reserved else []
    boxes = _boxes(frame, data_type)
    _refuse_duplicates(filenames, boxes, "" if boxes else _why_no_boxes(frame, data_type))
    return Annotations(filenames, frame.drop(spelling, *reserved), boxes, notes)


def _frame(given: Any) -> pl.DataFrame:
    if isinstance(given, pl.LazyFrame):
        given = given.collect()
    if isinstance(given, pl.DataFrame):
        return given.with_columns(
            *(_as_text(given[name]) for name, dtype in given.schema.items() if dtype in _OTHER_TEXT)
        )
    if isinstance(given, (str, Path)):
        return _read_file(given if is_remote(given) else Path(given).expanduser())
    if hasattr(given, "columns") and hasattr(given, "itertuples"):
        return _from_pandas(given)
    raise TypeError(
        f"annotations={reprlib.repr(given)} of type {type(given).__name__}: "
        "expected a DataFrame, the path of a csv, COCO or YOLO file or of a VOC folder, or a COCO dictionary"
    )


def _read_file(path: str | Path) -> pl.DataFrame:
    file: Path | bytes
    if isinstance(path, str):
        place = location(path)
        file = object_store(place.server).get(place)
    elif path.is_file():
        file = path
    else:
        raise FileNotFoundError(f"annotations={str(path)!r}: no such file")
    separator = "\t" if str(path).lower().endswith(".tsv") else ","
    names = dict.fromkeys(FILENAME_SPELLINGS, pl.String)
    try:
        frame = pl.read_csv(file, separator=separator, infer_schema_length=None, schema_overrides=names)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"annotations={str(path)!r}: {error}") from error
    first = frame.columns[0]
    # the index that pandas writes unless it is told not to
    is_index = first in ("", "Unnamed: 0") and frame[first].dtype == pl.Int64 and frame[first].is_unique().all()
    return frame.drop(first) if is_index else frame


def _from_pandas(frame: pd.DataFrame) -> pl.DataFrame:
    """A polars frame of a pandas one; a column of mixed types becomes text, so that nothing is lost."""
    columns: dict[str, pl.Series] = {}
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if str(name) in columns:
            raise ValueError(f"annotations: two columns are called {str(name)!r}")
        try:
            values = pl.Series(str(name), pa.array(column, from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError, pl.exceptions.PolarsError):
            values = pl.Series(str(name), [None if _missing(v) else printable(str(v)) for v in column], dtype=pl.String)
        columns[str(name)] = _as_text(values) if values.dtype in _OTHER_TEXT else values
    return pl.DataFrame(columns)


def _as_text(values: pl.Series) -> pl.Series:
    texts = [None if value is None else printable(str(value)) for value in values.to_list()]
    return pl.Series(values.name, texts, dtype=pl.String)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT")


def _boxes(frame: pl.DataFrame, data_type: str) -> list[tuple[float, ...] | None] | None:
    if data_type == IMG:
        return None
    # Rotated boxes say more than the upright ones around them.
    for names in (ROTATED_BBOX_COLUMNS, BBOX_COLUMNS):
        found = [name for name in names if name in frame.columns]
        if len(found) == len(names):
            return _numbers(frame.select(names))
        if found and data_type == BBOX and not all(name in frame.columns for name in BBOX_COLUMNS):
            missing = [name for name in names if name not in found]
            raise ValueError(f"annotations: boxes need the columns {missing} too")
    if data_type == BBOX:
        raise ValueError(f"data_type='bbox': annotations have no boxes ({', '.join(BBOX_COLUMNS)}, or x1 … y4)")
    return None


def _why_no_boxes(frame: pl.DataFrame, data_type: str) -> str:
    """Why columns of boxes are not taken for boxes, so that every row stands for a whole image."""
    for names in (BBOX_COLUMNS, ROTATED_BBOX_COLUMNS):
        missing = [name for name in names if name not in frame.columns]
        if len(missing) < len(names):
            reason = (
                f"boxes need the columns {missing} too" if missing else f"boxes are left out by data_type={data_type!r}"
            )
            return f"; {reason}, and without boxes an image has one row"
    return ""


def _numbers(frame: pl.DataFrame) -> list[tuple[float, ...] | None]:
    for name in frame.columns:
        if not frame[name].dtype.is_numeric():
            given = frame[name].drop_nulls()
            read = given.cast(pl.Float64, strict=False)
            if read.null_count():
                raise ValueError(f"annotations: {name}={given.filter(read.is_null())[0]!r} is not a number")
    numbers = frame.select(pl.all().cast(pl.Float64).fill_null(math.nan))
    return [tuple(row) for row in numbers.iter_rows()]


def _refuse_duplicates(filenames: Sequence[str], boxes: Sequence[tuple[float, ...] | None] | None, hint: str) -> None:
    seen: set[Any] = set()
    repeated: dict[str, None] = {}
    for row, filename in enumerate(filenames):
        name = os.path.normpath(filename)
        box = boxes[row] if boxes else None
        key = (name, *map(repr, box)) if box else name
        if key in seen:
            repeated[f"{filename!r} {list(box)}" if box else repr(filename)] = None
        seen.add(key)
    if repeated:
        what = "duplicate boxes" if boxes else "duplicate file names"
        raise ValueError(f"annotations: {len(repeated)} {what}, the first: {', '.join(list(repeated)[:_SHOWN])}{hint}")
