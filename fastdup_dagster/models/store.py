"""Where models that have names are kept: `<FASTDUP_MODELS>/<name>/`, their files and a record of what they are.

A record `model.json` is written last, and says what each file's sha256 was when it came: a file that changed since is
refused. Nothing here reaches the network; `fastdup_dagster.models.download` does, when a person says `models pull`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from fastdup_dagster.models.files import file_sha256, model_files
from fastdup_dagster.models.registry import NamedModel, named
from fastdup_dagster.storage import write_atomically

_RECORD = "model.json"
_GRAPH = "model.onnx"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelMissingError(FileNotFoundError):
    """A model is not in the store; the message says with which command it comes there."""


class ModelRefusedError(ValueError):
    """A file is not what it should be."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that is there.

    Attributes:
        name: of the model.
        folder: where its files are.
        files: sha256 of each file by its name, relative to the folder.
        source: address or path that it came from.
        licence: as whoever added it stated it, or as the registry knows it.
        trusted: why the hashes are believed: `publisher`, `given` by a person, or `first use`.
    """

    name: str
    folder: Path
    files: Mapping[str, str]
    source: str
    licence: str | None
    trusted: str

    @property
    def graph(self) -> Path:
        """The ONNX file of a model that is one file; with data of its own beside it, perhaps."""
        return self.folder / next((name for name in self.files if name == _GRAPH), next(iter(self.files)))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / name).stat().st_size for name in self.files)

    def changed(self) -> list[str]:
        """Why files are not what the record says; empty if all is well. Reads every byte."""
        problems = []
        for name, expected in self.files.items():
            path = self.folder / name
            if not path.is_file():
                problems.append(f"{path} is not there")
            elif (found := file_sha256(path)) != expected:
                problems.append(f"{path}: sha256 {found}, recorded is {expected}")
        return problems

    def check(self) -> None:
        """Reads every file.

        Raises:
            ModelRefusedError: if one is not what the record says.
        """
        if problems := self.changed():
            again = f"fetch it again: fastdup-dagster models pull {self.name}, or models add {self.name}"
            raise ModelRefusedError(f"model {self.name!r} was changed since it came: {'; '.join(problems)}; {again}")


class ModelStore:
    """Models by name in a folder: FASTDUP_MODELS, else `fastdup_dagster/models` in the user's cache."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or _default_root()

    def find(self, name: str) -> StoredModel | None:
        """The model, None if it is not there whole. Does not read its files.

        Raises:
            ValueError: for an unknown name.
        """
        model = named(name)
        folder = self.root / model.name
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            stored = StoredModel(**{**record, "folder": folder})
        except (OSError, ValueError, TypeError):
            return None
        return stored if stored.files and all((folder / file).is_file() for file in stored.files) else None

    def require(self, name: str, argument: str) -> StoredModel:
        """The model, for an argument that names it, such as `model_path='clip'`.

        Raises:
            ModelMissingError: if it is not there, with the command that brings it.
            ValueError: for an unknown name.
        """
        stored = self.find(name)
        if stored is None:
            remedy = how_to_get(named(name))
            raise ModelMissingError(
                f"{argument}: this model is not in {self.root}, and a run never downloads; {remedy}"
            )
        return stored

    def recorded(self, name: str, source: str) -> dict[str, str]:
        """The hashes recorded when the model came from this source, also if the files are gone since."""
        try:
            record = json.loads((self.root / named(name).name / _RECORD).read_bytes())
            return dict(record["files"]) if record["source"] == source else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def add(self, name: str, path: Path, licence: str, sha256: str | None = None) -> StoredModel:
        """Copies a model from this machine: an ONNX file with the data beside it, or a folder of several files.

        Args:
            name: one of the registry.
            path: the file or folder.
            licence: of the weights, as their publisher states it.
            sha256: what the file's must be; only for a single file.

        Raises:
            FileNotFoundError: if it is not there.
            ModelRefusedError: if its hash is another one.
            ValueError: for an unknown name, or an empty folder.
        """
        model = named(name)
        chosen = _chosen(path)
        if sha256 is not None:
            given = check_sha256(sha256)
            if len(chosen) > 1:
                raise ValueError(f"sha256 is of one file, and {path} is {len(chosen)} files")
            if (found := file_sha256(path)) != given:
                raise ModelRefusedError(f"{path}: sha256 {found}, expected is {given}: not added")
        with self.staging(model.name) as staging:
            for target, source in chosen.items():
                (staging / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, staging / target)
            hashes = {target: file_sha256(staging / target) for target in chosen}
            return self.publish(model, staging, hashes, str(path.absolute()), licence, "given")

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A folder to collect a model's files in, for one process at a time; it outlasts a failure, for a next try."""
        folder = self.root / ".partial" / name
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            yield folder

    def publish(
        self, model: NamedModel, staging: Path, hashes: Mapping[str, str], source: str, licence: str | None, why: str
    ) -> StoredModel:
        """Puts collected files, with their record, in the place of an earlier model, which is whole until then."""
        folder = self.root / model.name
        stored = StoredModel(model.name, folder, dict(hashes), source, licence, why)
        made, old = (staging.with_name(f"{staging.name}.{state}") for state in ("new", "old"))
        for leftover in (made, old):
            shutil.rmtree(leftover, ignore_errors=True)
        for name in hashes:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(made / name)
        record = {key: value for key, value in asdict(stored).items() if key != "folder"}
        write_atomically(made / _RECORD, json.dumps(record, indent=2).encode())
        if folder.exists():
            folder.replace(old)
        made.replace(folder)
        for leftover in (staging, old):
            shutil.rmtree(leftover, ignore_errors=True)
        return stored


def how_to_get(model: NamedModel) -> str:
    """The command that brings a model, and what stands in the way."""
    by_hand = f"fastdup-dagster models add {model.name} PATH|URL --licence LICENCE [--sha256 SHA256]"
    if not model.files:
        return f"{model.note}; then: {by_hand}"
    trust = "" if model.verified else " --trust-first-use"
    return f"get it with: fastdup-dagster models pull {model.name}{trust}"


def check_sha256(value: str) -> str:
    """A sha256 in lower case.

    Raises:
        ValueError: if it is none.
    """
    if not _SHA256.fullmatch(value.lower()):
        raise ValueError(f"sha256={value!r}: expected 64 hex digits")
    return value.lower()


def _default_root() -> Path:
    if given := os.environ.get("FASTDUP_MODELS"):
        return Path(given).expanduser().absolute()
    return cache_folder() / "models"


def cache_folder() -> Path:
    """`fastdup_dagster` in the user's cache.

    Raises:
        RuntimeError: for a user without a home, if XDG_CACHE_HOME names no folder either.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "fastdup_dagster"


def _chosen(path: Path) -> dict[str, Path]:
    """Names in the store and the files that they are copied from."""
    if path.is_file():
        graph, *data = model_files(path)
        name = _GRAPH if path.suffix != ".ort" else "model.ort"
        return {name: graph, **{file.relative_to(path.parent).as_posix(): file for file in data}}
    if not path.is_dir():
        raise FileNotFoundError(f"no model at {path}")
    found = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    if not any(name.endswith((".onnx", ".ort")) for name in found):
        raise ValueError(f"{path} holds no .onnx file")
    return found
