"""Files under V1's names: results written for V1's own tools, and V1's feature vectors read.

`atrain_features.dat` is little-endian float32, row by row, without a header; the csv beside it names the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster import constants as FD
from fastdup_dagster.images import ImageError, Margins, corners, read_image
from fastdup_dagster.results import Results
from fastdup_dagster.storage import write_atomically

_NAMED_FILES = {FD.MAPPING_CSV: "filename", FD.BAD_CSV: "filename", FD.CROPS_CSV: "filename"}
_STATISTICS_NAMES = {"img_w": "width", "img_h": "height"}


def export_v1(results: Results, folder: Path, overwrite: bool = False) -> Path:
    """Writes a finished run under V1's file names; in box mode the crops too, losslessly.

    Args:
        results: a finished run.
        folder: created if it is not there.
        overwrite: replace files of these names.

    Returns:
        The folder.

    Raises:
        FileExistsError: if a file is there and not to be replaced; nothing is written then.
    """
    ids, vectors = results.vectors()
    tables = _tables(results, ids)
    names = [*tables, FD.FEATURES_DATA]
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{folder} holds {', '.join(there)} already: give another folder, or overwrite=True")
    folder.mkdir(parents=True, exist_ok=True)
    if results.manifest["box"].count():
        valid = set(ids.tolist())
        write_crops(results, folder / "crops", [i for i in results.manifest["index"] if i in valid])
    for name, table in tables.items():
        write_atomically(folder / name, table.write_csv().encode("utf-8"))
    write_atomically(folder / FD.FEATURES_DATA, vectors.astype("<f4").tobytes())
    if not (folder / FD.CONFIG_JSON).exists():
        write_atomically(folder / FD.CONFIG_JSON, json.dumps(results.config, indent=2).encode("utf-8"))
    return folder


def _tables(results: Results, ids: NDArray[np.int64]) -> dict[str, pl.DataFrame]:
    pairs = results.similarity().select("from", "to", "distance")
    outliers = results.outliers().select(pl.col("outlier").alias("from"), pl.col("nearest").alias("to"), "distance")
    members = results.components()
    info = members.unique("component_id", keep="first", maintain_order=True).sort("component_id")
    distances = {f"{name}_distance": name for name in ("mean", "min", "max")}
    sizes = results.manifest.select("index", "file_size")
    bad = results.invalid.join(sizes, on="index", how="left", maintain_order="left")
    boxed = results.manifest.filter(pl.col("box").is_not_null() & pl.col("index").is_in(pl.Series(ids).implode()))
    names = [_crop_name(i) for i in ids] if len(boxed) else results.names_of(ids)
    tables = {
        FD.MAPPING_CSV: pl.DataFrame({"index": ids, "filename": names}, schema_overrides={"filename": pl.String}),
        FD.BAD_CSV: bad.select("index", "filename", "error_code", pl.col("file_size").fill_null(-1).alias("filesize")),
        FD.STATS_CSV: results.statistics().rename(_STATISTICS_NAMES),
        FD.FILENAME_SIMILARITY: pairs,
        FD.FILENAME_OUTLIERS: outliers,
        FD.FILENAME_CONNECTED_COMPONENTS: members.rename({"index": "__id"}),
        FD.FILENAME_COMPONENT_INFO: info.select("component_id", "count", *distances).rename(distances),
    }
    return tables | ({FD.CROPS_CSV: _crops_table(results, boxed)} if len(boxed) else {})


def _crops_table(results: Results, boxed: pl.DataFrame) -> pl.DataFrame:
    """Where each crop was cut from; of a rotated box, the upright one around it."""
    points = np.array([corners(box) for box in boxed["box"].to_list()])
    low, size = points.min(axis=1), np.ptp(points, axis=1)
    table = pl.DataFrame(
        {
            "index": boxed["index"],
            "filename": results.names_of(boxed["index"].to_numpy()),
            "crop_filename": [_crop_name(i) for i in boxed["index"]],
            "col_x": low[:, 0],
            "row_y": low[:, 1],
            "width": size[:, 0],
            "height": size[:, 1],
        }
    )
    numbers = ["col_x", "row_y", "width", "height"]
    if all((table[name] == table[name].round()).all() for name in numbers):
        table = table.with_columns(pl.col(numbers).cast(pl.Int64))
    return table.with_columns(boxed["label"]) if boxed["label"].count() else table


def _crop_name(index: int) -> str:
    return f"crops/{index}.png"


def write_crops(results: Results, folder: Path, ids: Iterable[int]) -> dict[int, str]:
    """Writes the crops of these instances as `<id>.png`, as they went into the model.

    Returns:
        File names by id; of an instance that is a whole image, or whose image is gone, its own file's.
    """
    margins = Margins.of(results.run.settings)
    wanted = list(ids)
    names = dict(zip(wanted, results.names_of(np.array(wanted, dtype=np.int64)), strict=True))
    rows = results.manifest.filter(pl.col("index").is_in(wanted) & pl.col("box").is_not_null())
    for index, uri, box in rows.select("index", "uri", "box").iter_rows():
        try:
            pixels = read_image(uri, box, margins)
        except ImageError:
            continue
        path = folder / f"{index}.png"
        write_atomically(path, bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1]))
        names[index] = str(path)
    return names


def load(folder: str | Path, d: int | None = None) -> tuple[list[str], NDArray[np.float32]]:
    """The file names and feature vectors of a work_dir of V1, or of `export_v1`.

    They can be analysed here: `fd.run(embeddings=vectors, annotations=pd.DataFrame({"filename": names}))`.

    Args:
        folder: holds `atrain_features.dat` and `atrain_features.dat.csv`.
        d: width of the vectors; by default what the sizes of the two files say.

    Returns:
        n names, and n x d, float32.

    Raises:
        FileNotFoundError: if one of the files is not there.
        ValueError: if the files do not fit together, or the width is another one.
    """
    place = Path(folder)
    for name in (FD.FEATURES_DATA, FD.MAPPING_CSV):
        if not (place / name).is_file():
            raise FileNotFoundError(f"{place} holds no {name}")
    names = _read_csv(place / FD.MAPPING_CSV)["filename"].to_list()
    values = np.fromfile(place / FD.FEATURES_DATA, dtype="<f4").astype(np.float32)
    width = d if d is not None else len(values) // max(len(names), 1)
    if width * len(names) != len(values):
        raise ValueError(f"{place}: {len(values)} numbers of {len(names)} files are not rows of d={width}")
    return names, values.reshape(len(names), width)


def convert_to_relpath(work_dir: Path, input_dir: Path) -> None:
    """Makes the file names in the V1 files of a folder relative to `input_dir`; twice is as good as once.

    Raises:
        FileNotFoundError: if the folder has none of them.
    """
    there: Mapping[str, str] = {name: column for name, column in _NAMED_FILES.items() if (work_dir / name).is_file()}
    if not there:
        raise FileNotFoundError(f"{work_dir} holds none of {', '.join(_NAMED_FILES)}: export_v1() writes them")
    prefixes = tuple(dict.fromkeys(f"{str(p).rstrip('/')}/" for p in (input_dir, os.path.abspath(input_dir))))  # noqa: PTH100
    for name, column in there.items():
        table = _read_csv(work_dir / name)
        shorter = [_without(value, prefixes) for value in table[column].fill_null("")]
        table = table.with_columns(pl.Series(column, shorter, dtype=pl.String))
        write_atomically(work_dir / name, table.write_csv().encode("utf-8"))


def _without(value: str, prefixes: tuple[str, ...]) -> str:
    found = next((prefix for prefix in prefixes if value.startswith(prefix)), "")
    return value.removeprefix(found)


def _read_csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True)
