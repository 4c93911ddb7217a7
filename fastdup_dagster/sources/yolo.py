"""YOLO: a YAML file that names the images of each split and the classes, on this machine or in an object store.

The format: https://docs.ultralytics.com/datasets/detect/. `yolo_labels` reads the labels of the images.
"""

from __future__ import annotations

import os
import posixpath
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from fastdup_dagster.sources.base import Entry, NothingFoundError
from fastdup_dagster.sources.folder import FolderSource, stat_entry
from fastdup_dagster.sources.label_files import folder_of, lines_of, place_of, read_file, suffix
from fastdup_dagster.sources.labels import clean
from fastdup_dagster.sources.locations import Location, is_remote, joined, location, location_of
from fastdup_dagster.sources.parts import path_of
from fastdup_dagster.sources.path_list import ListSource
from fastdup_dagster.sources.paths import (
    IMAGE_EXTENSIONS,
    as_bytes,
    container_kind,
    display_name,
    extension,
    local_path,
)
from fastdup_dagster.sources.s3 import S3Source, holds_anything, remote_entries

SPLITS = ("train", "val", "test")
YAML_SUFFIXES = (".yaml", ".yml")

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LIST_SUFFIX = ".txt"
# Tools that write a YAML beside the folders of its splits nevertheless call them `../train/images`.
_ABOVE = "../"


@dataclass(frozen=True)
class YoloData:
    """What a YAML file describes.

    Attributes:
        path: of the file.
        root: folder, or prefix in an object store, that its paths start at.
        images: entry and split of every image, each once.
        folders: those of the splits that are folders or prefixes: all images in them are among the images.
        names: class names by number.
        keypoints: how many a box has in its line, and the numbers of each: 2, or 3 with visibility; None for none.
        task: detect, segment, obb, …; None if it does not say.
        notes: sentences for people.
    """

    path: str | Path
    root: str | Path
    images: list[tuple[Entry, str]]
    folders: list[str | Path]
    names: dict[int, str]
    keypoints: tuple[int, int] | None
    task: str | None
    notes: list[str]

    def name_of(self, entry: Entry) -> str:
        """Path of an image: relative to the root; outside it absolute, or as people write its place."""
        place = absolute_name(entry)
        root = self.root.rstrip("/") if isinstance(self.root, str) else os.fsdecode(as_bytes(self.root)).rstrip("/")
        return place.removeprefix(f"{root}/")


@dataclass
class YoloSource:
    """The images of a YAML file, in the order of its splits.

    Attributes:
        data: what the file describes.
    """

    data: YoloData
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = str(self.data.path)

    @property
    def notes(self) -> list[str]:
        """What was left out, and what is odd."""
        return self.data.notes

    def entries(self) -> Iterator[Entry]:
        """The images, each once, named from the root."""
        for entry, _ in self.data.images:
            yield replace(entry, filename=display_name(os.fsencode(self.data.name_of(entry))))


def absolute_name(entry: Entry) -> str:
    """The place of an entry by its URI: an absolute path, or a location as people write it."""
    return os.fsdecode(path_of(entry.uri))


def is_yolo(path: str | Path) -> bool:
    """Whether a path may be that of a YOLO data set, by its name."""
    return suffix(path) in YAML_SUFFIXES


def yolo_root(path: str | Path) -> str | Path:
    """The folder or prefix that the paths in a YAML file start at: `path` in it, relative to the file's own folder."""
    place = place_of(path)
    return _root(place, _load(place))


def open_yolo(path: str | Path) -> YoloData:
    """Reads a YAML file and lists its images; nothing is downloaded, whatever the file says.

    Args:
        path: of the file, local or in an object store. So may be the places that it names.

    Raises:
        FileNotFoundError: if the file, or a folder or list that it names, is not there.
        NothingFoundError: if there is no image.
        RemoteError: if an object store does not give it.
        ValueError: naming file and key of what is wrong.
    """
    place = place_of(path)
    data = _load(place)
    root = _root(place, data)
    images: dict[str, tuple[Entry, str]] = {}
    twice: Counter[tuple[str, str]] = Counter()
    notes: list[str] = []
    folders: dict[str | Path, None] = {}
    for split in SPLITS:
        for target in _targets(place, split, data.get(split), root):
            folders |= {} if _is_list(target) else {target: None}
            for entry in _listed(target, root, notes) if _is_list(target) else _inside(target, notes):
                if entry.uri not in images:
                    images[entry.uri] = entry, split
                elif (first := images[entry.uri][1]) != split:
                    twice[first, split] += 1
    if not images:
        raise NothingFoundError(f"no images found in {path}: its {', '.join(SPLITS)} name none")
    notes += [f"{many} images are in {a} and in {b}: taken as {a}" for (a, b), many in twice.items()]
    task = data.get("task")
    return YoloData(
        place, root, list(images.values()), list(folders), _names(place, data), _keypoints(place, data),
        task if isinstance(task, str) else None, notes,
    )  # fmt: skip


