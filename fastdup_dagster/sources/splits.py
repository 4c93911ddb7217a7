"""How a folder, or a prefix, is cut into splits: by sub-folders that are called like splits."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.locations import joined
from fastdup_dagster.sources.paths import display_name
from fastdup_dagster.sources.s3 import images_outside as remote_images_outside
from fastdup_dagster.sources.s3 import sub_folders

SPLIT_NAMES = frozenset(
    "train training val valid validation test testing dev eval holdout".split()  # noqa: SIM905
)
WHOLE = "all"


def find_splits(root: str | Path) -> dict[str, str]:
    """The splits of a data set's folder, relative to it: `{"train": "train", …}`, sorted by name; else `{"all": "."}`.

    Sub-folders of the root are looked at, then those of `root/images`, whatever the case of their names.
    A split keeps the name that its folder has, in lower case.

    Args:
        root: a folder, or a prefix in an object store.

    Raises:
        RemoteError: if the prefix cannot be listed.
        ValueError: if two folders differ in the case of their letters alone, naming both.
    """
    for parent in (".", "images"):
        folders = [name for name in _folders(joined(root, parent)) if name.lower() in SPLIT_NAMES]
        found = {name.lower(): name for name in folders}
        for name in folders:
            if found[name.lower()] != name:
                one, other = (joined(root, f"{parent}/{folder}") for folder in (name, found[name.lower()]))
                raise ValueError(
                    f"{one} and {other} are both the split {name.lower()!r}: "
                    "rename one of them, or move the files of one into the other"
                )
        if found:
            return {split: PurePosixPath(parent, name).as_posix() for split, name in sorted(found.items())}
    return {WHOLE: "."}


def _folders(parent: str | Path) -> list[str]:
    """The names of the folders right in a folder, sorted."""
    if isinstance(parent, str):
        return sub_folders(parent)
    return sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def images_outside(root: str | Path, places: Collection[str]) -> int:
    """How many images lie below the root, but in none of the splits' folders.

    Args:
        root: the data set's folder, or prefix in an object store.
        places: the splits' folders, relative to the root; `.` is the root itself.
    """
    if "." in places:
        return 0
    if isinstance(root, str):
        return remote_images_outside(root, places)
    inside = tuple(f"{display_name(os.fsencode(place))}/" for place in places)
    return sum(not entry.filename.startswith(inside) for entry in FolderSource(root).entries())
