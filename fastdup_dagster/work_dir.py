"""A folder of results of the V1 face: the tables of one run, and what it was run with in config.json.

A run is finished when its config.json is there: it is removed before the first table of a new run is
published, and written after the last. Files that this project did not write are never touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fastdup_dagster.constants import CONFIG_JSON
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.storage import TableStore, write_atomically

KEY = "run/all"
_MARK = "fastdup_dagster"
# Used where a config.json of somebody else, of V1 itself for one, is in the folder.
_OTHER_NAME = "config.fastdup_dagster.json"

InputDir = str | list[str]


class WorkDir:
    """The results of one run in a folder.

    Args:
        root: the folder; it need not exist yet.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.store = TableStore(self.root)

    @property
    def is_finished(self) -> bool:
        """Whether a finished run is here."""
        return self._find_config() is not None

    def read_config(self) -> dict[str, Any]:
        """What the run was made with.

        Raises:
            FileNotFoundError: if there is no finished run.
        """
        found = self._find_config()
        if found is None:
            raise FileNotFoundError(f"work_dir={str(self.root)!r} holds no finished run")
        return found

    def begin(self) -> None:
        """Declares the run unfinished: its tables are about to change."""
        for name in (CONFIG_JSON, _OTHER_NAME):
            if _ours(self.root / name) is not None:
                (self.root / name).unlink()

    def finish(self, config: Mapping[str, Any]) -> None:
        """Declares the run finished."""
        path = self.root / CONFIG_JSON
        if path.exists() and _ours(path) is None:
            path = self.root / _OTHER_NAME
        write_atomically(path, json.dumps(dict(config), indent=2).encode("utf-8"))

    def _find_config(self) -> dict[str, Any] | None:
        return _ours(self.root / CONFIG_JSON) or _ours(self.root / _OTHER_NAME)


def _ours(path: Path) -> dict[str, Any] | None:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and _MARK in config.get("versions", {}) else None


class SavedRun:
    """What config.json says, typed."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    @cached_property
    def settings(self) -> RunSettings:
        """The settings of the run."""
        return RunSettings(**{name: self._config[name] for name in RunSettings.model_fields if name in self._config})

    @property
    def is_precomputed(self) -> bool:
        """Whether the embeddings were given."""
        return self._config["model"] is None

    @property
    def has_annotations(self) -> bool:
        """Whether there were annotations."""
        return bool(self._config["annotated"])

    @property
    def input_dir(self) -> InputDir | None:
        """The input as it was given."""
        return self._config["input_dir"]

    def shown_name(self, filename: str, path: bytes) -> str:
        """The name of a file in results: a path that opens, spelled as the input was.

        Args:
            filename: as in the manifest.
            path: absolute.
        """
        given = self.input_dir
        if isinstance(given, list):
            return filename
        base = self._config["base"]
        if given and os.path.abspath(given) == base and not os.path.isabs(given):  # noqa: PTH100, PTH117
            inside = os.fsencode(base).rstrip(b"/") + b"/"
            if path.startswith(inside):
                path = os.path.join(os.fsencode(given), path.removeprefix(inside))  # noqa: PTH118 - bytes
        try:
            return path.decode("utf-8")
        except UnicodeDecodeError:
            return path.decode("utf-8", "backslashreplace")
