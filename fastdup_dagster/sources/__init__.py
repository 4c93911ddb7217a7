"""Inputs: each source lists its instances as `Entry` rows, without reading an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.base import Entry, NothingFoundError, Source
from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.parts import container_of, path_of
from fastdup_dagster.sources.path_list import ListSource, read_list_file
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, container_kind, display_name, local_path, to_uri
from fastdup_dagster.sources.splits import find_splits, images_outside
from fastdup_dagster.sources.yolo import is_yolo, open_yolo

__all__ = [
    "IMAGE_EXTENSIONS",
    "Entry",
    "FolderSource",
    "ListSource",
    "NothingFoundError",
    "Source",
    "container_of",
    "display_name",
    "find_splits",
    "images_outside",
    "local_path",
    "open_source",
    "path_of",
    "to_uri",
]


def open_source(input_dir: str | Path | Sequence[str | bytes | Path], settings: Settings | None = None) -> Source:
    """The source for an input: a folder, an archive or video, a list file, a YOLO yaml, or a list of these.

    Args:
        input_dir: the input.
        settings: which frames of videos are taken, and `tar_only`; the defaults if None.

    Raises:
        FileNotFoundError: if the folder or file is not there.
        NotImplementedError: for a remote location.
        ValueError: for an input of another kind.
    """
    if isinstance(input_dir, (str, Path)):
        if "://" in str(input_dir) and not str(input_dir).startswith("file://"):
            raise NotImplementedError(f"input_dir={str(input_dir)!r}: remote locations are not supported yet")
        given = str(input_dir)
        path = Path(os.fsdecode(local_path(given)) if given.startswith("file:///") else given).expanduser()
        if path.is_dir():
            return FolderSource(path, settings)
        if is_yolo(path) and path.is_file():
            return _yolo_source(path, settings)
        if path.is_file() and container_kind(os.fsencode(path)):
            return ListSource([path.name], base=path.absolute().parent, name=str(path), settings=settings)
        if path.is_file():
            return ListSource(read_list_file(path), base=path.resolve().parent, name=str(path), settings=settings)
        raise FileNotFoundError(f"input_dir={str(input_dir)!r}: no such folder, archive, video or list file")
    if isinstance(input_dir, Sequence):
        return ListSource(
            [os.fsdecode(item) for item in input_dir],
            base=Path.cwd(),
            name=f"a list of {len(input_dir)} paths",
            settings=settings,
        )
    raise ValueError(
        f"input_dir={input_dir!r}: expected a folder, an archive or video, a list file, or a list of paths"
    )


def _yolo_source(path: Path, settings: Settings | None) -> ListSource:
    data = open_yolo(path)
    names = [data.name_of(entry) for entry, _ in data.images]
    return ListSource(names, base=data.root, name=str(path), settings=settings)
