"""The V1 search: feature vectors of further images, and the nearest instances to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.accessors import DEFAULT_D, Accessors, DefaultWidth, plain_input, say
from fastdup_dagster.checks import flag
from fastdup_dagster.pandas_frames import to_pandas
from fastdup_dagster.run_settings import RunSettings, run_settings
from fastdup_dagster.settings import NAMED_MODELS

if TYPE_CHECKING:
    import pandas as pd

    from fastdup_dagster.image_search import ImageSearch


class SearchMethods(Accessors):
    """Searches the results of a finished run. Each object has its own index."""

    _search: ImageSearch | None = None

    def _forget(self) -> None:
        super()._forget()
        self._search = None

    def feature_vector(
        self, img_path: str | Path, model_path: str | None = None, d: int = DEFAULT_D
    ) -> tuple[NDArray[np.float32], str]:
        """The feature vector of one image, 1 x d float32, and its path. Leaves the results as they are.

        Raises:
            ValueError: if the image cannot be used, the model does not give d numbers, or the run's model has changed.
        """
        from fastdup_dagster.image_search import vectors_of

        path = _path("img_path", img_path)
        if Path(path).is_dir():
            raise ValueError(f"img_path={path!r} is a folder: feature_vectors() takes those")
        vectors, files, broken = vectors_of([path], *self._model_settings(model_path, d))
        if len(files) + len(broken) > 1:
            raise ValueError(f"img_path={path!r} is a folder: feature_vectors() takes those")
        if not files:
            raise ValueError(f"img_path={path!r}: {broken[0]}")
        return vectors, path

    def feature_vectors(
        self, img_path: str | Path | Sequence[Any], model_path: str | None = None, d: int = DEFAULT_D
    ) -> tuple[NDArray[np.float32], list[str]]:
        """Feature vectors, n x d float32, of a folder or a list of images, and their paths; unreadable ones left out.

        Raises:
            ValueError: if there is nothing, the model does not give d numbers, or the run's model has changed.
        """
        from fastdup_dagster.image_search import vectors_of

        paths = plain_input(img_path, "img_path")
        if paths is None:
            raise ValueError("img_path=None: expected a folder, a list file, or a list of paths")
        vectors, files, _ = vectors_of(paths, *self._model_settings(model_path, d))
        return vectors, files

    def _model_settings(self, model_path: str | None, d: int) -> tuple[RunSettings, str | None]:
        """The settings of a model: the run's, with the id that it had then, unless another model or width is asked for.

        Raises:
            ValueError: for a width that neither the run nor the model gives.
        """
        width = None if isinstance(d, DefaultWidth) else d
        run = self._results.run if self._work_dir.is_finished else None
        if run is None or run.is_precomputed:
            return run_settings({"model_path": model_path, "d": width}), None
        from fastdup_dagster.image_search import made_by_model

        settings = run.settings
        if model_path is not None and _file(model_path) != _file(settings.model_path):
            return run_settings({"model_path": model_path, "d": width, "providers": settings.providers}), None
        names = {"model_path", "d", "high_accuracy", "model_preprocessing", "providers"}
        kept = settings.model_dump(include=names, exclude_unset=True)
        stored = self._results.config["model"]["width"]
        if width not in (None, stored) and (settings.high_accuracy or settings.model_path is not None):
            raise ValueError(f"d={width!r}: the model of this run gives vectors of width {stored}")
        made_by = made_by_model(self._results) if width in (None, stored) else None
        return run_settings(kept if width is None else {**kept, "d": width}), made_by

    def init_search(
        self,
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
        """Loads the vectors of a finished run for `search` and `vector_search`; this object keeps them.

        Args:
            k: how many results at most. They are exact: every query is compared with all vectors up to a million.
            work_dir: of another run than this object's.
            d: width of the vectors; the stored one if left out.
            model_path: of the model that made them, if they were given to `run` as embeddings. It is opened at once.
            verbose: print what is loaded.
            license: ignored.
            store_int: 1 for ids in the results, 0 for file names.
            turi_param: V1's, empty.
            threshold: only results more alike than this, at most 1.

        Returns:
            0.

        Raises:
            RuntimeError: if there is no finished run.
            FileNotFoundError: if there is no such model.
            ValueError: for a value that is refused.
        """
        from fastdup_dagster.image_search import open_search

        if turi_param != "":
            raise ValueError(f"turi_param={turi_param!r}: there is no such parameter here, leave it empty")
        if not isinstance(license, str | None):
            raise TypeError(f"license={license!r}: expected text or None")
        for name, value in (("work_dir", work_dir), ("model_path", model_path)):
            if value is not None:
                _path(name, value)
        talks = flag("verbose", verbose)
        other = work_dir is not None and Path(work_dir).expanduser().absolute() != self.work_dir.absolute()
        results = Accessors(work_dir)._results if other else self._results
        width = None if isinstance(d, DefaultWidth) else d
        self._search = open_search(results, k, width, model_path, store_int, threshold)
        if talks:
            say(f"{len(self._search)} vectors loaded")
        return 0

    def search(self, filename: str | Path, image: Any = None, verbose: int = 0, img: Any = None) -> pd.DataFrame:
        """The nearest instances of an image: `from, to, distance`, most alike first.

        Args:
            filename: of the image; with `image`, only what to call it.
            image: a PIL image, or an array H x W x 3 (RGB), H x W or H x W x 4, uint8. Also spelled `img`.
            verbose: print the number of results.

        Raises:
            RuntimeError: before `init_search`.
            ValueError: if the image cannot be used.
        """
        found = self._searcher.search(_path("filename", filename), img if image is None else image)
        if flag("verbose", verbose):
            say(f"{len(found)} results for {filename}")
        return to_pandas(found)

    def vector_search(self, filename: str = "query_vector", vec: Any = None, verbose: bool = False) -> pd.DataFrame:
        """The nearest instances of a feature vector, 1 x d or d numbers: `from, to, distance`, most alike first.

        Raises:
            RuntimeError: before `init_search`.
            ValueError: if it is not one vector of that width.
        """
        found = self._searcher.search_vector(_path("filename", filename), vec)
        if flag("verbose", verbose):
            say(f"{len(found)} results for {filename}")
        return to_pandas(found)

    @property
    def _searcher(self) -> ImageSearch:
        if self._search is None:
            raise RuntimeError("call init_search() first")
        return self._search


def _path(name: str, value: object) -> str:
    """A path as text.

    Raises:
        TypeError: if it is none.
    """
    if not isinstance(value, str | Path) or value == "":
        raise TypeError(f"{name}={value!r}: expected a path")
    return str(value)


def _file(path: object) -> str | None:
    """What tells whether two `model_path` mean the same model."""
    return str(path) if path is None or path in NAMED_MODELS else str(Path(str(path)).expanduser().absolute())
