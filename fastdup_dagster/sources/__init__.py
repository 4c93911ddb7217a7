"""Inputs: each source lists its instances as `Entry` rows, without reading an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastdup_dagster.sources.base import Entry, NothingFoundError, Source
from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.locations import is_remote, is_remote_list, location, remote_base
from fastdup_dagster.sources.path_list import ListSource, read_list_file
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, display_name, local_path, to_uri
from fastdup_dagster.sources.remote_errors import RemoteError
from fastdup_dagster.sources.s3 import S3Source
from fastdup_dagster.sources.splits import find_splits, images_outside
from fastdup_dagster.sources.yolo import is_yolo, open_yolo

__all__ = [
    "IMAGE_EXTENSIONS",
    "Entry",
    "FolderSource",
    "ListSource",
    "NothingFoundError",
    "RemoteError",
    "S3Source",
    "Source",
    "display_name",
    "find_splits",
    "images_outside",
    "is_remote",
    "local_path",
    "open_source",
    "to_uri",
]


def open_source(input_dir: str | Path | Sequence[str | bytes | Path]) -> Source:
    """The source for an input: a folder, a text or csv file of paths, a YOLO yaml, or a list of files and folders.

    All of them may be local or in an object store (`s3://bucket/prefix`, `minio://server/bucket/prefix`).

    Raises:
        FileNotFoundError: if the folder or list file is not there.
        NotImplementedError: for another scheme, a video or an archive.
        RemoteError: if a remote list file cannot be read.
        ValueError: for an input of another kind.
    """
    if isinstance(input_dir, (str, Path)):
        given = str(input_dir)
        if is_remote(given):
            return _remote_source(given)
        if "://" in given and not given.startswith("file://"):
            scheme = given.partition(":")[0]
            raise NotImplementedError(f"input_dir: reading from {scheme}:// is not supported; s3:// and minio:// are")
        path = Path(os.fsdecode(local_path(given)) if given.startswith("file:///") else given).expanduser()
        if path.is_dir():
            return FolderSource(path)
        if is_yolo(path) and path.is_file():
            return _yolo_source(path)
        if path.is_file():
            return ListSource(read_list_file(path), base=path.resolve().parent, name=str(path))
        raise FileNotFoundError(f"input_dir={str(input_dir)!r}: no such folder or list file")
    if isinstance(input_dir, Sequence):
        for item in input_dir:
            if is_remote(item):
                location(str(item))  # what is refused is refused before anything is read
        return ListSource(
            [os.fsdecode(item) for item in input_dir], base=Path.cwd(), name=f"a list of {len(input_dir)} paths"
        )
    raise ValueError(f"input_dir={input_dir!r}: expected a folder, a list file, or a list of paths")


def _remote_source(given: str) -> Source:
    """A prefix, or a list file as its extension says."""
    if is_remote_list(given):
        return ListSource(read_list_file(given), base=remote_base(given), name=given)
    return S3Source(given)


def _yolo_source(path: Path) -> ListSource:
    data = open_yolo(path)
    return ListSource([data.name_of(entry) for entry, _ in data.images], base=data.root, name=str(path))
