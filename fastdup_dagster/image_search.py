"""Search among the vectors of a run: by image, by pixels in memory, by vector."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from fastdup_dagster.images import Decoded, ImageError, Margins, crop, decode, from_pillow, read_bytes
from fastdup_dagster.models import EmbeddingModel, load_model
from fastdup_dagster.names import existing, printable, raw_name, shown_name
from fastdup_dagster.results import Results
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.settings import Settings, is_detector, parse_box
from fastdup_dagster.sources import display_name, is_remote, open_source, path_of
from fastdup_dagster.sources.containers import remote_uri_of, uri_of
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.stages.decode_worker import decode_side
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.stages.knn_graph import valid_vectors
from fastdup_dagster.stages.neighbours import NeighbourIndex, normalised
from fastdup_dagster.stages.published import manifest_of
from fastdup_dagster.storage import TableStore

Vectors = NDArray[np.float32]

# Up to so many vectors each query is compared with all of them: exact, nothing to build, and at 60 ms per 100,000 x 576
# under a second. A graph of as many takes longer to build than thousands of such searches.
_EXACT_UP_TO = 1_000_000


class ImageSearch:
    """Vectors that are loaded once and searched often.

    Args:
        ids: n, int64.
        names: of these ids.
        vectors: n x d, float32, raw.
        settings: metric, index and model.
        model_id: of the model that made the vectors; None if any model may be asked.
        k: results at most.
        store_int: ids in place of names in the results.
        threshold: only results more alike than this.

    Raises:
        ValueError: if there is nothing to search among.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        names: Sequence[str],
        vectors: Vectors,
        settings: Settings,
        model_id: str | None,
        k: int,
        store_int: bool = False,
        threshold: float | None = None,
    ) -> None:
        if not len(ids):
            raise ValueError("there is no valid instance to search among")
        self._ids, self._names = ids, list(names)
        self._width = vectors.shape[1]
        self._settings, self._model_id = settings, model_id
        self._k, self._store_int, self._threshold = k, store_int, threshold
        exact = settings.with_changes(nnf_mode="Flat") if len(vectors) <= _EXACT_UP_TO else settings
        self._index = NeighbourIndex(normalised(vectors, settings.distance), exact)

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def model(self) -> EmbeddingModel:
        """The model that queries go through.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it is not the one that made the vectors, or gives vectors of another width.
        """
        if self._model_id == "precomputed":
            raise ValueError(
                "the run was made from given embeddings: use vector_search, or init_search(model_path=...)"
            )
        model = _model_that_made(self._model_id, self._settings)
        if model.width != self._width:
            raise ValueError(f"the model gives vectors of width {model.width}, the stored ones have {self._width}")
        return model

    def search(self, filename: str, image: Any = None) -> pl.DataFrame:
        """The nearest instances of an image file, or of pixels in memory.

        Args:
            filename: of the image, as it is or as results show it; only its name in the result if `image` is given.
                Where the run cut one `bounding_box` out of every image, it is cut out of this file too; where a
                detector found boxes, the image is taken whole: give the pixels of a crop as `image`.
            image: Pillow image, or array H x W x 3 (RGB), H x W x 4 or H x W, uint8.

        Returns:
            `from, to, distance`, most alike first; `to` is a file name, or an id with `store_int`.

        Raises:
            ValueError: if the image cannot be used.
        """
        try:
            decoded = pixels_of(image) if image is not None else _read(filename, self._settings, self.model)
        except ImageError as error:
            raise ValueError(f"{filename!r}: {error.code}: {error}") from error
        square = self.model.square(decoded.pixels)
        return self.search_vector(filename, self.model.embed(square[None]))

    def search_vector(self, filename: str, vector: Any) -> pl.DataFrame:
        """The nearest instances of one vector: d or 1 x d numbers, not zero. See `search`."""
        if vector is None:
            raise ValueError("vec=None: give the feature vector, 1 x d or d numbers")
        try:
            query = np.asarray(vector, dtype=np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"vec={vector!r}: expected {self._width} numbers") from None
        if query.shape not in ((self._width,), (1, self._width)):
            raise ValueError(f"vec of shape {query.shape}: expected ({self._width},) or (1, {self._width})")
        query = query.reshape(1, -1)
        if not np.isfinite(query).all() or not query.any():
            raise ValueError("vec is zero or not finite: nothing is near it")
        found = self._index.search(normalised(query, self._settings.distance), self._k)
        rows, scores = found.ids[0], found.scores[0]
        kept = rows >= 0
        if self._threshold is not None:
            kept &= scores > np.float32(self._threshold)
        rows = rows[kept]
        if self._store_int:
            targets = pl.Series("to", self._ids[rows], dtype=pl.Int64)
        else:
            targets = pl.Series("to", [self._names[row] for row in rows], dtype=pl.String)
        names = pl.Series("from", [printable(filename)] * len(rows), dtype=pl.String)
        return pl.DataFrame([names, targets, pl.Series("distance", scores[kept], dtype=pl.Float32)])


def open_search(
    results: Results, k: int, d: int | None, model_path: str | None, store_int: int, threshold: float | None
) -> ImageSearch:
    """A search among the vectors of a run.

    Raises:
        ValueError: for a k under 1, a width that is not the stored one, or a threshold that is no number.
    """
    ids, vectors = results.vectors()
    check_search(k, d, store_int, threshold, vectors.shape[1])
    settings: RunSettings = results.run.settings
    made_by: str | None = made_by_model(results)
    if model_path is not None:
        settings = settings.with_changes(model_path=str(model_path), d=vectors.shape[1])
        made_by = None if made_by == "precomputed" else made_by
    search = ImageSearch(ids, results.names_of(ids), vectors, settings, made_by, k, bool(store_int), threshold)
    if model_path is not None:
        _ = search.model  # one that does not fit is refused now, not at the first search
    return search


