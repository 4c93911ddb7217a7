"""What the V1 galleries read: a controller's accessors, seen as labels, attributes and pictures."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import polars as pl

from fastdup_dagster import images
from fastdup_dagster.images.crop import Margins
from fastdup_dagster.outputs import record_page
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.gallery_pages import Words
from fastdup_dagster.stages.made_pages import add_gallery
from fastdup_dagster.stages.pictures import Picture, pictures_of
from fastdup_dagster.stages.summary import SplitTables
from fastdup_dagster.stages.v1_gallery import GalleryRequest, Indices, labels_of, relabelled, write_gallery
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, Slice, gallery_options, label_text, parse_slice
from fastdup_dagster.stages.v1_pages import Edges, Pictures

DEFAULT_LABEL = "label"


class Analysed(Protocol):
    """What the galleries need of a `FastdupController`."""

    @property
    def work_dir(self) -> Path:
        """Where results go."""
        ...

    @property
    def tables(self) -> SplitTables:
        """Of the finished run."""
        ...

    @property
    def settings(self) -> Settings:
        """Of the finished run."""
        ...

    def annotations(self, valid_only: bool = True) -> pd.DataFrame:
        """With `index` and `filename`."""
        ...

    def similarity(self) -> pd.DataFrame:
        """`from, to, distance`."""
        ...

    def outliers(self) -> pd.DataFrame:
        """`outlier, nearest, distance`."""
        ...

    def img_stats(self) -> pd.DataFrame:
        """`index` and the statistics."""
        ...

    def connected_components(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`index, component_id, count, …`, and a row per component."""
        ...


class GallerySource:
    """The results of one controller, for its galleries; read anew for every page, as a controller may run again."""

    def __init__(self, controller: Analysed, grey: bool) -> None:
        self.controller = controller
        self._grey = grey

    @property
    def folder(self) -> Path:
        """Where pages go by default."""
        return Path(self.controller.work_dir) / "galleries"

    def find(self, labels: Mapping[int, str], indices: Indices) -> dict[int, Picture]:
        """The images with these ids, without thumbnails, with these labels."""
        tables = self.controller.tables
        table = self.controller.annotations(valid_only=False)[["index", "filename"]].dropna()
        names = {int(index): str(name) for index, name in table.itertuples(index=False)}
        return relabelled(pictures_of(tables.manifest, tables.img_stats, indices), labels, names)

    def labels(self, options: GalleryOptions, related: bool) -> tuple[dict[int, str], Slice]:
        """The label of every labelled instance, and what `slice` selects of them.

        Args:
            options: `label_col`, `get_label_func`, `slice`.
            related: whether `diff` and `same` have a meaning.

        Raises:
            ValueError: for a column that there is not, unless it is the default one, and for an unknown label.
        """
        labels = self._labels(options)
        return labels, parse_slice(options.slice, labels.values(), options.label_col, related)

    def _labels(self, options: GalleryOptions) -> dict[int, str]:
        manifest, column = self.controller.tables.manifest, options.label_col
        if options.get_label_func is not None:
            return labels_of(self.find({}, manifest["index"].to_list()), options)
        if column is None:
            return {}
        table = self.controller.annotations(valid_only=False)
        if column not in table.columns:
            if column != DEFAULT_LABEL:
                near = difflib.get_close_matches(column, [str(name) for name in table.columns], n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(str, table.columns))}"
                raise ValueError(f"label_col={column!r}: the annotations have no such column; {hint}")
            return dict(manifest.select("index", "label").drop_nulls().iter_rows())
        pairs = table[["index", column]].dropna(subset="index").itertuples(index=False)
        texts = {int(index): label_text(label) for index, label in pairs}
        return {index: label for index, label in texts.items() if label is not None}

    def attributes(self) -> pd.DataFrame:
        """A row per instance that has statistics: `index`, statistics and annotation columns, `area` in pixels."""
        stats, annotations = self.controller.img_stats(), self.controller.annotations()
        more = annotations[["index", *(c for c in annotations.columns if c not in stats.columns)]]
        sizes = self.controller.tables.img_stats.select(
            "index", (pl.col("img_w").cast(pl.Int64) * pl.col("img_h")).alias("area")
        )
        area = dict(sizes.iter_rows())
        merged = stats.merge(more, on="index", how="left")
        return merged.assign(area=merged["index"].map(area).astype(float))

    def edges(self) -> Edges:
        """Kind and verified score of every pair."""
        rows = self.controller.tables.similarity.select("from", "to", "kind", "verified_score").iter_rows()
        return {(min(a, b), max(a, b)): (kind, verified) for a, b, kind, verified in rows}

    def write(
        self,
        kind: str,
        heading: str,
        rows: pd.DataFrame,
        ids: Sequence[str],
        build: Callable[[pd.DataFrame, Pictures], Sequence[object]],
        words: Words,
        labels: Mapping[int, str],
        options: GalleryOptions,
        shown_ids: int | None = None,
    ) -> Path:
        """Writes a gallery (`v1_gallery.GalleryRequest` says what each argument is) and returns its page."""
        title = Path(self.controller.work_dir).absolute().name
        request = GalleryRequest(kind, heading, title, rows, ids, build, words, shown_ids)
        settings = self.controller.settings
        read = functools.partial(images.read_image, margins=Margins.of(settings))
        files = write_gallery(request, lambda ids: self.find(labels, ids), options, self._grey, settings.threads, read)
        self.record(options.page, files)
        shown = min(len(rows), options.num_images)
        add_gallery(Path(self.controller.work_dir), options.page, heading, shown, len(rows))
        return options.page

    def record(self, page: Path, files: Sequence[Path]) -> None:
        """Notes what was written beside a page, so that it is no input later and nothing of it stays behind."""
        record_page(page, Path(self.controller.work_dir), files)


def options_of(method: Callable[..., object], page: Path, more: Mapping[str, Any], **given: Any) -> GalleryOptions:
    """`gallery_options`, knowing the names of a gallery's own arguments."""
    names = [name for name in method.__annotations__ if name not in ("kwargs", "return")]
    return gallery_options(page, names, more, **given)
