"""Where downloaded models lie: a folder each, `<cache>/<name>/`."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder that `FASTDUP_MODELS` names, else `~/.cache/fastdup_dagster/models`. It need not exist."""
    named = os.environ.get("FASTDUP_MODELS")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "fastdup_dagster" / "models"


def cached_model(name: str) -> Path | None:
    """The folder of a model of that name, None if it is not in the cache."""
    folder = cache_folder() / name
    return folder if folder.is_dir() else None
