"""A small data set of all kinds of trouble, and the pass over it."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.settings import settings_from
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.embedding_backend import EmbeddingBackend
from fastdup_dagster.stages.features import FeatureSummary, compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore

KEY = "pets/train"


@dataclass
class Mixed:
    """Photos, copies, a broken file, an archive, and crops of one photo; 60 rows, of which 56 go through the model."""

    manifest: pl.DataFrame
    model: EmbeddingModel
    rows: int = 60
    distinct: int = 56

    def run(
        self,
        root: Path,
        backend: EmbeddingBackend | None = None,
        progress: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> tuple[dict[str, str], FeatureSummary]:
        """Digests of the tables that are published in a store, and what the pass did."""
        store, chosen = TableStore(root), settings_from({"num_threads": 2, **settings})
        given = (self.manifest, chosen, self.model, store, KEY)
        with compute_features(*given, progress=progress, backend=backend) as features:
            for table in features.staged.values():
                table.publish()
            features.finish()
        assert not [path for path in (root / "_staging").rglob("*") if path.is_file()]
        return {name: table.digest for name, table in features.staged.items()}, features.summary


@pytest.fixture(scope="package")
def mixed(tmp_path_factory: pytest.TempPathFactory, photos: Callable[..., list[Path]], model: EmbeddingModel) -> Mixed:
    folder = tmp_path_factory.mktemp("mixed") / "in"
    made = photos(folder, 42)
    for number, original in enumerate((made[0], made[41])):
        shutil.copy(original, folder / f"copy-{number}.jpg")
    (folder / "text.jpg").write_text("this is no image")
    with tarfile.open(folder.parent / "some.tar", "w") as archive:
        for photo in photos(folder.parent / "packed", 8, first=100):
            archive.add(photo, photo.name)
    listed, members = (
        list_images(open_source(place), settings_from({})).frame for place in (folder, folder.parent / "some.tar")
    )
    boxes = [[0.0, 0.0, 50.0 + 2 * number, 60.0] for number in range(6)] + [[0.0, 0.0, 50.0, 60.0]]
    crops = listed[[3] * len(boxes)].with_columns(pl.Series("box", boxes, dtype=listed.schema["box"]))
    manifest = pl.concat([listed, members, crops]).with_columns(pl.int_range(pl.len()).alias("index"))
    return Mixed(manifest, model)


@pytest.fixture(scope="package")
def local(mixed: Mixed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a pass by threads of this process."""
    digests, summary = mixed.run(tmp_path_factory.mktemp("local"))
    assert (summary.rows, summary.inferred) == (mixed.rows, mixed.distinct)
    return digests
