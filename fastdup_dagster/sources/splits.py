"""How a folder is cut into splits: by sub-folders that are called like splits."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from fastdup_dagster.sources.folder import FolderSource
from fastdup_dagster.sources.paths import display_name

SPLIT_NAMES = frozenset(
    "train training val valid validation test testing dev eval holdout".split()  # noqa: SIM905
)
WHOLE = "all"


def find_splits(root: Path) -> dict[str, Path]:
    """The splits of a data set's folder: `{"train": root/train, …}`, sorted by name; else `{"all": root}`.

    Sub-folders of the root are looked at, then those of `root/images`, whatever the case of their names.
    A split keeps the name that its folder has, in lower case.

    Raises:
        ValueError: if two folders differ in the case of their letters alone, naming both.
    """
    for parent in (root, root / "images"):
        if not parent.is_dir():
            continue
        folders = sorted(p for p in parent.iterdir() if p.is_dir() and p.name.lower() in SPLIT_NAMES)
        found = {folder.name.lower(): folder for folder in folders}
        for folder in folders:
            if found[folder.name.lower()] != folder:
                raise ValueError(
                    f"{folder} and {found[folder.name.lower()]} are both the split {folder.name.lower()!r}: "
                    "rename one of them, or move the files of one into the other"
                )
        if found:
            return dict(sorted(found.items()))
    return {WHOLE: root}


def images_outside(root: Path, places: Collection[str]) -> int:
    """How many images lie below the root, but in none of the splits' folders.

    Args:
        root: the data set's folder.
        places: the splits' folders, relative to the root; `.` is the root itself.
    """
    if "." in places:
        return 0
    inside = tuple(f"{display_name(os.fsencode(place))}/" for place in places)
    return sum(not name.startswith(inside) for name in FolderSource(root).files())
