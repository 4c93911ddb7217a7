"""The data sets that are known here: `datasets.yaml`, its model, and how entries get into it.

    datasets:
      photos:
        root: /data/photos                             # or s3://bucket/photos
        splits: {train: train, test: lists/test.txt}   # folders, archives, videos, list files
        settings:                                      # what differs from the defaults
          threshold: 0.92
          limits: {max_invalid_share: 0.01}            # of the checks
        store: /results/photos                         # optional: where tables and pages go; or s3://bucket/prefix
      birds:
        root: /data/birds
        annotations: labels.csv                        # relative to the root; its columns go into image_manifest
        split_column: subset
        splits: {train: train, val: validation}        # values of that column

The command line and the code location that Dagster serves read the same file, so both see the same.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from fastdup_dagster.home import dagster_home
from fastdup_dagster.settings import Settings, settings_from, with_model_from
from fastdup_dagster.sources.locations import is_remote, joined, location
from fastdup_dagster.storage import write_atomically

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_LOCK_SECONDS = 30


class DatasetsError(ValueError):
    """datasets.yaml, or a name in it, is wrong; the message says where and what to write."""


class Uploads(BaseModel):
    """How the sensor `new_uploads` knows that an upload is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    marker: str = Field(
        "_SUCCESS",
        pattern=r"^[^/\x00]+$",
        description="object in a split's folder, written when its upload is finished",
    )
    settled_minutes: float | None = Field(
        None,
        ge=0.05,
        description="instead of a marker: an upload is finished when nothing in the folder changed for so long",
    )


class DatasetEntry(BaseModel):
    """One data set: where it is, how it is cut, and what differs from the default settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(description="folder or s3:// prefix; a relative one starts at the folder of the file")
    splits: dict[str, str] = Field(
        min_length=1,
        description="split -> folder, archive, video or list file, relative to the root, or value of split_column",
    )
    annotations: str | None = Field(
        None, description="csv file relative to the root, with a column filename and any others, such as label"
    )
    split_column: str | None = Field(None, description="column of the annotations that says which split a file is in")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the defaults")
    store: str | None = Field(
        None,
        description="folder, or s3://bucket/prefix, of tables and pages; None for FASTDUP_STORE, else store/ at home",
    )

    uploads: Uploads = Field(default_factory=Uploads, description="how finished uploads are recognised")

    @field_validator("root")
    @classmethod
    def _place(cls, root: str) -> str:
        if is_remote(root):
            location(root)
        elif "://" in root and not root.startswith("file://"):
            raise ValueError(f"{root}: only s3:// and minio:// are read from; expected a folder, or a prefix of these")
        return root

    @field_validator("split_column")
    @classmethod
    def _in_annotations(cls, column: str | None, info: ValidationInfo) -> str | None:
        if column is not None and not info.data.get("annotations"):
            raise ValueError("it is a column of the annotations: name their file in `annotations`")
        return column

    @field_validator("splits")
    @classmethod
    def _split_names(cls, splits: dict[str, str]) -> dict[str, str]:
        for split in splits:
            check_name("split", split)
        return splits

    @field_validator("settings")
    @classmethod
    def _known_settings(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            settings_from(values)
        except (NotImplementedError, TypeError) as error:  # pydantic reports ValueError only
            raise ValueError(str(error)) from error
        return values

    def source(self, split: str) -> str:
        """The folder, prefix or list file of a split, as `open_source` takes it; not with a `split_column`.

        Raises:
            DatasetsError: if there is no such split, naming those there are.
        """
        return str(joined(self.root, self.place(split)))

    def place(self, split: str) -> str:
        """What the entry says of a split: a folder or list file, or a value of `split_column`.

        Raises:
            DatasetsError: if there is no such split, naming those there are.
        """
        if split not in self.splits:
            raise DatasetsError(f"no split {split!r}; there are: {', '.join(self.splits)}")
        return self.splits[split]

    def annotations_file(self) -> str | None:
        """Where the annotations are; None without any."""
        return None if self.annotations is None else str(joined(self.root, self.annotations))

    def typed_settings(self) -> Settings:
        """The data set's settings over the defaults."""
        return settings_from(self.settings)

    @field_validator("store")
    @classmethod
    def _is_a_place(cls, store: str | None) -> str | None:
        if store is not None and is_remote(store):
            location(store)
        return store

    def store_root(self) -> str | Path:
        """Folder, or `s3://bucket/prefix`, of the data set's tables and pages: its own, else FASTDUP_STORE's."""
        named = self.store or os.environ.get("FASTDUP_STORE")
        if not named:
            return dagster_home() / "store"
        return named if is_remote(named) else Path(named).expanduser().absolute()


