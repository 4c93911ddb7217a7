"""The V1 entry: `Fastdup`, `create`, and the functions at module level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdup_dagster.accessors import DEFAULT_D
from fastdup_dagster.fastdup_controller import FastdupController

if TYPE_CHECKING:
    import pandas as pd

    from fastdup_dagster.fastdup_galleries import FastdupVisualizer


class Fastdup(FastdupController):
    """The analysis, its results, search among them and galleries, in one object.

    Examples:
        >>> fd = fastdup.create(work_dir="results", input_dir="images")
        >>> fd.run(annotations=pd.read_csv("annotations.csv"))
        >>> df_sim = fd.similarity()
        >>> df_cc, cc_info = fd.connected_components()
        >>> fd.vis.duplicates_gallery()
    """

    @cached_property
    def vis(self) -> FastdupVisualizer:
        """The galleries."""
        from fastdup_dagster.fastdup_galleries import FastdupVisualizer

        return FastdupVisualizer(self)

    def run(  # type: ignore[override]
        self,
        input_dir: str | Path | Sequence[Any] | None = None,
        annotations: Any = None,
        embeddings: Any = None,
        subset: Sequence[str] | None = None,
        data_type: str = "infer",
        overwrite: bool = True,
        model_path: str | Path | None = None,
        distance: str = "cosine",
        nearest_neighbors_k: int = 2,
        threshold: float = 0.9,
        outlier_percentile: float = 0.05,
        num_threads: int | None = None,
        num_images: int | None = None,
        verbose: bool = False,
        license: str | None = None,
        high_accuracy: bool = False,
        cc_threshold: float = 0.96,
        sync_s3_to_local: bool = False,
        run_stats: bool = True,
        run_advanced_stats: bool = False,
        nnf_mode: str = "HNSW32",
        find_regex: str = "",
        bounding_box: str | None = None,
        augmentation_additive_margin: int = 0,
        augmentation_vert: float = 0,
        augmentation_horiz: float = 0,
        **kwargs: Any,
    ) -> int:
        """Analyses the images: lists, reads and measures them, finds their neighbours, pairs, outliers and clusters.

        Args:
            input_dir: folder, archive, video, list file, YOLO yaml, or list of files and folders; instead of what was
                given at creation.
            annotations: pandas or polars frame, or csv path, with `filename` and optionally `label`, `split`, boxes
                (`col_x, row_y, width, height`, or `x1, y1` … `x4, y4`), and any other column; path of a COCO json, a
                YOLO yaml or a folder of Pascal VOC xml files; a COCO dictionary.
            embeddings: n x d numbers, one row per annotation row: nothing is extracted, images need not exist.
            subset: names of the files to analyse, None for all.
            data_type: infer, image or bbox; bbox makes every box an instance.
            overwrite: replace the results of a finished work_dir; features are reused all the same.
            model_path: None for the bundled model; dinov2s, dinov2b, clip, clip336, resnet50 or efficientnet out of
                the model store; or the path of an .onnx or .ort model. A run never downloads.
            distance: cosine; euclidean; with nnf_mode='Flat' also l1, linf, canberra, braycurtis, jensenshannon.
            nearest_neighbors_k: neighbours per instance.
            threshold: pairs: similarity over it.
            outlier_percentile: share of the edges that count as outliers, 0 to 1.
            num_threads: None for the cores of this machine.
            num_images: first N of the ordered listing.
            verbose: say what is being done.
            license: ignored.
            high_accuracy: the bundled model at d = 960.
            cc_threshold: components: similarity at or over it.
            sync_s3_to_local: copy remote images into `downloads` in the work_dir first, what is there already excepted;
                with `delete_img=True` the copies are removed after the run.
            run_stats: compute the statistics.
            run_advanced_stats: also hue, saturation, per-channel means, edges.
            nnf_mode: faiss factory string; Flat is exact.
            find_regex: regular expression searched in the relative path.
            bounding_box: one box to cut out of every image: `row_y=..,col_x=..,height=..,width=..`; or what finds
                boxes: `face`, `ocr`, `yolov5s`, or the path of a YOLOv5 .onnx. Each box is an instance, with columns
                `label` (class or text) and `confidence`.
            augmentation_additive_margin: pixels around every crop.
            augmentation_vert: margin above and below a crop, a share of its height.
            augmentation_horiz: margin left and right of it, a share of its width.
            **kwargs: d, min_offset, max_offset, min_file_size, nnf_param, resume, recompute, run_cc, print_summary,
                tar_only, delete_tar, delete_img, video_frames, video_rate, scene_threshold, and whatever else
                `RunSettings` has.

        Returns:
            0.

        Raises:
            FileExistsError: with overwrite=False on a finished work_dir.
            FileNotFoundError: if input or model is not there; for a named model with the command that brings it.
            NotImplementedError: for an argument that has no effect here yet.
            TypeError: for an unknown argument, naming the nearest known one.
            ValueError: for a value that is refused, naming argument and value.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        return super().run(**given, **kwargs)


def create(work_dir: str | Path | None = None, input_dir: str | Path | Sequence[Any] | None = None) -> Fastdup:
    """Opens a work_dir; the results of a finished run in it are there at once.

    Args:
        work_dir: where the results are, or will be; `work_dir` in the current folder by default.
        input_dir: what to analyse; may also be given to `run`.
    """
    return Fastdup(work_dir, input_dir)


def run(input_dir: str | Path | Sequence[Any] = "", work_dir: str | Path = ".", **kwargs: Any) -> int:
    """`create(work_dir, input_dir).run(**kwargs)`; returns 0."""
    return Fastdup(work_dir).run(None if isinstance(input_dir, str) and not input_dir else input_dir, **kwargs)


_searched: dict[str, Fastdup] = {}


def init_search(
    k: int,
    work_dir: str | Path | None = None,
    d: int = DEFAULT_D,
    model_path: str | None = None,
    verbose: bool = False,
    license: str | None = None,
    store_int: int = 0,
    turi_param: str = "",
    threshold: float | None = None,
) -> int:
    """Opens the run of a work_dir for the functions `search` and `vector_search`; see `Fastdup.init_search`."""
    opened = Fastdup(work_dir)
    opened.init_search(k, None, d, model_path, verbose, license, store_int, turi_param, threshold)
    _searched["now"] = opened
    return 0


def search(filename: str | Path, image: Any = None, verbose: int = 0, img: Any = None) -> pd.DataFrame:
    """The nearest instances of an image in the run that `init_search` opened; see `Fastdup.search`."""
    return _opened().search(filename, image, verbose, img)


def vector_search(filename: str = "query_vector", vec: Any = None, verbose: bool = False) -> pd.DataFrame:
    """The nearest instances of a vector in the run that `init_search` opened; see `Fastdup.vector_search`."""
    return _opened().vector_search(filename, vec, verbose)


def _opened() -> Fastdup:
    if "now" not in _searched:
        raise RuntimeError("call init_search() first")
    return _searched["now"]