def _load(path: str | Path) -> dict[Any, Any]:
    if isinstance(path, Path) and not path.is_file():
        raise FileNotFoundError(f"{str(path)!r}: no such file")
    given = read_file(path)
    from ruamel.yaml import YAML  # not at the top: most runs read no YAML

    try:
        data = YAML(typ="safe", pure=True).load(given)
    except Exception as error:  # the reader raises many kinds on broken input
        raise ValueError(f"{path}: not YAML: {str(error) or type(error).__name__}") from error
    if not isinstance(data, dict) or not any(data.get(split) for split in SPLITS):
        raise ValueError(f"{path}: not a YOLO data set: expected path, train, val, test and names")
    return data


def _root(path: str | Path, data: dict[Any, Any]) -> str | Path:
    given = data.get("path") or "."
    if not isinstance(given, str):
        raise ValueError(f"{path}: path={reprlib.repr(given)}: expected a folder")
    _refuse_scheme(path, "path", given)
    folder = folder_of(path)
    if isinstance(folder, str) or is_remote(given):
        return _below(path, "path", folder, given)
    tried = [folder / given, Path.cwd() / given]
    return Path(os.fsdecode(as_bytes(next((place for place in tried if _is_dir(place)), tried[0]))))


def _refuse_scheme(path: str | Path, key: str, given: str) -> None:
    if _REMOTE.match(given) and not is_remote(given):
        raise NotImplementedError(
            f"{path}: {key}={given!r}: only s3:// and minio:// are read from; nothing is downloaded"
        )


def _refuse_server(path: str | Path, place: Location) -> None:
    """A file that came from somebody else must not choose who gets requests signed with the keys of this process.

    Args:
        path: of the file.
        place: that is about to be asked for, not the text that it was made of.
    """
    server = place.server
    own = location(path).server if isinstance(path, str) else ""
    if ":" in server and server != own:
        raise ValueError(
            f"{path}: {place.text!r}: a server that the file chooses is not asked; if it is yours, give it an alias: "
            f"minio://name/bucket with FASTDUP_MINIO_NAME=http://{server}"
        )


def _below(path: str | Path, key: str, root: str | Path, given: str) -> str:
    """What a path in a file means below a prefix, without `.` and `..` in it, which keys do not know."""
    if given.startswith("/"):
        raise ValueError(
            f"{path}: {key}={given!r}: a path of a machine; in a bucket it must be relative, or begin with s3://"
        )
    place = location(str(joined(root, given)))
    _refuse_server(path, place)
    whole = posixpath.normpath(place.key)
    if whole.split("/")[0] == "..":
        raise ValueError(f"{path}: {key}={given!r}: it leads out of the bucket of {root}")
    return Location(place.server, place.bucket, "" if whole == "." else whole).text


def _is_dir(path: Path) -> bool:
    return "\0" not in str(path) and os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for a name that is too long


def _targets(path: str | Path, split: str, given: Any, root: str | Path) -> Iterator[str | Path]:
    """The folders and list files that a split names."""
    for place in given if isinstance(given, list) else [] if given is None else [given]:
        if not isinstance(place, str):
            raise ValueError(f"{path}: {split}={reprlib.repr(given)}: expected a folder or a list of files")
        _refuse_scheme(path, split, place)
        if not place:
            continue
        names = list(dict.fromkeys([place, place.removeprefix(_ABOVE)]))
        tried = [_target(path, split, root, name) for name in names if name]
        found = next((target for target in tried if _is_there(target)), None)
        if found is None:
            raise FileNotFoundError(f"{path}: {split}={place!r}: no such folder or list file: {tried[0]}")
        name = os.fsencode(str(found))
        if _is_list(found) and (extension(name) in IMAGE_EXTENSIONS or container_kind(name)):
            raise ValueError(f"{path}: {split}={place!r}: expected a folder, or a text file that lists images")
        yield found


def _target(path: str | Path, split: str, root: str | Path, name: str) -> str | Path:
    target = joined(root, name)
    return _below(path, split, root, name) if isinstance(target, str) else target


def _is_list(target: str | Path) -> bool:
    """Whether something that is there is a list file; in an object store, by its suffix."""
    if isinstance(target, str):
        return suffix(target) == _LIST_SUFFIX or container_kind(target.encode("utf-8", "surrogateescape")) is not None
    return not _is_dir(target)


def _is_there(target: str | Path) -> bool:
    if isinstance(target, str):
        if not _is_list(target):
            return holds_anything(target)
        return not any(map(_is_missing, remote_entries([("", target)])))
    return _is_dir(target) or ("\0" not in str(target) and os.path.isfile(target))  # noqa: PTH113 - see _is_dir