def check_name(what: str, name: str) -> str:
    """Returns the name of a data set or split if it can be part of a partition key and of a path.

    Raises:
        DatasetsError: saying what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise DatasetsError(
            f"{what} name {name!r}: use 1 to 100 letters, digits, '_', '-' and '.', the first a letter or digit"
        )
    return name


def partition_key(dataset: str, split: str) -> str:
    """`<dataset>/<split>`, the key of a partition in every table of a split."""
    return f"{check_name('data set', dataset)}/{check_name('split', split)}"


def leaks_key(dataset: str) -> str:
    """Under which the page of leaks is kept; no split's name starts with an underscore."""
    return f"{dataset}/_leaks"


def captions_key(key: str) -> str:
    """Under which the page of captions of a split is kept: not among its galleries, which are replaced as a set."""
    dataset, _, split = key.partition("/")
    return f"{dataset}/_captions/{split}"


def data_docs_key(key: str) -> str:
    """Under which Data Docs of a split, or of a data set, are kept; no split's name starts with an underscore."""
    dataset, _, split = key.partition("/")
    return "/".join(filter(None, (dataset, "_data_docs", split)))


def parse_key(key: str) -> tuple[str, str]:
    """Data set and split of a partition key.

    Raises:
        DatasetsError: if it is not of the form `<dataset>/<split>`.
    """
    dataset, slash, split = key.partition("/")
    if not slash:
        raise DatasetsError(f"partition {key!r}: expected <dataset>/<split>")
    return check_name("data set", dataset), check_name("split", split)


def datasets_path() -> Path:
    """The file: what `FASTDUP_DATASETS` names, else `datasets.yaml` in the Dagster home."""
    named = os.environ.get("FASTDUP_DATASETS")
    return Path(named).expanduser() if named else dagster_home() / "datasets.yaml"


def dataset_names(path: Path | None = None) -> list[str]:
    """The names in the file, whatever their entries look like.

    Raises:
        DatasetsError: if the file as a whole cannot be read.
    """
    return [str(name) for name in _read(path or datasets_path())["datasets"]]


def load_dataset(name: str, path: Path | None = None) -> DatasetEntry:
    """One data set; a mistake in another one's entry does not matter.

    Raises:
        DatasetsError: if it is not there, or its entry is wrong, naming file, line and key.
    """
    path = path or datasets_path()
    try:
        status = path.stat()
    except OSError:
        return _loaded(name, path, None)
    # Every step asks for its entry several times; the file is parsed again as soon as it is another one.
    return _loaded(name, path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=256)
def _loaded(name: str, path: Path, stamp: tuple[int, int, int] | None) -> DatasetEntry:
    document = _read(path)
    if name not in document["datasets"]:
        known = ", ".join(document["datasets"]) or "none"
        raise DatasetsError(f"no data set {name!r} in {path}; there are: {known}. Register it: fastdup-dagster run")
    return _entry(path, name, document)


def register(name: str, entry: DatasetEntry, path: Path | None = None) -> None:
    """Writes one entry, keeping all others, comments included; safe against another process that does the same.

    Raises:
        DatasetsError: if the name cannot be one, or the file as it stands cannot be read, or not be written.
    """
    path = path or datasets_path()
    check_name("data set", name)
    with _locked(path):
        document = _read(path)
        document["datasets"][name] = entry.model_dump(exclude_defaults=True)
        _write(path, document)


