"""The V1 controller: one run in a work_dir, accessors of its results, search among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster import constants as FD
from fastdup_dagster.accessors import plain_input, say
from fastdup_dagster.annotations import read_annotations
from fastdup_dagster.checks import flag
from fastdup_dagster.run_settings import run_settings, settings_of_embeddings
from fastdup_dagster.search_methods import SearchMethods
from fastdup_dagster.work_dir import absolute_input

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FD", "FastdupController"]


class FastdupController(SearchMethods):
    """Runs the analysis and gives its results. A work_dir with a finished run is opened as it is."""

    def run(
        self,
        input_dir: str | Path | Sequence[Any] | None = None,
        annotations: Any = None,
        subset: Sequence[str] | None = None,
        embeddings: Any = None,
        data_type: str = "infer",
        overwrite: bool = False,
        print_summary: bool = True,
        **fastdup_kwargs: Any,
    ) -> int:
        """Analyses the images.

        Args:
            input_dir: instead of what was given at creation.
            annotations: pandas or polars frame, or csv path, with `filename` and any other columns.
            subset: names of the files to analyse, None for all.
            embeddings: n x d numbers, one row per annotation row: nothing is extracted.
            data_type: infer, image or bbox.
            overwrite: replace the results of a finished work_dir; their features are reused all the same.
            print_summary: print `summary()` at the end.
            **fastdup_kwargs: any other argument of `RunSettings`.

        Returns:
            0.

        Raises:
            FileExistsError: on a finished work_dir without overwrite.
            TypeError: for an unknown argument, naming the nearest known one.
            NotImplementedError: for an argument that has no effect here yet.
            ValueError: for a value that is refused.
        """
        from fastdup_dagster.analysis import Request, analyse

        own = {"data_type": data_type, "overwrite": overwrite, "print_summary": print_summary}
        matrix = _matrix(embeddings)
        values = {**fastdup_kwargs, **own}
        settings = run_settings(values) if matrix is None else settings_of_embeddings(values, matrix.shape)
        if self._work_dir.is_finished and not settings.overwrite:
            raise FileExistsError(
                f"overwrite=False, and work_dir={str(self.work_dir)!r} holds a finished run: "
                "give overwrite=True to replace its tables, or another work_dir"
            )
        given = self.input_dir if input_dir is None else plain_input(input_dir)
        path = None if given is None else absolute_input(given)
        read = None if annotations is None else read_annotations(annotations, settings.data_type)
        if settings.data_type == FD.BBOX and read is None and settings.bounding_box is None:
            raise ValueError("data_type='bbox' needs annotations with boxes, or a bounding_box")
        if read is not None and read.boxes is not None and settings.bounding_box is not None:
            raise ValueError(f"bounding_box={settings.bounding_box!r} together with annotated boxes: leave one out")
        request = Request(given, settings, read, _names(subset), matrix)
        analyse(request, self._work_dir, say if settings.verbose else _silent)
        self._input_dir, self._input_path = given, path
        self._forget()
        if settings.print_summary:
            self.summary()
        return 0

    def caption(
        self,
        model_name: str = "automatic",
        device: str = "cpu",
        batch_size: int = 8,
        subset: Sequence[Any] | None = None,
        vqa_prompt: str | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Captions of the images; not there yet.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"caption(model_name={model_name!r}): captioning models are not supported yet")

    @staticmethod
    def set_fastdup_kwargs(input_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments checked, and every one that is not given at its default.

        Raises:
            TypeError: for an unknown one, naming the nearest known one.
            ValueError: for a value that is refused.
        """
        if not isinstance(input_kwargs, Mapping):
            raise TypeError(f"input_kwargs={input_kwargs!r}: expected a dictionary")
        return run_settings(input_kwargs).model_dump()

    @staticmethod
    def fastdup_convert_to_relpath(work_dir: str | Path, input_dir: str | Path) -> None:
        """Makes the file names in the V1 files of a work_dir relative to `input_dir`; twice is as good as once.

        Raises:
            FileNotFoundError: if there are no V1 files: `export_v1` writes them.
        """
        from fastdup_dagster.v1_files import convert_to_relpath

        for name, value in (("work_dir", work_dir), ("input_dir", input_dir)):
            if not isinstance(value, str | Path):
                raise TypeError(f"{name}={value!r}: expected the path of a folder")
        convert_to_relpath(Path(work_dir).expanduser(), Path(input_dir).expanduser())

    @staticmethod
    def s3_folder_exists_and_not_empty(s3_path: str) -> bool:
        """Whether anything is in a folder of a bucket; asks for one object only.

        Raises:
            ValueError: if it is not `s3://bucket/folder`.
        """
        from fastdup_dagster.remote import s3_folder_exists_and_not_empty

        return s3_folder_exists_and_not_empty(s3_path)

    def export_v1(self, folder: str | Path | None = None, overwrite: bool = False) -> Path:
        """Writes the results under V1's file names, for V1's own tools.

        Args:
            folder: where; work_dir by default.
            overwrite: replace files of these names that something else wrote; those of an earlier export are anyway.

        Returns:
            The folder.

        Raises:
            FileExistsError: if such a one is there and not to be replaced.
        """
        from fastdup_dagster.v1_files import export_v1

        if folder is not None and not isinstance(folder, str | Path):
            raise TypeError(f"folder={folder!r}: expected the path of a folder")
        place = self.work_dir if folder is None else Path(folder).expanduser().absolute()
        return export_v1(self._results, place, flag("overwrite", overwrite))


def _names(subset: Any) -> list[str] | None:
    if subset is None:
        return None
    if isinstance(subset, str | bytes) or not isinstance(subset, Iterable):
        raise ValueError(f"subset={subset!r}: expected a list of file names")
    given = list(subset)
    if not all(isinstance(name, str | Path) for name in given):
        raise ValueError(f"subset={subset!r}: expected a list of file names")
    names = [str(name) for name in given]
    if not names:
        raise ValueError("subset=[]: expected at least one file name, or None for all files")
    return names


def _matrix(embeddings: Any) -> NDArray[np.float32] | None:
    if embeddings is None:
        return None
    matrix = np.asarray(embeddings)
    if matrix.ndim == 0:
        raise ValueError(f"embeddings={embeddings!r}: expected n x d numbers")
    if matrix.ndim != 2 or not matrix.shape[1] or not np.issubdtype(matrix.dtype, np.number):
        raise ValueError(f"embeddings of shape {matrix.shape} and type {matrix.dtype}: expected n x d numbers")
    return np.ascontiguousarray(matrix, dtype=np.float32)


def _silent(text: str) -> None:
    """Says nothing."""
