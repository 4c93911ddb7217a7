"""The V1 accessors: the results of a finished run as pandas frames."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.checks import flag
from fastdup_dagster.constants import DEFAULT_MODEL_FEATURE_WIDTH
from fastdup_dagster.grouping import grouped_by_component, grouped_by_image
from fastdup_dagster.pandas_frames import to_pandas
from fastdup_dagster.results import MAYBE_MISSING, Results, Split, with_annotations
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.stages.summary import SplitTables
from fastdup_dagster.work_dir import CROPS, InputDir, WorkDir, absolute_input, spelled

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_WORK_DIR = "work_dir"


class DefaultWidth(int):
    """576 where a caller leaves `d` out: then the stored width counts, whatever it is."""


DEFAULT_D = DefaultWidth(DEFAULT_MODEL_FEATURE_WIDTH)


class Accessors:
    """Reads a work_dir with a finished run; before that, everything raises RuntimeError.

    Args:
        work_dir: where the results are, or will be; `work_dir` in the current folder by default.
        input_dir: folder, list file, or list of files and folders; may also be given to `run`.
    """

    def __init__(self, work_dir: str | Path | None = None, input_dir: str | Path | Sequence[Any] | None = None) -> None:
        self._work_dir = WorkDir(DEFAULT_WORK_DIR if work_dir is None else work_dir)
        self._input_dir = plain_input(input_dir)
        self._input_path = None if self._input_dir is None else absolute_input(self._input_dir)
        self._results_now: Results | None = None
        self._version: object = None
        self._grouped: dict[tuple[str, ...] | None, pd.DataFrame] = {}

    @property
    def work_dir(self) -> Path:
        """Where the results are."""
        return self._work_dir.root

    @property
    def input_dir(self) -> InputDir | None:
        """What is analysed, as it was given; absolute once the current folder has changed."""
        if self._input_dir is None or self._input_path is None:
            return self._results.run.input_dir if self._work_dir.is_finished else None
        return spelled(self._input_dir, self._input_path)

    @property
    def _results(self) -> Results:
        version = self._work_dir.version
        if self._results_now is not None and version != self._version:
            self._forget()  # another object, or another process, has run in this work_dir
        if self._results_now is None:
            if not self._work_dir.is_finished:
                raise RuntimeError(f"no results in work_dir={str(self.work_dir)!r}: call run() first")
            self._results_now, self._version = Results(self._work_dir), version
        return self._results_now

    def _forget(self) -> None:
        """Drops what was read of earlier results."""
        self._results_now = None
        self._grouped.clear()

    @property
    def tables(self) -> SplitTables:
        """The finished run's tables as the stages made them."""
        return self._results.tables

    @property
    def settings(self) -> RunSettings:
        """The finished run's arguments."""
        return self._results.run.settings

    def num_instances(self, valid_only: bool = True) -> int:
        """Number of instances: images, or boxes in box mode; without the invalid ones unless asked for."""
        left_out = len(self._results.invalid) if flag("valid_only", valid_only) else 0
        return len(self._results.annotations) - left_out

    def annotations(self, valid_only: bool = True) -> pd.DataFrame:
        """The user's columns, then `index, filename, error_code, is_valid`, by id."""
        frame = self._results.annotations
        shown = frame.filter("is_valid") if flag("valid_only", valid_only) else frame
        return to_pandas(shown, self._results.with_gaps)

    def invalid_instances(self) -> pd.DataFrame:
        """`index, filename, error_code, error` of what is not analysed."""
        return to_pandas(self._results.invalid)

    def similarity(self, data: bool = True, split: Split = None, include_unannotated: bool = False) -> pd.DataFrame:
        """Pairs over the threshold, most alike first: `from, to, distance`.

        Args:
            data: add the annotations of both ends, with `_from` and `_to`.
            split: a split or several: pairs with both ends in it.
            include_unannotated: count images that the annotations do not name as instances too.
        """
        frame = self._results.similarity(split, flag("include_unannotated", include_unannotated))
        return self._shown(frame.select("from", "to", "distance"), {"from": "_from", "to": "_to"}, data)

    def outliers(self, data: bool = True, split: Split = None, include_unannotated: bool = False) -> pd.DataFrame:
        """Instances that are least alike to anything, strongest first: `outlier, nearest, distance`.

        The arguments are those of `similarity`; the suffixes are `_outlier` and `_nearest`.
        """
        frame = self._results.outliers(split, flag("include_unannotated", include_unannotated))
        ends = {"outlier": "_outlier", "nearest": "_nearest"}
        return self._shown(frame.select("outlier", "nearest", "distance"), ends, data)

    def img_stats(self, data: bool = True, split: Split = None, include_unannotated: bool = False) -> pd.DataFrame:
        """`index` and the statistics of each valid instance, by id; the arguments are those of `similarity`."""
        frame = self._results.statistics(split, flag("include_unannotated", include_unannotated))
        return self._shown(frame, {"index": ""}, data, MAYBE_MISSING)

    def connected_components(
        self, data: bool = True, split: Split = None, include_unannotated: bool = False
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Clusters of instances; with a split, those of the graph within it.

        Returns:
            A row per instance in a component of two or more (`index, component_id, count, mean_distance,
            min_distance, max_distance`), and a row per component (`component_id, count, mean, min, max`).
        """
        frame = self._results.components(split, flag("include_unannotated", include_unannotated))
        info = frame.unique("component_id", keep="first", maintain_order=True).sort("component_id")
        names = {f"{name}_distance": name for name in ("mean", "min", "max")}
        shown = info.select("component_id", "count", *names).rename(names)
        return self._shown(frame, {"index": ""}, data), to_pandas(shown)

    def connected_components_grouped(
        self, sort_by: str = "comp_size", ascending: bool = True, metric: str | None = None, load_crops: bool = False
    ) -> pd.DataFrame:
        """Clusters, a row each: `files, files_ids, component_id, distance, len`, and `label` and `metric` if any.

        Args:
            sort_by: `comp_size` or a column of the result.
            ascending: for `comp_size`, as V1 documents it: the largest first, else the smallest; for any other
                column, the lowest first.
            metric: a statistic, whose mean over the cluster is added.
            load_crops: in box mode, `files` are images of the crops, written losslessly into work_dir.

        Raises:
            ValueError: for an unknown metric or column.
        """
        upward = flag("ascending", ascending)
        files = self._crop_files() if flag("load_crops", load_crops) else None
        return to_pandas(grouped_by_component(self._results, sort_by, upward, metric, files))

    def _crop_files(self) -> dict[int, str]:
        from fastdup_dagster.v1_files import write_crops

        members = self._results.components()["index"].to_list()
        written = write_crops(self._results, self.work_dir / "crops", members)
        self._work_dir.outputs.replace(CROPS, [crop.path for crop in written.values()])
        names = self._results.names_of(np.array(members, dtype=np.int64))
        return dict(zip(members, names, strict=True)) | {i: str(crop.path) for i, crop in written.items()}

    def embeddings(self, d: int = DEFAULT_D) -> tuple[list[str], NDArray[np.float32]]:
        """File names (n) and feature vectors as the model gave them (n x d, float32) of the valid instances, by id.

        Raises:
            ValueError: for a width that is not the stored one.
        """
        ids, vectors = self._results.vectors()
        if not isinstance(d, DefaultWidth) and d != vectors.shape[1]:
            raise ValueError(f"d={d!r}: the stored feature vectors have width {vectors.shape[1]}")
        return self._results.names_of(ids), vectors

    @property
    def config(self) -> dict[str, Any]:
        """Every setting of the run, model name and sha256, versions of what it was made with."""
        return copy.deepcopy(self._results.config)

    def summary(
        self,
        verbose: bool = True,
        blur_threshold: float = 150.0,
        brightness_threshold: float = 253.0,
        darkness_threshold: float = 4.0,
    ) -> list[str]:
        """What was found, a line each: counts and percent.

        Args:
            verbose: print it too.
            blur_threshold: blurry is blur under it.
            brightness_threshold: bright is mean over it.
            darkness_threshold: dark is mean under it.
        """
        from fastdup_dagster.v1_summary import summary_lines

        lines = summary_lines(self._results, blur_threshold, brightness_threshold, darkness_threshold)
        if flag("verbose", verbose):
            say("\n".join(["", "Dataset Analysis Summary:", "", *(f"    {line}" for line in lines), ""]))
        return lines

    def img_grouped_annot(self, image_level_columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The annotations, a row per file; in box mode what differs from box to box comes as lists.

        Args:
            image_level_columns: columns that are one value per file.

        Raises:
            ValueError: for a column that is not there.
        """
        columns = _column_names(image_level_columns)
        results = self._results
        if columns not in self._grouped:
            self._grouped[columns] = to_pandas(grouped_by_image(results, columns), results.with_gaps)
        return self._grouped[columns].copy()

    def __getitem__(self, index: Any) -> dict[str, Any]:
        """The annotation row of an id.

        Raises:
            IndexError: if there is no such id.
        """
        return self._results.instance(index)

    def _shown(
        self, frame: pl.DataFrame, ends: dict[str, str], data: bool, gaps: frozenset[str] = frozenset()
    ) -> pd.DataFrame:
        if not flag("data", data):
            return to_pandas(frame, gaps)
        results = self._results
        shown, names = with_annotations(frame, results.annotations, ends)
        return to_pandas(shown, gaps | {new for new, name in names.items() if name in results.with_gaps})


def _column_names(given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"image_level_columns={given!r}: expected a list of names of columns")
    return tuple(str(name) for name in given)


def plain_input(given: Any, argument: str = "input_dir") -> Any:
    """An input as plain text, or a list of it, so that config.json can hold it."""
    if given is None or (isinstance(given, str) and given):
        return given
    if isinstance(given, Path):
        return str(given)
    if not isinstance(given, str | bytes) and (isinstance(given, Sequence) or getattr(given, "shape", ()) != ()):
        items = list(given)
        if all(isinstance(item, str | Path) for item in items):
            return [str(item) for item in items]
    raise ValueError(f"{argument}={given!r}: expected a folder, a list file, or a list of paths")


def say(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(f"{text}\n")
