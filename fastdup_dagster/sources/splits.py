"""How a folder is cut into splits: by sub-folders, or archives and videos, that are called like splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.paths import container_kind, display_name

SPLIT_NAMES = frozenset(
    "train training val valid validation test testing dev eval holdout".split()  # noqa: SIM905
)
WHOLE = "all"


def find_splits(root: Path) -> dict[str, Path]:
    """The splits of a data set's folder: `{"train": root/train, …}`, sorted by name; else `{"all": root}`.

    Sub-folders of the root are looked at, then those of `root/images`, whatever the case of their names; where there
    is none, the archives and videos there, `train.tar` for one. A split keeps that name, in lower case.

    Raises:
        ValueError: if two of them are the same split, naming both.
    """
    for kind in (Path.is_dir, _is_container):
        for parent in (root, root / "images"):
            if found := _named_like_splits(parent, kind):
                return found
    return {WHOLE: root}


def _named_like_splits(parent: Path, kind: Callable[[Path], bool]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        split = (path.name if kind is Path.is_dir else path.name.partition(".")[0]).lower()
        if split in SPLIT_NAMES and kind(path) and found.setdefault(split, path) != path:
            raise ValueError(
                f"{found[split]} and {path} are both the split {split!r}: "
                "rename one of them, or move the files of one into the other"
            )
    return dict(sorted(found.items()))


def _is_container(path: Path) -> bool:
    return path.is_file() and container_kind(os.fsencode(path)) is not None


def images_outside(root: Path, places: Collection[str]) -> int:
    """How many images, or archives and videos of them, lie below the root, but in none of the splits.

    Args:
        root: the data set's folder.
        places: the splits' folders, archives or videos, relative to the root; `.` is the root itself.
    """
    if "." in places:
        return 0
    inside = tuple(f"{display_name(os.fsencode(place))}/" for place in places)
    return sum(not f"{name}/".startswith(inside) for name in FolderSource(root).files())