def add_split(name: str, split: str, place: str, path: Path | None = None) -> None:
    """Adds a split to an entry and leaves everything else as it is written; one that is there stays.

    Args:
        name: of the data set.
        split: of the split.
        place: its folder, relative to the root.
        path: of the file.

    Raises:
        DatasetsError: if the name cannot be one, or the data set is not there, or the file cannot be written.
    """
    path = path or datasets_path()
    check_name("split", split)
    with _locked(path):
        load_dataset(name, path)
        document = _read(path)
        document["datasets"][name]["splits"].setdefault(split, place)
        _write(path, document)


def _write(path: Path, document: CommentedMap) -> None:
    buffer = io.StringIO()
    _yaml().dump(document, buffer)
    with _told(path):
        write_atomically(path, buffer.getvalue().encode("utf-8"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says of which file it is that something cannot be written, and what to do: a mounted ConfigMap is read-only."""
    try:
        yield
    except OSError as error:
        raise DatasetsError(
            f"{path} cannot be written ({error.strerror or error}): put it on a writable volume, or name another file "
            "in FASTDUP_DATASETS"
        ) from error


def _yaml() -> YAML:
    yaml = YAML()  # round trip: keeps comments and knows the line of every key; builds plain values only
    yaml.width = 120
    return yaml


def _read(path: Path) -> CommentedMap:
    try:
        document = _yaml().load(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise DatasetsError(f"{path}: {error}") from error
    document = CommentedMap() if document is None else document
    if not isinstance(document, CommentedMap):
        raise DatasetsError(f"{path}: expected `datasets:` and its entries, found {type(document).__name__}")
    unknown = [key for key in document if key != "datasets"]
    if unknown:
        raise DatasetsError(
            f"{path}, line {_line(document, (unknown[0],))}: unknown key {unknown[0]!r}; only `datasets`"
        )
    if document.get("datasets") is None:
        document["datasets"] = CommentedMap()
    if not isinstance(document["datasets"], CommentedMap):
        raise DatasetsError(
            f"{path}, line {_line(document, ('datasets',))}: `datasets` holds no mapping of names to entries"
        )
    return document


def _entry(path: Path, name: Any, document: CommentedMap) -> DatasetEntry:
    def where(*keys: Any) -> str:
        line = _line(document, ("datasets", name, *keys))
        return f"{path}, line {line}, {'.'.join(map(str, ('datasets', name, *keys)))}"

    try:
        check_name("data set", str(name))
        entry = DatasetEntry.model_validate(document["datasets"][name])
    except ValidationError as error:
        # A misspelt key first: what is reported as missing often follows from it.
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        message = first["msg"].removeprefix("Value error, ")
        place = first["loc"]
        if first["type"] == "extra_forbidden":
            model = Uploads if place[0] == "uploads" else DatasetEntry
            message = f"unknown key; known are {', '.join(model.model_fields)}"
        elif place == ("settings",):
            place += _wrong_setting(document["datasets"][name]["settings"])
        raise DatasetsError(f"{where(*place)}: {message}") from error
    except DatasetsError as error:
        raise DatasetsError(f"{where()}: {error}") from error
    places = {"root": entry.root} | ({"store": entry.store} if entry.store else {})
    here = path.absolute().parent
    found: dict[str, Any] = {
        field: place if is_remote(place) else str(here / Path(place).expanduser()) for field, place in places.items()
    }
    return entry.model_copy(update={**found, "settings": with_model_from(here, entry.settings)})


def _wrong_setting(values: Any) -> tuple[Any, ...]:
    """Where in the settings the mistake is that is told first; empty if it is in no single one."""
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        return min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")["loc"]
    except NotImplementedError:
        return ()
    return ()


def _line(document: CommentedMap, keys: tuple[Any, ...]) -> int:
    """Line (from 1) of the innermost of the keys that the file has."""
    line, node = 0, document
    for key in keys:
        if not isinstance(node, Mapping) or key not in node:
            break
        line = node.lc.key(key)[0] if isinstance(node, CommentedMap) else line
        node = node[key]
    return int(line) + 1
