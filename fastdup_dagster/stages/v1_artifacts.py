"""What `save_artifacts` leaves beside a gallery: its rows as CSV, its images as they are, frames of videos as PNG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import cv2
import pandas as pd

from fastdup_dagster.sources.parts import part_of
from fastdup_dagster.stages.pages import IMAGE_FOLDER
from fastdup_dagster.stages.pictures import Picture, bytes_of, read_image

_NAME_BYTES = 150
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


def artifact_folder(page: Path) -> Path:
    """Where the artifacts of a page are: `<name of the page>_artifacts` beside it."""
    return page.with_name(f"{page.stem}_artifacts")


def save_artifacts(page: Path, rows: pd.DataFrame, ids: Sequence[str], pictures: Mapping[int, Picture]) -> list[Path]:
    """Writes `<page>_artifacts/<page>.csv` and `<page>_artifacts/images/<id>_<name>`: equal names are kept apart.

    Args:
        page: the gallery.
        rows: what it shows, in order.
        ids: columns of `rows` that hold an id (or a list of ids). For each, the CSV gets a column `<name>_file` with
            the copy's path relative to the CSV; empty where the image could not be copied.
        pictures: the images by id.

    Returns:
        The files that it wrote.
    """
    folder = artifact_folder(page)
    (folder / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    named = {column: f"{column}_file" for column in ids}
    copies = {i: _copy(picture, folder) for i, picture in pictures.items()}

    def file_of(value: object) -> object:
        if isinstance(value, list):
            return ";".join(filter(None, (copies.get(int(i), "") for i in value)))
        return copies.get(int(value), "")  # type: ignore[call-overload]

    table = rows.assign(**{name: rows[column].map(file_of) for column, name in named.items()})
    listing = folder / f"{page.stem}.csv"
    table.to_csv(listing, index=False)
    return [listing, *(folder / copy for copy in copies.values() if copy)]


def _copy(picture: Picture, folder: Path) -> str:
    """Copies one image's file; the relative path of the copy, empty where there is nothing to copy."""
    base = _UNSAFE.sub("_", PurePosixPath(picture.name).name)
    stem, dot, end = base.rpartition(".")
    stem, end = (stem, f".{end}") if dot and len(end) <= 10 else (base, "")
    short = stem.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    part = part_of(picture.uri)
    is_frame = part is not None and part.kind == "video"
    name = f"{picture.index}_{short}{'.png' if is_frame else end}"
    target = folder / IMAGE_FOLDER / name
    try:
        if is_frame:
            target.write_bytes(bytes(cv2.imencode(".png", read_image(picture.uri)[:, :, ::-1])[1]))
        else:
            target.write_bytes(bytes_of(picture.uri))
    except (OSError, ValueError):
        return ""
    return f"{IMAGE_FOLDER}/{name}"
