"""The tables of a finished run, joined and filtered as the V1 accessors show them. Polars in, polars out."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fastdup_dagster.analysis import VERIFIED_BY, graph_of
from fastdup_dagster.constants import ALLOWED_STATS, ANNOT_SPLIT, VALID
from fastdup_dagster.schemas import ADVANCED_STATISTICS, ANNOTATIONS
from fastdup_dagster.sources import local_path
from fastdup_dagster.stages.components import components
from fastdup_dagster.stages.knn_graph import valid_vectors
from fastdup_dagster.stages.outliers import outliers
from fastdup_dagster.stages.similarity import similarity
from fastdup_dagster.stages.summary import SplitTables, invalid_instances
from fastdup_dagster.work_dir import KEY, SavedRun, WorkDir

Split = str | Collection[str] | None

STATISTICS = tuple(ALLOWED_STATS)
MAYBE_MISSING = frozenset({"img_w", "img_h", "unique", "file_size"})
"""The statistics that are whole numbers: missing without statistics, or where embeddings were given."""
MISSING_ANNOTATION = "MISSING_ANNOTATION"


class Results:
    """A finished run.

    Args:
        work_dir: where its tables are.

    Raises:
        FileNotFoundError: if there is no finished run.
    """

    def __init__(self, work_dir: WorkDir) -> None:
        self.config = work_dir.read_config()
        self.run = SavedRun(self.config)
        self.store = work_dir.store
        self._graphs: dict[bool, pl.DataFrame] = {}

    @cached_property
    def manifest(self) -> pl.DataFrame:
        """The table `image_manifest`."""
        return self.store.read("image_manifest", KEY)

    @cached_property
    def tables(self) -> SplitTables:
        """The tables as the galleries and reports take them."""
        names = ("img_stats", "knn_graph", "similarity", "outliers", "components")
        rest = {name: self.store.read(name, KEY) for name in names}
        errors = self.store.read("embeddings", KEY, ["index", "model", "error_code", "error"])
        return SplitTables(manifest=self.manifest, embeddings=errors, missing=frozenset(), **rest)

    @cached_property
    def names(self) -> pl.Series:
        """The shown file name of each instance of the manifest."""
        rows = self.manifest.select("filename", "uri").iter_rows()
        shown = [self.run.shown_name(filename, local_path(uri)) for filename, uri in rows]
        return pl.Series("filename", shown, dtype=pl.String)

    @cached_property
    def stored_annotations(self) -> pl.DataFrame:
        """The table `annotations`."""
        return self.store.read("annotations", KEY)

    @cached_property
    def user_columns(self) -> list[str]:
        """The user's columns, in order."""
        return [name for name in self.stored_annotations.columns if name not in ANNOTATIONS.names]

    @cached_property
    def broken(self) -> pl.DataFrame:
        """`index, filename, error_code, error` of the instances without features."""
        empty = pl.DataFrame()
        columns = ["index", "error_code", "error"]
        statistics, embeddings = (self.store.read(table, KEY, columns) for table in ("img_stats", "embeddings"))
        return invalid_instances(SplitTables(self.manifest, statistics, empty, empty, empty, empty, embeddings))

    @cached_property
    def invalid(self) -> pl.DataFrame:
        """`index, filename, error_code, error` of the broken instances, and of images without annotation."""
        bare = self.stored_annotations.filter(~pl.col("is_annotated")).select("index")
        bare = bare.join(self.broken, on="index", how="anti").with_columns(
            pl.lit("").alias("filename"),
            pl.lit(MISSING_ANNOTATION).alias("error_code"),
            pl.lit("the annotations do not name it").alias("error"),
        )
        shown = pl.DataFrame({"index": self.manifest["index"], "shown": self.names})
        both = pl.concat([self.broken, bare.select(self.broken.columns)]).join(shown, on="index", how="left")
        return both.select("index", pl.col("shown").alias("filename"), "error_code", "error").sort("index")

    @cached_property
    def annotations(self) -> pl.DataFrame:
        """The user's columns, then `index, filename, error_code, is_valid`, of every instance by id."""
        ids = self.stored_annotations.select("index")
        codes = ids.join(self.invalid.select("index", "error_code"), on="index", how="left", maintain_order="left")
        code = codes["error_code"]
        ours = ids.with_columns(self.names, code.fill_null(VALID).alias("error_code"), code.is_null().alias("is_valid"))
        return pl.concat([self.stored_annotations.select(self.user_columns), ours], how="horizontal").sort("index")

    @cached_property
    def with_gaps(self) -> frozenset[str]:
        """The user's columns in which an instance has no value: they are nullable in every result of the run."""
        stored = self.stored_annotations
        return frozenset(name for name in self.user_columns if stored[name].null_count())

    def members(self, split: Split) -> pl.Series | None:
        """Ids of the instances of a split or of several; None for all.

        Raises:
            TypeError: if split is neither a name nor a collection of names.
        """
        if split is None:
            return None
        if not isinstance(split, str | Collection):
            raise TypeError(f"split={split!r}: expected a name or a list of names")
        wanted = [split] if isinstance(split, str) else list(split)
        if not all(isinstance(name, str) for name in wanted):
            raise TypeError(f"split={split!r}: expected a name or a list of names")
        column = self.manifest[ANNOT_SPLIT]
        return self.manifest.filter(column.is_in(wanted).fill_null(False))["index"]

    def graph(self, include_unannotated: bool = False) -> pl.DataFrame:
        """The table `knn_graph`; the one with unannotated images is made on demand, from the stored vectors."""
        if include_unannotated not in self._graphs:
            if not include_unannotated or self.stored_annotations["is_annotated"].all():
                self._graphs[include_unannotated] = self.store.read("knn_graph", KEY)
            else:
                everything = self.stored_annotations.with_columns(pl.lit(True).alias("is_annotated"))
                embeddings = self.store.blocks("embeddings", KEY, ["index", "embedding"])
                self._graphs[include_unannotated] = graph_of(embeddings, everything, self.run.settings)
        return self._graphs[include_unannotated]

    def similarity(self, split: Split = None, include_unannotated: bool = False) -> pl.DataFrame:
        """The table `similarity`; with a split, the pairs with both ends in it."""
        return _between(self._view("similarity", include_unannotated), self.members(split))

    def outliers(self, split: Split = None, include_unannotated: bool = False) -> pl.DataFrame:
        """The table `outliers`; with a split, those rows with both ends in it."""
        members = self.members(split)
        return _between(self._view("outliers", include_unannotated), members, ("outlier", "nearest"))

    def components(self, split: Split = None, include_unannotated: bool = False) -> pl.DataFrame:
        """The table `components`; with a split, the components of the graph within it."""
        members = self.members(split)
        if members is None:
            return self._view("components", include_unannotated)
        return components(_between(self.graph(include_unannotated), members), self.run.settings)

    def _view(self, table: str, include_unannotated: bool) -> pl.DataFrame:
        if not include_unannotated or self.stored_annotations["is_annotated"].all():
            return self.store.read(table, KEY)
        graph, settings = self.graph(True), self.run.settings
        if table == "similarity":
            statistics = None if self.run.is_precomputed else self.store.read("img_stats", KEY, VERIFIED_BY)
            return similarity(graph, settings, statistics)
        return outliers(graph, settings) if table == "outliers" else components(graph, settings)

    def statistics(self, split: Split = None, include_unannotated: bool = False) -> pl.DataFrame:
        """`index` and the statistics of the valid instances by id; the advanced ones if they were computed."""
        names = [*STATISTICS, *(c.name for c in ADVANCED_STATISTICS if self.run.settings.run_advanced_stats)]
        frame = self.store.read("img_stats", KEY, ["index", *names])
        left_out = self.broken if include_unannotated else self.invalid
        frame = frame.join(left_out, on="index", how="anti", maintain_order="left")
        if (members := self.members(split)) is not None:
            frame = frame.filter(pl.col("index").is_in(members.implode()))
        return frame.with_columns(
            pl.col(*MAYBE_MISSING).cast(pl.Int64), pl.col([n for n in names if n not in MAYBE_MISSING]).cast(pl.Float64)
        )

    def vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids (n, int64) and raw vectors (n x d, float32) of the valid instances, by id."""
        known = self.stored_annotations.filter("is_annotated").select("index")
        embeddings = self.store.read("embeddings", KEY, ["index", "embedding"])
        return valid_vectors(embeddings.join(known, on="index", how="semi", maintain_order="left"))

    def names_of(self, ids: NDArray[np.int64]) -> list[str]:
        """Shown file names of these ids."""
        return self.names.gather(np.searchsorted(self.manifest["index"].to_numpy(), ids)).to_list()

    def instance(self, index: Any) -> dict[str, Any]:
        """The annotation row of an id.

        Raises:
            IndexError: if there is no such id.
        """
        try:
            row = self.annotations.row(by_predicate=pl.col("index") == int(index), named=True)
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            raise IndexError(f"no instance has the id {index!r}") from error
        if row["index"] != index:
            raise IndexError(f"no instance has the id {index!r}")
        return row


def with_annotations(
    frame: pl.DataFrame, annotations: pl.DataFrame, ends: dict[str, str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Adds the annotation columns of each end of a pair.

    Args:
        frame: with a column of ids per end.
        annotations: as `Results.annotations` gives them, by id.
        ends: column of ids -> suffix of the added columns; with an empty suffix, a column whose name is taken
            gets the suffix `_annotation`.

    Returns:
        The wider frame, and of each added column the annotation column that it comes from.
    """
    origins: dict[str, str] = {}
    for column, suffix in ends.items():
        rows = annotations[np.searchsorted(annotations["index"].to_numpy(), frame[column].to_numpy())]
        added = []
        for name in annotations.columns:
            if not suffix and name == column:
                continue
            new = f"{name}{suffix}"
            while new in frame.columns or new in origins:
                new += "_annotation"
            origins[new] = name
            added.append(rows[name].alias(new))
        frame = frame.hstack(added)
    return frame, origins


def _between(frame: pl.DataFrame, members: pl.Series | None, ends: tuple[str, str] = ("from", "to")) -> pl.DataFrame:
    if members is None:
        return frame
    inside = members.implode()
    return frame.filter(pl.col(ends[0]).is_in(inside) & pl.col(ends[1]).is_in(inside))
