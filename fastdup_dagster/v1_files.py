"""Files under V1's names: results written for V1's own tools, and V1's feature vectors read.

`atrain_features.dat` is little-endian float32, row by row, without a header; the csv beside it names the rows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster import constants as FD
from fastdup_dagster.images import ImageError, Margins, corners, read_image
from fastdup_dagster.outputs import Outputs, OwnFiles
from fastdup_dagster.results import Results
from fastdup_dagster.settings import is_detector
from fastdup_dagster.storage import write_atomically
from fastdup_dagster.work_dir import EXPORT

_NAMED_FILES = {FD.MAPPING_CSV: "filename", FD.BAD_CSV: "filename", FD.CROPS_CSV: "filename"}
_FILES = (
    FD.FEATURES_DATA,
    FD.MAPPING_CSV,
    FD.BAD_CSV,
    FD.STATS_CSV,
    FD.FILENAME_SIMILARITY,
    FD.FILENAME_OUTLIERS,
    FD.FILENAME_CONNECTED_COMPONENTS,
    FD.FILENAME_COMPONENT_INFO,
    FD.CROPS_CSV,
)
_CROPS = "crops"
_STATISTICS_NAMES = {"img_w": "width", "img_h": "height"}


def export_v1(results: Results, folder: Path, overwrite: bool = False) -> Path:
    """Writes a finished run under V1's file names; in box mode the crops too, losslessly.

    Args:
        results: a finished run.
        folder: absolute; created if it is not there.
        overwrite: replace files of these names that something else wrote; an earlier export is replaced anyway.

    Returns:
        The folder.

    Raises:
        FileExistsError: if such a file is there and not to be replaced; nothing is written then.
    """
    ids, vectors = results.vectors()
    boxed = results.manifest.filter(pl.col("box").is_not_null() & pl.col("index").is_in(pl.Series(ids).implode()))
    ours = OwnFiles()
    names = [name for name in _FILES if name != FD.CROPS_CSV or len(boxed)]
    there = [name for name in names if (folder / name).exists() and os.fsencode(folder / name) not in ours]
    if there and not overwrite:
        raise FileExistsError(f"{folder} holds {', '.join(there)} already: give another folder, or overwrite=True")
    crops = write_crops(results, folder / _CROPS, boxed["index"].to_list(), overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: table.write_csv().encode("utf-8") for name, table in _tables(results, ids, boxed, crops).items()}
    files[FD.FEATURES_DATA] = vectors.astype("<f4").tobytes()
    config = folder / FD.CONFIG_JSON
    if not config.exists() or os.fsencode(config) in ours:
        files[FD.CONFIG_JSON] = json.dumps(results.config, indent=2).encode("utf-8")
    for name, data in files.items():
        write_atomically(folder / name, data)
    Outputs(folder).replace(EXPORT, [*(folder / name for name in files), *(crop.path for crop in crops.values())])
    return folder


def _tables(
    results: Results, ids: NDArray[np.int64], boxed: pl.DataFrame, crops: Mapping[int, Crop]
) -> dict[str, pl.DataFrame]:
    pairs = results.similarity().select("from", "to", "distance")
    outliers = results.outliers().select(pl.col("outlier").alias("from"), pl.col("nearest").alias("to"), "distance")
    members = results.components()
    info = members.unique("component_id", keep="first", maintain_order=True).sort("component_id")
    distances = {f"{name}_distance": name for name in ("mean", "min", "max")}
    sizes = results.manifest.select("index", "file_size")
    bad = results.invalid.join(sizes, on="index", how="left", maintain_order="left")
    files = zip(ids.tolist(), results.names_of(ids), strict=True)
    names = [crops[i].name if i in crops else name for i, name in files]
    tables = {
        FD.MAPPING_CSV: pl.DataFrame({"index": ids, "filename": names}, schema_overrides={"filename": pl.String}),
        FD.BAD_CSV: bad.select("index", "filename", "error_code", pl.col("file_size").fill_null(-1).alias("filesize")),
        FD.STATS_CSV: results.statistics().rename(_STATISTICS_NAMES),
        FD.FILENAME_SIMILARITY: pairs,
        FD.FILENAME_OUTLIERS: outliers,
        FD.FILENAME_CONNECTED_COMPONENTS: members.rename({"index": "__id"}),
        FD.FILENAME_COMPONENT_INFO: info.select("component_id", "count", *distances).rename(distances),
    }
    return tables | ({FD.CROPS_CSV: _crops_table(results, boxed, crops)} if len(boxed) else {})


def _crops_table(results: Results, boxed: pl.DataFrame, crops: Mapping[int, Crop]) -> pl.DataFrame:
    """Where each crop was cut from, and its size as it was cut; the box where nothing was, as with given embeddings."""
    ids = boxed["index"].to_list()
    margins = Margins.of(results.run.settings)
    places = [_place(box, crops.get(i), margins) for i, box in zip(ids, boxed["box"].to_list(), strict=True)]
    table = pl.DataFrame(
        {
            "index": boxed["index"],
            "filename": results.names_of(boxed["index"].to_numpy()),
            "crop_filename": pl.Series([crops[i].name if i in crops else None for i in ids], dtype=pl.String),
            **{name: [float(place[number]) for place in places] for number, name in enumerate(FD.BBOX_COLUMNS)},
        }
    )
    if all((table[name] == table[name].round()).all() for name in FD.BBOX_COLUMNS):
        table = table.with_columns(pl.col(FD.BBOX_COLUMNS).cast(pl.Int64))
    if boxed["label"].count():
        table = table.with_columns(boxed["label"])
    if is_detector(results.run.settings.bounding_box):
        found = results.stored_annotations.select("index", "confidence")
        table = table.join(found, on="index", how="left", maintain_order="left")
    return table


def _place(box: list[float], crop: Crop | None, margins: Margins) -> tuple[float, float, float, float]:
    """x, y, width and height of a crop; of a rotated box, the place of the upright one around it."""
    points = corners(box)
    (left, top), (width, height) = points.min(axis=0), np.ptp(points, axis=0)
    if crop is None:
        return left, top, width, height
    if len(box) == len(FD.BBOX_COLUMNS):
        wide, high = margins.around(width, height)
        left, top = max(0, math.floor(left - wide + 0.5)), max(0, math.floor(top - high + 0.5))
    return left, top, crop.width, crop.height


@dataclass(frozen=True)
class Crop:
    """A crop that was written: its file, and its size in pixels."""

    path: Path
    width: int
    height: int

    @property
    def name(self) -> str:
        """The file, as V1's tables name it."""
        return f"{self.path.parent.name}/{self.path.name}"


def write_crops(results: Results, folder: Path, ids: Iterable[int], overwrite: bool = False) -> dict[int, Crop]:
    """Writes the crops of these instances as `<id>.png`, as they went into the model.

    Returns:
        The crops by id; without the instances that are whole images, or whose image cannot be read.

    Raises:
        FileExistsError: if one of the files is there and no run wrote it, unless it is to be replaced.
    """
    margins = Margins.of(results.run.settings)
    rows = results.manifest.filter(pl.col("index").is_in(list(ids)) & pl.col("box").is_not_null())
    ours = OwnFiles()
    paths = [folder / f"{index}.png" for index in rows["index"]]
    foreign = [path.name for path in paths if path.exists() and os.fsencode(path) not in ours]
    if foreign and not overwrite:
        raise FileExistsError(
            f"{folder} holds {', '.join(foreign[:5])} already: move them, or export with overwrite=True"
        )
    made: dict[int, Crop] = {}
    for path, (index, uri, box) in zip(paths, rows.select("index", "uri", "box").iter_rows(), strict=True):
        try:
            pixels = read_image(uri, box, margins)
        except ImageError:
            continue
        write_atomically(path, bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1]))
        made[index] = Crop(path, pixels.shape[1], pixels.shape[0])
    return made


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
