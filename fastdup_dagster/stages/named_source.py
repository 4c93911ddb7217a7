"""A source seen by names: which entry a user's name means, annotated files beyond it, and nothing that runs wrote."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastdup_dagster.names import spellings
from fastdup_dagster.outputs import OwnFiles
from fastdup_dagster.sources import Entry, Source, container_of, display_name, local_path, path_of
from fastdup_dagster.sources.folder import named_entry
from fastdup_dagster.sources.locations import is_remote, joined, place_in
from fastdup_dagster.sources.paths import as_bytes, container_kind
from fastdup_dagster.sources.s3 import remote_entries


class NamedSource:
    """A source, and further files by name; tells which entry a name means, and leaves out what runs wrote.

    Args:
        source: what is listed.
        base: folder, or prefix in an object store, that relative names start at.
        more: names of annotated files; those that the source does not have are listed after it.
        inputs: the files, folders and prefixes that the source lists, absolute: names may be relative to any of these
            folders, and a file that is named here, or in `more`, is input whoever wrote it.
        work_dir: folder of results, which are no input even if it lies inside a listed folder.
        also: further folders and prefixes that relative names may start at.
    """

    def __init__(
        self,
        source: Source,
        base: str | Path,
        more: Sequence[str] = (),
        inputs: Sequence[str | Path] = (),
        work_dir: Path | None = None,
        also: Sequence[str | Path] = (),
    ) -> None:
        self._source = source
        self._more = more
        prefixes = [place for place in inputs if isinstance(place, str)]
        paths = [place for place in inputs if isinstance(place, Path)]
        folders = [path for path in paths if path.is_dir()]
        files = [path for path in paths if not path.is_dir()]
        self._listed = [as_bytes(folder).rstrip(b"/") + b"/" for folder in folders]
        self._named = {as_bytes(path) for path in files}
        opened = [path for path in files if container_kind(os.fsencode(path))]
        self._bases = list(dict.fromkeys([base, *folders, *prefixes, *_common_folder(files), *opened, *also]))
        self._alone = {path.name: as_bytes(path) for path in files}
        for name in {name for name, times in Counter(path.name for path in files).items() if times > 1}:
            del self._alone[name]
        self._work_dir = None if work_dir is None else os.path.realpath(os.fsencode(work_dir)).rstrip(b"/") + b"/"
        self._below: dict[bytes, bool] = {}
        self._own = OwnFiles()
        self._left_out = 0
        # Places are spelled as `place_in` does it: absolute paths, and locations in object stores.
        self._by_path: dict[bytes, str] = {}
        self._names: set[str] = set()
        self.missing: list[str] = []
        self.name = source.name

    @property
    def notes(self) -> list[str]:
        """What the source left out, and how many files of earlier runs were."""
        own = [f"{self._left_out} files that earlier runs wrote were left out"] if self._left_out else []
        return self._source.notes + own

    @property
    def bases(self) -> Sequence[str | Path]:
        """The folders and prefixes that relative names start at."""
        return self._bases

    def entries(self) -> Iterator[Entry]:
        """The source's entries in order, then the further files in theirs."""
        self._left_out = 0
        self.missing.clear()
        for entry in self._source.entries():
            if not is_remote(entry.uri) and self._is_result(local_path(container_of(entry.uri))):
                self._left_out += 1
            else:
                yield self._noted(entry)
        for name, entry in self._further():
            if self.resolve(name) is None:  # not a name for the same file as one before it
                if entry.error_code == "MISSING_FILE":
                    self.missing.append(name)
                yield self._noted(entry)

    def resolve(self, name: str) -> str | None:
        """The `filename` of the entry that a name means: relative, absolute, or as the results spell it.

        Raises:
            ValueError: for a name that is relative to several of the given folders.
        """
        first, *others = self._bases
        if (known := self._entry(name, first)) is not None:
            return known
        found = list(dict.fromkeys(filter(None, (self._entry(name, base) for base in others))))
        if len(found) > 1:
            raise ValueError(f"filename {name!r} is in several of the given folders: {found}; give it with its folder")
        if found:
            return found[0]
        if (known := self._entry(name, Path.cwd())) is not None:
            return known
        return name if name in self._names else self._by_path.get(self._alone.get(name, b""))

    def _entry(self, name: str, base: str | Path) -> str | None:
        paths = (place_in(base, spelling) for spelling in spellings(name))
        return next((self._by_path[path] for path in paths if path in self._by_path), None)

    def _further(self) -> Iterator[tuple[str, Entry]]:
        """The entries of named files that the source does not list; remote ones are asked for together."""
        unlisted = (name for name in self._more if self.resolve(name) is None)
        for remote, names in itertools.groupby(unlisted, key=self._is_remote):
            if remote:
                first, second = itertools.tee(names)
                base = self._bases[0]
                yield from zip(first, remote_entries((_normal(n), str(joined(base, n))) for n in second), strict=True)
            else:
                yield from ((name, self._local(name)) for name in names)

    def _is_remote(self, name: str) -> bool:
        return is_remote(joined(self._bases[0], name)) and not name.startswith("/")

    def _local(self, name: str) -> Entry:
        folders = [base for base in self._bases if isinstance(base, Path)]
        possible = [(spelling, base) for spelling in spellings(name) for base in [*folders, Path.cwd()]]
        spelling, base = next((p for p in possible if os.path.exists(p[1] / p[0])), possible[0])  # noqa: PTH110 any bytes
        return named_entry(display_name(os.fsencode(os.path.normpath(spelling))), as_bytes(base / spelling))

    def _is_result(self, path: bytes) -> bool:
        if path in self._named or not path.startswith(tuple(self._listed)):
            return False
        return self._in_work_dir(os.path.dirname(path)) or path in self._own  # noqa: PTH120 bytes

    def _in_work_dir(self, folder: bytes) -> bool:
        """Whether a listed folder is below work_dir, unless a folder that was asked for is."""
        if folder not in self._below:
            self._below[folder] = self._is_below(folder) and not any(map(self._is_below, self._listed))
        return self._below[folder]

    def _is_below(self, folder: bytes) -> bool:
        return self._work_dir is not None and (os.path.realpath(folder) + b"/").startswith(self._work_dir)

    def _noted(self, entry: Entry) -> Entry:
        self._by_path.setdefault(path_of(entry.uri), entry.filename)
        self._names.add(entry.filename)
        return entry


def _normal(name: str) -> str:
    return display_name(os.fsencode(name if is_remote(name) else os.path.normpath(name)))


def _common_folder(files: Sequence[Path]) -> list[Path]:
    return [Path(os.path.commonpath([path.parent for path in files]))] if files else []
