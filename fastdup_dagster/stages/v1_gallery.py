"""One V1 gallery from the chosen rows to the files: its pictures, its page, its artifacts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fastdup_dagster.stages.gallery_pages import Words
from fastdup_dagster.stages.pages import write_page
from fastdup_dagster.stages.pictures import Picture, read_image
from fastdup_dagster.stages.v1_artifacts import save_artifacts
from fastdup_dagster.stages.v1_gallery_options import GalleryOptions, label_text
from fastdup_dagster.stages.v1_pages import show_in_notebook, v1_page
from fastdup_dagster.stages.v1_pictures import PictureMaker, ReadImage

Indices = Collection[int]
FindPictures = Callable[[Indices], Mapping[int, Picture]]
"""The images with these ids, without thumbnails, labelled."""


@dataclass(frozen=True)
class GalleryRequest:
    """What a gallery shows.

    Attributes:
        kind: a key of `v1_pages.HEADINGS`.
        heading: of the page.
        title: whose gallery it is.
        rows: everything it could show, in order; the first `num_images` are shown.
        ids: columns of `rows` that hold ids, or lists of them.
        build: makes the items of the shown rows.
        words: what it says.
        shown_ids: at most so many ids of each list get a picture; None for all.
    """

    kind: str
    heading: str
    title: str
    rows: pd.DataFrame
    ids: Sequence[str]
    build: Callable[[pd.DataFrame, Mapping[int, Picture]], Sequence[object]]
    words: Words
    shown_ids: int | None = None


def write_gallery(
    request: GalleryRequest,
    find: FindPictures,
    options: GalleryOptions,
    grey: bool = False,
    threads: int = 1,
    read: ReadImage = read_image,
) -> list[Path]:
    """Writes the page and what belongs to it; shows it in a notebook.

    Args:
        request: what to show.
        find: gives the images.
        options: where and how.
        grey: pictures without colours.
        threads: pictures made at the same time.
        read: gives the pixels.

    Returns:
        The files beside the page.
    """
    rows = request.rows.head(options.num_images)
    found = find(_ids(rows, request))
    maker = PictureMaker(
        options.page,
        options.lazy_load,
        options.max_width,
        options.draw_bbox,
        grey,
        threads,
        options.get_bounding_box_func,
        read,
    )
    # a caller's function is asked for what is shown only
    pictures = {i: _dressed(picture, options) for i, picture in maker.make(found.values()).items()}
    items = request.build(rows, pictures)
    natural = options.max_width is not None
    html = v1_page(request.kind, request.heading, items, len(request.rows), request.words, request.title, natural)
    write_page(options.page, html)
    files = sorted(maker.written)
    if options.save_artifacts:
        files += save_artifacts(options.page, rows, request.ids, found)
    if options.show:
        show_in_notebook(options.page, not options.lazy_load)
    return files


def relabelled(
    pictures: Mapping[int, Picture], labels: Mapping[int, str], names: Mapping[int, str] | None = None
) -> dict[int, Picture]:
    """The pictures with these labels, by id, in place of their own, and the files as these names spell them."""
    files = names or {}
    return {i: replace(p, label=labels.get(i), given=files.get(i)) for i, p in pictures.items()}


def labels_of(pictures: Mapping[int, Picture], options: GalleryOptions) -> dict[int, str]:
    """The labels that the caller's `get_label_func` gives, by id; missing ones are left out."""
    if options.get_label_func is None:
        return {}
    given = {i: label_text(options.get_label_func(p)) for i, p in pictures.items()}
    return {i: label for i, label in given.items() if label is not None}


def _ids(rows: pd.DataFrame, request: GalleryRequest) -> set[int]:
    found: set[int] = set()
    for column in request.ids:
        for value in rows[column]:
            found.update(value[: request.shown_ids] if isinstance(value, list) else [int(value)])
    return found


def _dressed(picture: Picture, options: GalleryOptions) -> Picture:
    changes = dict[str, Any]()
    if options.get_extra_col_func is not None:
        extra = options.get_extra_col_func(picture)
        changes["extra"] = tuple(extra.items()) if isinstance(extra, Mapping) else (("extra", extra),)
    if options.get_reformat_filename_func is not None:
        changes["name"] = str(options.get_reformat_filename_func(picture))
    return replace(picture, **changes)