def _inside(target: str | Path, notes: list[str]) -> Iterator[Entry]:
    """The images of a folder or prefix."""
    source = S3Source(target) if isinstance(target, str) else FolderSource(target)
    yield from source.entries()
    notes += source.notes


def _listed(target: str | Path, root: str | Path, notes: list[str]) -> Iterator[Entry]:
    """The images of a text file, one a row: relative to the file's own folder, or to the root.

    A row may also name a folder, an archive or a video, which stands for what is in it.
    """
    for entry in _rows(target, root):
        remote = is_remote(entry.uri)
        name = os.fsencode(location_of(entry.uri).key) if remote else local_path(entry.uri)
        folder = _is_missing(entry) and not extension(name) if remote else _is_dir(Path(os.fsdecode(name)))
        if not folder and not container_kind(name):
            yield entry
            continue
        given = location_of(entry.uri).text if remote else os.fsdecode(name)
        inside = ListSource([given], Path("/"), f"{target}: {entry.filename}")
        yield from inside.entries()
        notes += inside.notes


def _rows(target: str | Path, root: str | Path) -> Iterator[Entry]:
    """The files that a list names, each below the first folder that has it."""
    folders = list(dict.fromkeys([folder_of(target), root]))
    prefixes = [folder for folder in folders if isinstance(folder, str)]
    here = [*(folder for folder in folders if isinstance(folder, Path)), Path.cwd()]
    names = filter(None, map(str.strip, lines_of(read_file(target), "surrogateescape")))
    for remote, rows in groupby(names, key=lambda name: isinstance(target, str) or is_remote(name)):
        if remote:
            yield from _objects(target, list(rows), prefixes or [""])
        else:
            yield from (_file(name, here) for name in rows)


def _file(name: str, folders: Sequence[Path]) -> Entry:
    tried = [as_bytes(folder / spelling) for spelling in _spellings(name) for folder in folders]
    found = next((p for p in tried if b"\0" not in p and os.path.lexists(p)), tried[0])
    return stat_entry(display_name(os.fsencode(name)), found)


def _objects(path: str | Path, names: Sequence[str], prefixes: Sequence[str]) -> list[Entry]:
    """The entries of a list's objects, each below the first prefix that has it; many are asked for at a time."""
    tried = [[_object(path, prefix, text) for text in _spellings(name) for prefix in prefixes] for name in names]
    found: dict[int, Entry] = {}
    for attempt in range(max(map(len, tried), default=0)):
        rows = [row for row, places in enumerate(tried) if len(places) > attempt and _is_missing(found.get(row))]
        asked = remote_entries((display_name(os.fsencode(names[row])), tried[row][attempt]) for row in rows)
        for row, entry in zip(rows, asked, strict=True):
            if row not in found or not _is_missing(entry):
                found[row] = entry
    return [found[row] for row in range(len(names))]


def _is_missing(entry: Entry | None) -> bool:
    return entry is None or entry.error_code == "MISSING_FILE"


def _object(path: str | Path, prefix: str, name: str) -> str:
    place = location(str(joined(prefix, name)))
    _refuse_server(path, place)
    whole = posixpath.normpath(place.key)
    leads_out = name.startswith("/") or whole.startswith("..")
    return place.text if leads_out else Location(place.server, place.bucket, whole).text


def _spellings(name: str) -> list[str]:
    """A path as it is written, and as it is meant if it was written on Windows."""
    return [name, name.replace("\\", "/")] if "\\" in name else [name]


def _names(path: str | Path, data: dict[Any, Any]) -> dict[int, str]:
    given = data.get("names") or {}
    pairs = enumerate(given) if isinstance(given, list) else given.items() if isinstance(given, dict) else None
    if pairs is None:
        raise ValueError(f"{path}: names={reprlib.repr(given)}: expected a list, or numbers and names")
    names: dict[int, str] = {}
    for given, name in pairs:
        kind = int(given) if isinstance(given, str) and given.isascii() and given.isdigit() else given
        if isinstance(kind, bool) or not isinstance(kind, int) or isinstance(name, list | dict) or name is None:
            raise ValueError(f"{path}: names: {reprlib.repr(kind)}: {reprlib.repr(name)}: expected a number and a name")
        names[kind] = clean(str(name))
    return names


def _keypoints(path: str | Path, data: dict[Any, Any]) -> tuple[int, int] | None:
    match data.get("kpt_shape"):
        case None:
            return None
        case [int(many), 2 | 3 as numbers] if 0 < many < 10_000:
            return many, numbers
        case given:
            raise ValueError(f"{path}: kpt_shape={reprlib.repr(given)}: expected [number of points, 2 or 3]")
