"""Inputs: each source lists its instances as `Entry` rows, without reading an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources.base import Entry, NothingFoundError, Source
from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.locations import is_remote, is_remote_file, location, remote_base
from fastdup_dagster.sources.parts import container_of, path_of
from fastdup_dagster.sources.path_list import ListSource, read_list_file
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, container_kind, display_name, local_path, to_uri
from fastdup_dagster.sources.remote_errors import RemoteError
from fastdup_dagster.sources.s3 import S3Source
from fastdup_dagster.sources.splits import find_splits, images_outside
from fastdup_dagster.sources.yolo import YoloSource, is_yolo, open_yolo

__all__ = [
    "IMAGE_EXTENSIONS",
    "Entry",
    "FolderSource",
    "ListSource",
    "NothingFoundError",
    "RemoteError",
    "S3Source",
    "Source",
    "container_of",
    "display_name",
    "find_splits",
    "images_outside",
    "is_remote",
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

    All of them may be local or in an object store (`s3://bucket/prefix`, `minio://server/bucket/prefix`).

    Raises:
        FileNotFoundError: if the folder or file is not there.
        NotImplementedError: for another scheme.
        RemoteError: if a remote list file cannot be read.
        ValueError: for an input of another kind.
    """
    if isinstance(input_dir, (str, Path)):
        given = str(input_dir)
        if is_remote(given):
            return _remote_source(given, settings)
        if "://" in given and not given.startswith("file://"):
            scheme = given.partition(":")[0]
            raise NotImplementedError(f"input_dir: reading from {scheme}:// is not supported; s3:// and minio:// are")
        path = Path(os.fsdecode(local_path(given)) if given.startswith("file:///") else given).expanduser()
        if path.is_dir():
            return FolderSource(path, settings)
        if is_yolo(path) and path.is_file():
            return YoloSource(open_yolo(path))
        if path.is_file() and container_kind(os.fsencode(path)):
            return ListSource([path.name], base=path.absolute().parent, name=str(path), settings=settings)
        if path.is_file():
            return ListSource(read_list_file(path), base=path.resolve().parent, name=str(path), settings=settings)
        raise FileNotFoundError(f"input_dir={str(input_dir)!r}: no such folder, archive, video or list file")
    if isinstance(input_dir, Sequence):
        for item in input_dir:
            if is_remote(item):
                location(str(item))  # what is refused is refused before anything is read
        return ListSource(
            [os.fsdecode(item) for item in input_dir],
            base=Path.cwd(),
            name=f"a list of {len(input_dir)} paths",
            settings=settings,
        )
    raise ValueError(
        f"input_dir={input_dir!r}: expected a folder, an archive or video, a list file, or a list of paths"
    )


def _remote_source(given: str, settings: Settings | None) -> Source:
    """A prefix, or one object, as its extension says: a YOLO yaml, an archive, a video, or a list file."""
    if is_yolo(given):
        return YoloSource(open_yolo(given))
    if not is_remote_file(given):
        return S3Source(given, settings)
    place = location(given)
    paths = [place.key.rpartition("/")[2]] if container_kind(os.fsencode(place.key)) else read_list_file(given)
    return ListSource(paths, base=remote_base(given), name=given, settings=settings)