def made_by_model(results: Results) -> str:
    """The id of the model that made the vectors of a run; `precomputed` if they were given."""
    made_by: str = results.store.scan("embeddings", "run/all").select("model").head(1).collect().item()
    return made_by


def _model_that_made(made_by: str | None, settings: Settings) -> EmbeddingModel:
    """The model of the settings, which must be the one that made the vectors, unless that is None."""
    model = load_model(settings)
    if made_by not in (None, model.id):
        raise ValueError(f"the vectors were made by {made_by}, this model is {model.id}: run again")
    return model


def search_of_partition(
    store: TableStore, key: str, settings: Settings, k: int, threshold: float | None
) -> ImageSearch:
    """A search among the vectors of a materialised partition.

    Raises:
        FileNotFoundError: if it was not materialised.
        ValueError: for a k under 1, a threshold that is no number, or vectors that are not those of the listing.
    """
    table = store.read("embeddings", key, ["index", "embedding", "model", "source_key"])
    ids, vectors = valid_vectors(table)
    check_search(k, None, 0, threshold, vectors.shape[1])
    manifest = manifest_of(store, key, embeddings=table)
    rows = np.searchsorted(manifest["index"].to_numpy(), ids)
    names = [path_of(uri).decode("utf-8", "backslashreplace") for uri in manifest["uri"].gather(rows)]
    return ImageSearch(ids, names, vectors, settings, table["model"][0], k, False, threshold)


def check_search(k: int, d: int | None, store_int: int, threshold: float | None, width: int) -> None:
    """Checks the arguments of a search against the stored width.

    Raises:
        ValueError: naming argument and value.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k={k!r}: expected a whole number from 1 on")
    if d is not None and d != width:
        raise ValueError(f"d={d!r}: the stored feature vectors have width {width}")
    if not isinstance(store_int, int) or store_int not in (0, 1):
        raise ValueError(f"store_int={store_int!r}: expected 0 for file names or 1 for ids")
    if threshold is not None and similarity_limit(threshold) is None:
        raise ValueError(f"threshold={threshold!r}: expected a similarity, a number up to 1")


def similarity_limit(value: object) -> float | None:
    """A value as a limit of similarities; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if np.isfinite(value) and value <= 1 else None


def pixels_of(image: Any) -> Decoded:
    """A Pillow image or an array as decoded pixels.

    Raises:
        ImageError: if it is too small.
        ValueError: for another type, shape or dtype.
    """
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] in ((), (3,), (4,)):
        return from_pillow(Image.fromarray(image))
    kind = f"array of {image.shape}, {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ValueError(f"image of type {kind}: expected a PIL image, or uint8 of H x W x 3, H x W x 4 or H x W")


def _read(filename: str, settings: Settings, model: EmbeddingModel) -> Decoded:
    """An image as the run saw those that it indexed: whole, or the part that one box cuts out of each."""
    remote = is_remote(filename)
    uri = remote_uri_of(filename) if remote else uri_of(as_bytes(Path(existing(filename)).expanduser()))
    data = read_bytes(uri)
    if settings.bounding_box is None or is_detector(settings.bounding_box):
        return decode(data, decode_side(model), settings.max_pixels)
    return crop(decode(data, max_pixels=settings.max_pixels), parse_box(settings.bounding_box), Margins.of(settings))


def vectors_of(
    given: str | list[str], settings: Settings, made_by: str | None = None
) -> tuple[Vectors, list[str], list[str]]:
    """Feature vectors of images outside of any run.

    Args:
        given: folder, list file, or list of files and folders.
        settings: the model.
        made_by: id that the model must have, so that its vectors can be compared with others; None for any.

    Returns:
        n x d float32, the n paths, and why each of the other images cannot be used.

    Raises:
        RemoteError: for a remote location that cannot be listed.
        ValueError: if nothing is found, or the model is another one.
    """
    names = [given] if isinstance(given, str) else given
    places = [existing(name) for name in names]
    model = _model_that_made(made_by, settings)
    manifest = list_images(open_source(places[0] if isinstance(given, str) else places, settings), settings).frame
    with (
        tempfile.TemporaryDirectory() as folder,
        compute_features(manifest, settings, model, TableStore(folder), "vectors", ["embeddings"]) as features,
    ):
        table = features.staged["embeddings"].scan().collect()
        broken = features.summary.invalid
    ids, vectors = valid_vectors(table)
    good = manifest.join(pl.DataFrame({"index": ids}), on="index", how="semi", maintain_order="left")
    if any(map(is_remote, good["uri"])) and isinstance(given, str):
        return vectors, [os.fsdecode(path_of(uri)) for uri in good["uri"]], _reasons(broken)
    prefix = Path(given) if isinstance(given, str) and Path(given).is_dir() else None
    if prefix is None:
        as_given = {display_name(os.fsencode(name)): shown for name, shown in zip(places, names, strict=True)}
        files = [as_given.get(name) or shown_name(os.fsencode(raw_name(name))) for name in good["filename"]]
    else:
        files = [shown_name(os.fsencode(prefix / raw_name(name))) for name in good["filename"]]
    return vectors, files, _reasons(broken)


def _reasons(broken: pl.DataFrame) -> list[str]:
    return [f"{code}: {error}" for code, error in broken.select("error_code", "error").iter_rows()]
