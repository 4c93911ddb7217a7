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
from fastdup_dagster.names import raw_name, shown_name
from fastdup_dagster.outputs import MadePages, Outputs
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.parts import path_of
from fastdup_dagster.storage import TableStore, write_atomically

KEY = "run/all"
_MARK = "fastdup_dagster"
# Used where a config.json of somebody else, of V1 itself for one, is in the folder.
_OTHER_NAME = "config.fastdup_dagster.json"

# What belongs to the results themselves: gone when a new run replaces them.
EXPORT, CROPS = "export", "crops"

InputDir = str | list[str]


class WorkDir:
    """The results of one run in a folder.

    Args:
        root: the folder; it need not exist yet.

    Raises:
        TypeError: if it is no path.
        ValueError: if it is a file.
    """

    def __init__(self, root: str | Path) -> None:
        if not isinstance(root, str | Path) or root == "":
            raise TypeError(f"work_dir={root!r}: expected the path of a folder")
        # absolute: results stay where they are when the current folder changes
        self.root = Path(root).expanduser().absolute()
        if self.root.is_file():
            raise ValueError(f"work_dir={str(root)!r} is a file: give a folder, it need not exist yet")
        self.store = TableStore(self.root)
        self.outputs = Outputs(self.root)

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
        self._header_path.unlink(missing_ok=True)
        for owner in (EXPORT, CROPS):
            self.outputs.replace(owner, [])
        MadePages(self.root).forget()

    @property
    def version(self) -> tuple[tuple[int, ...] | None, ...]:
        """Changes whenever a run begins or finishes here, in whatever process."""
        return tuple(_status(self.root / name) for name in (CONFIG_JSON, _OTHER_NAME))

    def finish(self, config: Mapping[str, Any]) -> None:
        """Declares the run finished."""
        path = self.root / CONFIG_JSON
        if path.exists() and _ours(path) is None:
            path = self.root / _OTHER_NAME
        write_atomically(path, json.dumps(dict(config), indent=2).encode("utf-8"))

    @property
    def _header_path(self) -> Path:
        return self.store.path("annotations", KEY).with_suffix(".json")

    def write_header(self, header: Mapping[str, Any] | None) -> None:
        """Keeps what belongs to the annotations and to none of their rows, if there is such."""
        if header is not None:
            write_atomically(self._header_path, json.dumps(header).encode("ascii"))

    def read_header(self) -> dict[str, Any]:
        """What `write_header` kept; empty if that is nothing."""
        try:
            header = json.loads(self._header_path.read_bytes())
        except FileNotFoundError:
            return {}
        return dict(header)

    def _find_config(self) -> dict[str, Any] | None:
        return _ours(self.root / CONFIG_JSON) or _ours(self.root / _OTHER_NAME)


def _status(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


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
        # the width of given embeddings is no setting of a model
        left_out = {"d"} if self.is_precomputed else set()
        names = (name for name in RunSettings.model_fields if name in self._config and name not in left_out)
        return RunSettings(**{name: self._config[name] for name in names})

    @property
    def is_precomputed(self) -> bool:
        """Whether the embeddings were given."""
        return self._config["model"] is None

    @property
    def input_dir(self) -> InputDir | None:
        """The input as it was given, or absolute where that means another place by now."""
        given: InputDir | None = self._config["input_dir"]
        return None if given is None else spelled(given, self._config["input_path"])

    def shown_name(self, filename: str, uri: str) -> str:
        """The name of a file in results: a path that opens, spelled as the input was; a remote one as people write it.

        Args:
            filename: as in the manifest.
            uri: as in the manifest.
        """
        path = path_of(uri)
        if is_remote(uri):
            return shown_name(path)
        given = self._config["input_dir"]
        if given is None and self.is_precomputed:
            return shown_name(os.fsencode(raw_name(filename)))
        if given is None or isinstance(given, list):
            raw = os.fsencode(raw_name(filename))
            return shown_name(raw if os.path.abspath(raw) == path else path)  # noqa: PTH100 bytes
        base = self._config["base"]
        if os.path.abspath(given) == base and not os.path.isabs(given):  # noqa: PTH100, PTH117
            inside = os.fsencode(base).rstrip(b"/") + b"/"
            if path.startswith(inside):
                path = os.path.join(os.fsencode(given), path.removeprefix(inside))  # noqa: PTH118 - bytes
        return shown_name(path)


def absolute_input(given: InputDir) -> InputDir:
    """The place that an input means now, whatever the current folder is later."""
    if isinstance(given, list):
        return [str(absolute_input(item)) for item in given]
    return given if "://" in given else os.path.abspath(os.path.expanduser(given))  # noqa: PTH100, PTH111


def spelled(given: InputDir, path: InputDir) -> InputDir:
    """An input as it was given if that still means the place `path`, else `path`."""
    return given if absolute_input(given) == path else path
