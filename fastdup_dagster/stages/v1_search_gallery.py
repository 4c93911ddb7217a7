"""The gallery of search results: pairs of file names, without the tables of a run."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pandas as pd
import polars as pl

from fastdup_dagster.names import spellings
from fastdup_dagster.outputs import record_page
from fastdup_dagster.sources.containers import remote_uri_of, uri_of
from fastdup_dagster.sources.locations import is_remote, joined
from fastdup_dagster.sources.parts import path_of
from fastdup_dagster.sources.paths import as_bytes
from fastdup_dagster.stages.pictures import Picture
from fastdup_dagster.stages.v1_gallery import GalleryRequest, labels_of, relabelled, write_gallery
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, gallery_options, page_path, parse_slice
from fastdup_dagster.stages.v1_gallery_rows import duplicate_rows
from fastdup_dagster.stages.v1_pages import pair_items
from fastdup_dagster.stages.v1_words import search_words
from fastdup_dagster.work_dir import KEY, WorkDir

Function = Callable[[str], Any] | Mapping[str, Any] | None
Roots = str | Path | Sequence[str | Path] | None
_COLUMNS = ("from", "to", "distance")


def create_duplicates_gallery(
    df: pd.DataFrame | pl.DataFrame | str | Path,
    save_path: str | Path | None = None,
    num_images: int = 20,
    descending: bool = True,
    lazy_load: bool = False,
    get_label_func: Function = None,
    slice: str | list[Any] | None = None,
    max_width: int | None = None,
    get_bounding_box_func: Function = None,
    get_reformat_filename_func: Function = None,
    get_extra_col_func: Function = None,
    input_dir: Roots = None,
    work_dir: str | Path | None = None,
    threshold: float | None = None,
    save_artifacts: bool = False,
    show: bool = True,
    **kwargs: Any,
) -> Path:
    """A page of pairs of images, such as `search()` gives them: each unordered pair once, most alike first.

    Args:
        df: `from, to` (file names) and `distance`, a frame or the path of a CSV.
        save_path: an .html file, or a folder, which gets `duplicates.html`; None is the current folder.
        num_images: pairs to show.
        descending: most alike first.
        lazy_load: pictures are files in `images/` beside the page; else inside it.
        get_label_func: gives an image's label; a function of its full path, or a dictionary. So are the next three.
        slice: a label or a list of labels that one image of a pair has; 'diff' or 'same': how the two relate.
        max_width: of every picture, in pixels.
        get_bounding_box_func: gives boxes to draw: x1, y1, x2, y2, or a list of such.
        get_reformat_filename_func: gives the name to show.
        get_extra_col_func: gives something to show with the image.
        input_dir: what relative names start at: one folder or several; else the current folder.
        work_dir: of the run that ids instead of names (`init_search(store_int=1)`) belong to.
        threshold: the lowest similarity to show.
        save_artifacts: also write the rows as CSV and copies of the images.
        show: show the page under the cell of a Jupyter notebook.
        **kwargs: none; an unknown one raises.

    Returns:
        The path of the page.

    Raises:
        TypeError: for an unknown argument or a value of the wrong type.
        ValueError: for a value that is refused, or columns that are not there.
    """
    page = page_path(save_path, Path.cwd(), "duplicates")
    known = [name for name in create_duplicates_gallery.__annotations__ if name not in ("kwargs", "return")]
    options = gallery_options(page, known, kwargs, descending=descending, num_images=num_images, max_width=max_width,
        lazy_load=lazy_load, slice=slice, threshold=threshold, save_artifacts=save_artifacts, show=show,
        get_label_func=get_label_func, get_bounding_box_func=get_bounding_box_func, label_col=None,
        get_reformat_filename_func=get_reformat_filename_func, get_extra_col_func=get_extra_col_func,
    )  # fmt: skip
    files = _write(_named(_pairs(df), work_dir), _roots(input_dir), options)
    record_page(page, next((folder for folder in page.parents if WorkDir(folder).is_finished), page.parent), files)
    return page


def _write(frame: pd.DataFrame, roots: list[str | Path], options: GalleryOptions) -> list[Path]:
    rows, pictures = _numbered(frame, roots)
    labels = labels_of(pictures, options)
    pictures = relabelled(pictures, labels)
    part = parse_slice(options.slice, labels.values(), "get_label_func", related=True)
    chosen = duplicate_rows(rows, labels, part, options, order_ends=False)
    build = functools.partial(pair_items, edges=None, tags=("from", "to"))
    words = search_words(part, options)
    title = PurePosixPath(next(iter(roots), Path.cwd())).name
    request = GalleryRequest("duplicates", "Search results", title, chosen, ("from", "to"), build, words)
    return write_gallery(request, lambda ids: {i: pictures[i] for i in ids}, options, threads=os.cpu_count() or 1)


def _pairs(df: object) -> pd.DataFrame:
    if isinstance(df, str | Path):
        frame = pd.read_csv(df)
    elif isinstance(df, pl.DataFrame):
        frame = df.to_pandas()
    elif isinstance(df, pd.DataFrame):
        frame = df
    else:
        raise TypeError(f"df={df!r}: expected a frame with the columns from, to, distance")
    missing = [column for column in _COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(f"df has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if not pd.api.types.is_numeric_dtype(frame["distance"]):
        raise ValueError(f"df['distance'] holds {frame['distance'].iloc[0]!r}: expected numbers")
    return frame[list(_COLUMNS)]


def _named(frame: pd.DataFrame, work_dir: str | Path | None) -> pd.DataFrame:
    """The pairs with a name or URI in place of every id."""
    ends = [name for column in _COLUMNS[:2] for name in frame[column]]
    if all(isinstance(name, str | Path) for name in ends):
        return frame
    if work_dir is None:
        raise ValueError(f"df holds {ends[0]!r}: ids need the work_dir of their run; expected names of files")
    manifest = WorkDir(work_dir).store.read("image_manifest", KEY, ["index", "uri"])
    uris: dict[Any, str] = dict(manifest.iter_rows())

    def name(value: Any) -> str:
        if isinstance(value, str | Path):
            return str(value)
        if value not in uris:
            raise ValueError(f"df holds {value!r}: no such id in work_dir={str(work_dir)!r}")
        uri = uris[value]
        return os.fsdecode(path_of(uri)) if is_remote(uri) else uri

    return frame.assign(**{column: frame[column].map(name) for column in _COLUMNS[:2]})


def _numbered(frame: pd.DataFrame, roots: list[str | Path]) -> tuple[pd.DataFrame, dict[int, Picture]]:
    """The pairs with a number for each file, and the picture of each number."""
    uris: dict[str, int] = {}
    pictures: dict[int, Picture] = {}
    numbers: dict[str, int] = {}
    for name in pd.unique(pd.concat([frame["from"], frame["to"]]).astype(str)):
        uri = _uri(name, roots)
        number = numbers[name] = uris.setdefault(uri, len(uris))
        shown = unquote(name) if name.startswith("file://") else name
        pictures.setdefault(number, Picture(number, shown, uri))
    ends = {column: frame[column].astype(str).map(numbers).astype("int64") for column in _COLUMNS[:2]}
    return frame.assign(**ends), pictures


def _uri(name: str, roots: Sequence[str | Path]) -> str:
    if is_remote(name):
        return remote_uri_of(name)
    if "://" in name:
        return name
    local = [root for root in roots if isinstance(root, Path)]
    if not local and (prefix := next(iter(roots), None)) is not None:
        return remote_uri_of(str(joined(prefix, name)))
    places = (*local, Path.cwd())
    candidates = [os.fsencode(root / spelling) for spelling in spellings(name) for root in places]
    found = next((path for path in candidates if os.path.exists(path)), candidates[0])  # noqa: PTH110 bytes
    return uri_of(as_bytes(os.fsdecode(found)))


def _roots(input_dir: Any) -> list[str | Path]:
    several = [] if input_dir is None else [input_dir] if isinstance(input_dir, str | Path) else input_dir
    if not isinstance(several, Sequence) or not all(isinstance(root, str | Path) for root in several):
        raise TypeError(f"input_dir={input_dir!r}: expected a folder, or a list of them")
    return [str(root) if is_remote(root) else Path(root).expanduser().absolute() for root in several]
