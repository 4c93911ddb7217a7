"""How a folder, or a prefix, is cut into splits: by sub-folders, archives or videos that are called like splits."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.locations import joined
from fastdup_dagster.sources.paths import container_kind, display_name
from fastdup_dagster.sources.s3 import images_outside as remote_images_outside
from fastdup_dagster.sources.s3 import names_in

SPLIT_NAMES = frozenset(
    "train training val valid validation test testing dev eval holdout".split()  # noqa: SIM905
)
WHOLE = "all"


def find_splits(root: str | Path) -> dict[str, str]:
    """The splits of a data set's folder, relative to it: `{"train": "train", …}`, sorted by name; else `{"all": "."}`.

    Sub-folders of the root are looked at, then those of `root/images`, whatever the case of their names; where there
    is none, the archives and videos there, `train.tar` for one. A split keeps that name, in lower case.

    Args:
        root: a folder, or a prefix in an object store.

    Raises:
        RemoteError: if the prefix cannot be listed.
        ValueError: if two of them are the same split, naming both.
    """
    parents = {parent: _names_in(joined(root, parent)) for parent in (".", "images")}
    for kind in range(2):
        for parent, names in parents.items():
            if found := _named_like_splits(joined(root, parent), names[kind], is_file=kind == 1):
                return {split: PurePosixPath(parent, name).as_posix() for split, name in found.items()}
    return {WHOLE: "."}


def _names_in(parent: str | Path) -> tuple[list[str], list[str]]:
    """The names of the folders right in a folder, and of the archives and videos; sorted."""
    if isinstance(parent, str):
        folders, files = names_in(parent)
    else:
        inside = sorted(parent.iterdir()) if parent.is_dir() else []
        folders = [path.name for path in inside if path.is_dir()]
        files = [path.name for path in inside if container_kind(os.fsencode(path)) and path.is_file()]
    return folders, [name for name in files if container_kind(os.fsencode(name))]


def _named_like_splits(parent: str | Path, names: Iterable[str], is_file: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        split = (name.partition(".")[0] if is_file else name).lower()
        if split in SPLIT_NAMES and found.setdefault(split, name) != name:
            raise ValueError(
                f"{joined(parent, found[split])} and {joined(parent, name)} are both the split {split!r}: "
                "rename one of them, or move the files of one into the other"
            )
    return dict(sorted(found.items()))


def images_outside(root: str | Path, places: Collection[str]) -> int:
    """How many images, or archives and videos of them, lie below the root, but in none of the splits.

    Args:
        root: the data set's folder, or prefix in an object store.
        places: the splits' folders, archives or videos, relative to the root; `.` is the root itself.
    """
    if "." in places:
        return 0
    if isinstance(root, str):
        return remote_images_outside(root, places)
    inside = tuple(f"{display_name(os.fsencode(place))}/" for place in places)
    return sum(not f"{name}/".startswith(inside) for name in FolderSource(root).files())
