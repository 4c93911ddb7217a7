"""A pass that is killed at any moment is finished by the next one, to the same tables, without repeating its parts."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS
from fastdup_dagster.settings import settings_from
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore, table_digest

KEY = "pets/train"
IMAGES = 150
# Where the process kills itself. Parts are renamed into place, one table after the other, after every chunk.
MOMENTS = {
    "before any part": ("rename", 1),
    "between the tables of the first part": ("rename", 2),
    "before a later part": ("rename", 5),
    "after some chunks": ("progress", 3),
    "as a finished table is closed": ("close", 1),
    "as the other table is closed": ("close", 2),
    "before publishing": ("replace", 1),
    "between publishing the two tables": ("replace", 2),
    "before the parts are removed": ("remove", 1),
}
# What works on a partition and kills itself at the n-th of some event.
VICTIM = """
    import os, signal, sys
    from pathlib import Path
    from fastdup_dagster import storage
    from fastdup_dagster.models import load_model
    from fastdup_dagster.settings import settings_from
    from fastdup_dagster.sources import open_source
    from fastdup_dagster.stages import embedding_backend, features
    from fastdup_dagster.stages.image_manifest import list_images

    images, root, key, event, count = sys.argv[1:]
    left = int(count)

    def watched(name, call):
        def instead(*args, **options):
            global left
            if name == event:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)
        return instead

    Path.rename = watched("rename", Path.rename)
    Path.replace = watched("replace", Path.replace)
    storage.StagedTable.close = watched("close", storage.StagedTable.close)
    features.remove_tree = watched("remove", features.remove_tree)
    embedding_backend._PART_SECONDS = embedding_backend._PART_SHARE = 0
    settings = settings_from({"num_threads": 2})
    manifest = list_images(open_source(images), settings).frame
    progress = watched("progress", lambda done, total: None)
    store = storage.TableStore(root)
    with features.compute_features(manifest, settings, load_model(settings), store, key, progress=progress) as made:
        for table in made.staged.values():
            table.publish()
        made.finish()
"""


def digests(store: TableStore) -> dict[str, str]:
    return {schema.name: table_digest(schema, store.read(schema.name, KEY)) for schema in (EMBEDDINGS, IMG_STATS)}


def finish(folder: Path, store: TableStore, model: EmbeddingModel) -> int:
    """Runs a pass to its end; gives the images that went through the model."""
    settings = settings_from({"num_threads": 2})
    manifest = list_images(open_source(folder), settings).frame
    with compute_features(manifest, settings, model, store, KEY) as features:
        for table in features.staged.values():
            table.publish()
        features.finish()
    return features.summary.inferred


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "images"
    folder.mkdir()
    for seed in range(IMAGES):
        patches = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed:03}.png"), cv2.resize(patches, (40, 30), interpolation=cv2.INTER_CUBIC))
    (folder / "text.jpg").write_text("this is no image")
    return folder


@pytest.fixture(scope="module")
def undisturbed(images: Path, model: EmbeddingModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = TableStore(tmp_path_factory.mktemp("undisturbed"))
    assert finish(images, store, model) == IMAGES
    return digests(store)


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_the_next_pass_finishes_and_repeats_no_part(
    images: Path, undisturbed: dict[str, str], model: EmbeddingModel, tmp_path: Path, moment: str
) -> None:
    event, count = MOMENTS[moment]
    script = textwrap.dedent(VICTIM)
    ended = subprocess.run(
        [sys.executable, "-c", script, images, tmp_path, KEY, event, str(count)], capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()

    store = TableStore(tmp_path)
    parts = tmp_path.glob("_staging/**/embeddings/**/part-*.arrow")
    known = set() if not store.exists("embeddings", KEY) else set(store.read("embeddings", KEY)["index"])
    known.update(index for part in parts for index in pl.read_ipc(part).drop_nulls("embedding")["index"])
    known.discard(IMAGES)  # the text file
    if event not in ("rename", "progress"):
        assert len(known) == IMAGES
    assert finish(images, store, model) == IMAGES - len(known)
    assert digests(store) == undisturbed
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == [f"embeddings/{KEY}.parquet", f"img_stats/{KEY}.parquet"]


def test_a_kill_leaves_the_tables_that_were_published_before_as_they_were(
    images: Path, undisturbed: dict[str, str], model: EmbeddingModel, tmp_path: Path
) -> None:
    store = TableStore(tmp_path)
    finish(images, store, model)
    for event in ("close", "replace"):
        script = textwrap.dedent(VICTIM)
        ended = subprocess.run([sys.executable, "-c", script, images, tmp_path, KEY, event, "1"], capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        assert digests(store) == undisturbed
