"""How a folder is cut into splits: by sub-folders that are called like splits."""

from __future__ import annotations

from pathlib import Path

from fastdup_dagster.sources.folder import FolderSource

SPLIT_NAMES = frozenset(
    "train training val valid validation test testing dev eval holdout".split()  # noqa: SIM905
)
WHOLE = "all"


def find_splits(root: Path) -> dict[str, Path]:
    """The splits of a data set's folder: `{"train": root/train, …}`, sorted by name; else `{"all": root}`.

    Sub-folders of the root are looked at, then those of `root/images`, whatever the case of their names.
    A split keeps the name that its folder has, in lower case.
    """
    for parent in (root, root / "images"):
        if parent.is_dir():
            found = {p.name.lower(): p for p in parent.iterdir() if p.is_dir() and p.name.lower() in SPLIT_NAMES}
            if found:
                return dict(sorted(found.items()))
    return {WHOLE: root}


def images_outside(root: Path, splits: dict[str, Path]) -> int:
    """How many images lie below the root, but in none of the splits' folders."""
    if WHOLE in splits:
        return 0
    inside = [f"{path.relative_to(root).as_posix()}/" for path in splits.values()]
    return sum(not entry.filename.startswith(tuple(inside)) for entry in FolderSource(root).entries())
