"""The V1 controller: one run in a work_dir, accessors of its results, search among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster import constants as FD
from fastdup_dagster.accessors import plain_input, say
from fastdup_dagster.annotations import Annotations, read_annotations
from fastdup_dagster.checks import flag
from fastdup_dagster.run_settings import run_settings, settings_of_embeddings
from fastdup_dagster.search_methods import SearchMethods
from fastdup_dagster.sources.yolo import is_yolo
from fastdup_dagster.work_dir import absolute_input

if TYPE_CHECKING:
    import pandas as pd

    from fastdup_dagster.label_files import WrittenImage
    from fastdup_dagster.label_tables import Header

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
            annotations: pandas or polars frame, or csv path, with `filename` and any other columns; path of a COCO
                json, of a YOLO yaml, of a folder of VOC xml files; a COCO dictionary.
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
        read = _annotations(annotations, given, settings.data_type, matrix is not None)
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
        """Captions of the images, tags, or answers to a question about each of them.

        Args:
            model_name: automatic (ViT-GPT2 if it is in the model cache, else tags), tags (the bundled classifier's
                classes, nothing is downloaded), vitgpt2, blip, blip2, vqa, age, another model of the cache, or the
                folder of a model.
            device: cpu, cuda (or gpu), openvino.
            batch_size: images a call of the model.
            subset: file names as results show them, or ids; None for all valid images.
            vqa_prompt: vqa: the question; blip: what the caption starts with.
            kwargs: of the generation: max_length, max_new_tokens, min_length, min_new_tokens, num_beams,
                length_penalty, early_stopping, repetition_penalty, no_repeat_ngram_size, use_cache; for tags: top_k.

        Returns:
            The annotations, then `caption`, `model` (name@sha256, prompt and options) and `error`, by id. An image
            that cannot be captioned has no caption but a reason.

        Raises:
            FileNotFoundError: if the model is not on this machine, with the command that gets it.
            RuntimeError: before `run`, or if the model fails at once.
            TypeError: for an unknown entry of kwargs, naming the nearest known one.
            ValueError: for a value that is refused, or a name in subset that is not an image of the run.
        """
        from fastdup_dagster.v1_captions import CaptionRequest, caption_frame

        results = self._results
        request = CaptionRequest.checked(model_name, device, batch_size, subset, vqa_prompt, kwargs)
        return caption_frame(results, request)

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

    def write_coco(
        self,
        path: str | Path,
        drop_invalid: bool = True,
        drop_duplicates: bool = False,
        drop: Iterable[int] = (),
        overwrite: bool = False,
    ) -> Path:
        """Writes the annotations as COCO, cleaned: with their ids, categories, segmentations and further fields.

        An image all of whose boxes are dropped stays; a box that is no four or eight numbers cannot.

        Args:
            path: of the JSON file.
            drop_invalid: leave out what is not valid: boxes outside their image or too small, images that are broken.
            drop_duplicates: keep the first instance of each connected component only.
            drop: ids of further instances to leave out: boxes, or in a run on whole images, images with their boxes.
            overwrite: replace a file that is there.

        Returns:
            The path, absolute.

        Raises:
            FileExistsError: if the file is there and not to be replaced.
            ValueError: for an id that is not there.
        """
        from fastdup_dagster.label_files import write_coco

        target = Path(path).expanduser().absolute()
        if target.exists() and not flag("overwrite", overwrite):
            raise FileExistsError(f"{target} is there already: give another path, or overwrite=True")
        header, images = self._written(drop_invalid, drop_duplicates, drop)
        write_coco(target, images, header)
        return target

    def write_yolo(
        self,
        folder: str | Path,
        drop_invalid: bool = True,
        drop_duplicates: bool = False,
        drop: Iterable[int] = (),
        task: str | None = None,
        copy_images: bool = False,
    ) -> Path:
        """Writes the annotations as a YOLO data set, cleaned: `data.yaml`, `images/<split>`, `labels/<split>`.

        Args:
            folder: a new or empty one.
            drop_invalid: as in `write_coco`.
            drop_duplicates: as in `write_coco`.
            drop: as in `write_coco`.
            task: detect, segment or obb; by default what was read, or obb if boxes are rotated.
            copy_images: copy the images; else links lead to them.

        Returns:
            The path of `data.yaml`.

        Raises:
            FileExistsError: if something is in the folder.
            ValueError: for an id that is not there, another task, or images that no link or copy can be made of.
        """
        from fastdup_dagster.yolo_files import write_yolo

        header, images = self._written(drop_invalid, drop_duplicates, drop)
        copy = flag("copy_images", copy_images)
        return write_yolo(Path(folder).expanduser().absolute(), images, header, task, copy)

    def _written(
        self, drop_invalid: bool, drop_duplicates: bool, drop: Iterable[int]
    ) -> tuple[Header, list[WrittenImage]]:
        from fastdup_dagster.label_files import kept_rows, written_images
        from fastdup_dagster.label_tables import Header

        results = self._results
        header = Header(**self._work_dir.read_header())
        invalid, duplicates = flag("drop_invalid", drop_invalid), flag("drop_duplicates", drop_duplicates)
        rows = kept_rows(results, invalid, duplicates, drop)
        return header, written_images(results, header, rows)


def _annotations(given: Any, input_dir: Any, data_type: str, are_embedded: bool) -> Annotations | None:
    """What is annotated: by the annotations, or by the input itself, if that is a YOLO data set."""
    if given is None:
        if not isinstance(input_dir, str) or not is_yolo(input_dir):
            return None
        given = input_dir
    read = read_annotations(given, data_type)
    return read.only_instances() if are_embedded else read


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
