"""Remote images of a run copied into its work_dir before they are read: V1's `sync_s3_to_local` and `delete_img`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.schemas import IMAGE_MANIFEST
from fastdup_dagster.sources.copies import Copies
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.sources.paths import as_bytes, to_uri
from fastdup_dagster.work_dir import WorkDir

DOWNLOADS = "downloads"


@dataclass(frozen=True)
class Copied:
    """The listing of a run, and where its bytes are.

    Attributes:
        manifest: the table `image_manifest`. Copies that stay are its files; of those that will be removed it keeps the
            remote place, which galleries go on reading from.
        copies: URI of the copy by URI of the manifest, where they differ.
    """

    manifest: pl.DataFrame
    copies: Mapping[str, str] = field(default_factory=dict)
    _made: tuple[Path, ...] = ()
    _folder: Copies | None = None

    @classmethod
    def of(cls, manifest: pl.DataFrame, settings: RunSettings, work_dir: WorkDir) -> Copied:
        """Copies the remote images of a listing, if the settings say so; what fails is a row with a reason."""
        if not settings.sync_s3_to_local:
            return cls(manifest)
        there = pl.Series([is_remote(uri) for uri in manifest["uri"]], dtype=pl.Boolean)
        remote = manifest.filter(there & manifest["error_code"].is_null())
        if remote.is_empty():
            return cls(manifest)
        folder = Copies(work_dir.root / DOWNLOADS)
        files = remote.unique("uri", maintain_order=True).select("uri", "etag", "file_size").rows()
        results = dict(zip((file[0] for file in files), folder.make(files), strict=True))
        made = {uri: path for uri, path in results.items() if isinstance(path, Path)}
        failed = {uri: _reason(error) for uri, error in results.items() if isinstance(error, OSError)}
        copies = {uri: to_uri(as_bytes(path)) for uri, path in made.items()}
        manifest = _with_errors(manifest, failed)
        if settings.delete_img:
            return cls(manifest, copies, tuple(made.values()), folder)
        local = pl.col("uri").replace(list(copies), list(copies.values()))
        return cls(IMAGE_MANIFEST.frame(manifest.with_columns(local)))

    def remove(self) -> None:
        """Removes the copies that were made to be removed; never another file."""
        if self._folder is not None:
            self._folder.remove(self._made)


def _reason(error: OSError) -> tuple[str, str]:
    return "MISSING_FILE" if isinstance(error, FileNotFoundError) else "READ_ERROR", error.strerror or str(error)


def _with_errors(manifest: pl.DataFrame, failed: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
    columns = []
    for place, name in enumerate(("error_code", "error")):
        found = pl.Series(name, [failed[uri][place] if uri in failed else None for uri in manifest["uri"]], pl.String)
        columns.append(found.fill_null(manifest[name]))
    return IMAGE_MANIFEST.frame(manifest.with_columns(columns))
