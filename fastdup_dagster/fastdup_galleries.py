"""`FastdupVisualizer`, the galleries of a finished run (`fd.vis`), and the gallery of search results."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastdup_dagster import constants as FD
from fastdup_dagster.checks import whole
from fastdup_dagster.stages import v1_pages, v1_words
from fastdup_dagster.stages.v1_component_rows import component_rows, lowest_first
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, check_config, page_path
from fastdup_dagster.stages.v1_gallery_rows import duplicate_rows, neighbour_rows, outlier_rows, stat_column, stat_rows
from fastdup_dagster.stages.v1_gallery_source import Analysed, GallerySource, options_of
from fastdup_dagster.stages.v1_report import write_report
from fastdup_dagster.stages.v1_search_gallery import create_duplicates_gallery

__all__ = ["FastdupVisualizer", "create_duplicates_gallery"]

Function = Callable[[str], Any] | Mapping[str, Any] | None
SliceLike = str | list[Any] | None
PathLike = str | Path | None


class DefaultOrder(int):
    """False, where a caller leaves `ascending` out: then a metric's own order counts."""

    def __repr__(self) -> str:
        return "False"


DEFAULT_ORDER = DefaultOrder(0)


class FastdupVisualizer:
    """Makes galleries from the results of a run: HTML pages that need nothing but themselves and, lazy, `images/`.

    Every gallery returns the path of its page. What they have in common:

    * `save_path`: an .html file, or a folder, which gets a page named after the gallery; None is
      `<work_dir>/galleries`. Relative ones start at the current directory.
    * `label_col`: column of the annotations that holds the labels; None for no labels.
    * `draw_bbox`: where an instance is a box, show the whole image with the box drawn; else the box alone.
    * `num_images`: how many items are shown: pairs, images with their neighbours, images, components.
    * `max_width`: of every picture, in pixels; None makes the longer side 320.
    * `lazy_load`: pictures are files in `images/` beside the page, loaded when they are scrolled to; else inside it.
    * `slice`: a label or a list of labels; where images stand together also 'diff' or 'same': how their labels relate.
    * `ascending`: lowest first; `descending=` is taken too.
    * `threshold`: on the score that the gallery sorts by.
    * `get_extra_col_func`: a function of an image's file as `annotations()` has it (or a dictionary by that), whose
      result is shown with the image; a dictionary as result gives several facts.
    * `save_artifacts`: also write `<page>_artifacts/`: the rows as CSV, and copies of the images.
    * `show`: show the page under the cell of a Jupyter notebook; elsewhere it does nothing.
    * `kwargs`: `descending`, `get_label_func`, `get_bounding_box_func` (x1, y1, x2, y2), `get_reformat_filename_func`.

    Raises:
        TypeError: (all galleries) for an unknown argument, naming the nearest known one, or a value of the wrong type.
        ValueError: (all galleries) for a value that is refused, naming it.
    """

    def __init__(self, controller: Analysed, default_config: Mapping[str, Any] | None = None) -> None:
        """Binds the galleries to a controller.

        Args:
            controller: a `FastdupController`, before or after its run.
            default_config: `{'cv2_imread_flag': cv2.IMREAD_GRAYSCALE}` makes the pictures grey.

        Raises:
            TypeError: for an unknown key, or what is no controller.
            ValueError: for an unknown flag.
        """
        if not hasattr(controller, "work_dir"):
            raise TypeError(f"controller={controller!r}: expected a Fastdup object")
        self._source = GallerySource(controller, check_config(default_config))

    def outliers_gallery(
        self,
        save_path: PathLike = None,
        label_col: str | None = FD.ANNOT_LABEL,
        draw_bbox: bool = True,
        num_images: int = 20,
        max_width: int | None = None,
        lazy_load: bool = False,
        how: str = "one",
        slice: SliceLike = None,
        sort_by: str = FD.OUT_SCORE,
        ascending: bool = True,
        save_artifacts: bool = False,
        show: bool = True,
        threshold: float | None = None,
        get_extra_col_func: Function = None,
        **kwargs: Any,
    ) -> Path:
        """Images that resemble no other, lowest score first: the rows of `outliers()`.

        Args:
            how: one takes all rows of `outliers()`; all leaves out those that have any other image close to them, which
                is in a pair of `similarity()`.
            sort_by: a column of `outliers()`.
            threshold: the highest score to show.
        """
        options = self._options("outliers", save_path, kwargs, label_col=label_col, draw_bbox=draw_bbox,
            num_images=num_images, max_width=max_width, lazy_load=lazy_load, slice=slice, ascending=ascending,
            threshold=threshold, save_artifacts=save_artifacts, show=show, get_extra_col_func=get_extra_col_func,
        )  # fmt: skip
        labels, part = self._source.labels(options, related=True)
        similar = self._source.controller.similarity()
        rows = outlier_rows(self._source.controller.outliers(), similar, labels, part, options, how, sort_by)
        words = v1_words.outlier_words(how, sort_by, part, options)
        return self._source.write(
            "outliers", "Outliers", rows, ("outlier", "nearest"), v1_pages.outlier_items, words, labels, options
        )

    def duplicates_gallery(
        self,
        save_path: PathLike = None,
        label_col: str | None = FD.ANNOT_LABEL,
        draw_bbox: bool = True,
        num_images: int = 20,
        max_width: int | None = None,
        lazy_load: bool = False,
        slice: SliceLike = None,
        ascending: bool = False,
        threshold: float | None = None,
        save_artifacts: bool = False,
        show: bool = True,
        get_extra_col_func: Function = None,
        **kwargs: Any,
    ) -> Path:
        """Pairs of `similarity()`, each unordered one once, most alike first, with a view of their difference.

        Args:
            slice: a pair is shown if either of its images has one of the labels.
            threshold: the lowest similarity to show.
        """
        options = self._options("duplicates", save_path, kwargs, label_col=label_col, draw_bbox=draw_bbox,
            num_images=num_images, max_width=max_width, lazy_load=lazy_load, slice=slice, ascending=ascending,
            threshold=threshold, save_artifacts=save_artifacts, show=show, get_extra_col_func=get_extra_col_func,
        )  # fmt: skip
        labels, part = self._source.labels(options, related=True)
        rows = duplicate_rows(self._source.controller.similarity(), labels, part, options)
        build = functools.partial(v1_pages.pair_items, edges=self._source.edges())
        words = v1_words.duplicate_words(part, options)
        return self._source.write("duplicates", "Duplicates", rows, ("from", "to"), build, words, labels, options)

    def similarity_gallery(
        self,
        save_path: PathLike = None,
        label_col: str | None = FD.ANNOT_LABEL,
        draw_bbox: bool = True,
        num_images: int = 20,
        max_width: int | None = None,
        lazy_load: bool = False,
        slice: SliceLike = None,
        ascending: bool = False,
        threshold: float | None = None,
        show: bool = True,
        save_artifacts: bool = False,
        get_extra_col_func: Function = None,
        **kwargs: Any,
    ) -> Path:
        """Images with their neighbours in `similarity()`, and with labels how many of the neighbours agree.

        Args:
            slice: labels of the images; 'diff' shows those with a neighbour of another label, fewest that agree first:
                suspicious labels; 'same' those whose neighbours all agree.
            threshold: the lowest similarity of a neighbour.
        """
        options = self._options("similarity", save_path, kwargs, label_col=label_col, draw_bbox=draw_bbox,
            num_images=num_images, max_width=max_width, lazy_load=lazy_load, slice=slice, ascending=ascending,
            threshold=threshold, save_artifacts=save_artifacts, show=show, get_extra_col_func=get_extra_col_func,
        )  # fmt: skip
        labels, part = self._source.labels(options, related=True)
        rows = neighbour_rows(self._source.controller.similarity(), labels, part, options)
        words = v1_words.similarity_words(part, options)
        return self._source.write("similarity", "Similar images", rows, ("from", "to"), v1_pages.query_items, words,
            labels, options, v1_pages.MEMBERS)  # fmt: skip

    def stats_gallery(
        self,
        save_path: PathLike = None,
        metric: str = "dark",
        slice: SliceLike = None,
        label_col: str | None = FD.ANNOT_LABEL,
        lazy_load: bool = False,
        show: bool = True,
        num_images: int = 20,
        max_width: int | None = None,
        draw_bbox: bool = True,
        threshold: float | None = None,
        ascending: bool | None = None,
        save_artifacts: bool = False,
        get_extra_col_func: Function = None,
        **kwargs: Any,
    ) -> Path:
        """Images in the order of a statistic of `img_stats()`; the page is named after it.

        Args:
            metric: dark, bright, blur, or a column of numbers.
            threshold: where the lowest come first only values under it, else only values over it.
            ascending: None is what the metric's name says; a column's lowest values come first.
        """
        stats = self._source.controller.img_stats()
        column, upward = stat_column(stats, "metric", metric)
        upward = upward if ascending is None else ascending
        options = self._options(metric, save_path, kwargs, label_col=label_col, draw_bbox=draw_bbox,
            num_images=num_images, max_width=max_width, lazy_load=lazy_load, slice=slice, ascending=upward,
            threshold=threshold, save_artifacts=save_artifacts, show=show, get_extra_col_func=get_extra_col_func,
            method=self.stats_gallery)  # fmt: skip
        labels, part = self._source.labels(options, related=False)
        rows = stat_rows(stats, labels, part, options, column)
        words = v1_words.stat_words(metric, column, part, options)
        heading = v1_words.stat_heading(metric)
        return self._source.write("stats", heading, rows, ("index",), v1_pages.stat_items, words, labels, options)

    def component_gallery(
        self,
        save_path: PathLike = None,
        label_col: str | None = FD.ANNOT_LABEL,
        draw_bbox: bool = True,
        num_images: int = 20,
        max_width: int | None = None,
        lazy_load: bool = False,
        slice: SliceLike = None,
        group_by: str = "visual",
        min_items: int | None = None,
        max_items: int | None = None,
        threshold: float | None = None,
        metric: str | None = None,
        sort_by: str = "comp_size",
        sort_by_reduction: str | None = None,
        ascending: bool | int = DEFAULT_ORDER,
        save_artifacts: bool = False,
        show: bool = True,
        get_extra_col_func: Function = None,
        **kwargs: Any,
    ) -> Path:
        """Components of `connected_components()` with their members, largest first.

        Args:
            slice: components with a member of one of the labels; 'diff' those of several labels, 'same' those of one.
            group_by: visual, or label: the images that are in any component, by their label.
            min_items: the smallest component to show.
            max_items: members to show of each; None shows 12.
            threshold: components all of whose edges are at least so similar.
            metric: dark, bright, blur or a statistic: its mean is shown, and sorts unless `sort_by` is given.
            sort_by: comp_size, area, a statistic or a column of the annotations.
            sort_by_reduction: mean or sum of it over the members; None is the mean.
            ascending: if left out, largest first; with the metrics dark and blur, darkest or blurriest first.
        """
        if isinstance(ascending, DefaultOrder):
            ascending = lowest_first(metric, sort_by)
        options = self._options("components", save_path, kwargs, label_col=label_col, draw_bbox=draw_bbox,
            num_images=num_images, max_width=max_width, lazy_load=lazy_load, slice=slice, ascending=ascending,
            threshold=threshold, save_artifacts=save_artifacts, show=show, get_extra_col_func=get_extra_col_func,
            method=self.component_gallery)  # fmt: skip
        shown = whole("max_items", max_items, 1, optional=True) or v1_pages.MEMBERS
        labels, part = self._source.labels(options, related=True)
        frame, _ = self._source.controller.connected_components()
        rows = component_rows(frame, self._source.attributes(), labels, part, options, group_by, min_items, metric,
            sort_by, sort_by_reduction)  # fmt: skip
        names = v1_words.group_names(group_by, metric, sort_by, sort_by_reduction)
        build = functools.partial(v1_pages.group_items, labels=labels, shown=shown, names=names)
        computed = self._source.controller.settings.run_cc
        words = v1_words.component_words(group_by, names, part, options, computed)
        return self._source.write("components", "Components", rows, ("members",), build, words, labels, options, shown)

    def report(self, save_path: PathLike = None, num_images: int = 60, show: bool = True) -> Path:
        """One page that ties all together: numbers, histograms, pairs at each threshold, the worst of each kind, links.

        Args:
            save_path: an .html file, or a folder, which gets `report.html`; `<page>_pages/` beside it gets the
                galleries that it links to, and is replaced as a whole.
            num_images: how many items each of these shows.
            show: under the cell of a Jupyter notebook.
        """
        page = page_path(save_path, self._source.folder, "report")
        options = options_of(self.report, page, {}, num_images=num_images, show=show)
        self._source.record(page, write_report(self._source.controller, page, options.num_images))
        if options.show:
            v1_pages.show_in_notebook(page, inlined=False)
        return page

    def _options(
        self,
        name: str,
        save_path: PathLike,
        more: Mapping[str, Any],
        method: Callable[..., Path] | None = None,
        **given: Any,
    ) -> GalleryOptions:
        file = re.sub(r"[^\w.-]", "_", name)
        method = method or getattr(self, f"{name}_gallery")
        return options_of(method, page_path(save_path, self._source.folder, file), more, **given)
