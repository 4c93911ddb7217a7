"""Remote inputs of a run, copied into its work_dir before they are read: `sync_s3_to_local` and what it deletes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.sources.copies import Copies
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.parts import container_of, moved
from fastdup_dagster.sources.paths import as_bytes, container_kind, to_uri
from fastdup_dagster.work_dir import WorkDir

DOWNLOADS = "downloads"


@dataclass(frozen=True)
class Copied:
    """The listing of a run, and where its bytes are.

    Attributes:
        manifest: the table `image_manifest`. Copies that stay are its files; of those that will be removed it keeps the
            remote place, which galleries go on reading from.
        copies: URI of the copy by URI of the file or container in the manifest, where they differ.
        downloaded: `delete_img`, `delete_tar`: of which there are copies to remove.
    """

    manifest: pl.DataFrame
    copies: Mapping[str, str] = field(default_factory=dict)
    downloaded: frozenset[str] = frozenset()
    _made: tuple[Path, ...] = ()
    _folder: Copies | None = None

    @classmethod
    def of(cls, manifest: pl.DataFrame, settings: RunSettings, work_dir: WorkDir) -> Copied:
        """Copies the remote files of a listing, if the settings say so; what fails is a row with a reason."""
        if not settings.sync_s3_to_local:
            return cls(manifest)
        files = _remote_files(manifest)
        if not files:
            return cls(manifest)
        folder = Copies(work_dir.root / DOWNLOADS)
        results = dict(zip(files, folder.make((uri, *known) for uri, known in files.items()), strict=True))
        made = {uri: path for uri, path in results.items() if isinstance(path, Path)}
        failed = {uri: _reason(error) for uri, error in results.items() if isinstance(error, OSError)}
        kind = {uri: "delete_tar" if container_kind(uri.encode()) else "delete_img" for uri in made}
        passing = {uri: path for uri, path in made.items() if getattr(settings, kind[uri])}
        stays = {uri: to_uri(as_bytes(path)) for uri, path in made.items() if uri not in passing}
        manifest = _with_errors(manifest, failed)
        places = pl.Series("uri", [moved(uri, stays) for uri in manifest["uri"]], dtype=pl.String)
        return cls(
            IMAGE_MANIFEST.frame(manifest.with_columns(places)),
            {uri: to_uri(as_bytes(path)) for uri, path in passing.items()},
            frozenset(kind[uri] for uri in passing),
            tuple(passing.values()),
            folder,
        )

    def remove(self) -> None:
        """Removes the copies that were made to be removed; never another file."""
        if self._folder is not None:
            self._folder.remove(self._made)


def _remote_files(manifest: pl.DataFrame) -> dict[str, tuple[str | None, int | None]]:
    """Etag and size of each remote file that can be read; of a container the size is not known."""
    known = manifest.filter(pl.col("error_code").is_null()).select("uri", "etag", "file_size")
    return {
        (file := container_of(uri)): (etag, size if file == uri else None)
        for uri, etag, size in known.iter_rows()
        if is_remote(uri)
    }


def _reason(error: OSError) -> tuple[str, str]:
    return "MISSING_FILE" if isinstance(error, FileNotFoundError) else "READ_ERROR", error.strerror or str(error)


def _with_errors(manifest: pl.DataFrame, failed: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
    found = [failed.get(container_of(uri), (None, None)) for uri in manifest["uri"]]
    columns = [
        pl.Series(name, [reason[place] for reason in found], pl.String).fill_null(manifest[name])
        for place, name in enumerate(("error_code", "error"))
    ]
    return IMAGE_MANIFEST.frame(manifest.with_columns(columns))
