"""A run that is killed at any moment is finished by the next one, which repeats unfinished parts only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.cli import main
from fastdup_dagster.schemas import TABLES
from fastdup_dagster.storage import TableStore, table_digest

KEY = "pets/all"
# The command line, in a process that kills itself right after the n-th of some event.
VICTIM = """
    import os, signal, sys
    from fastdup_dagster import storage
    from fastdup_dagster.cli import main
    from fastdup_dagster.stages import embedding_backend, features, galleries, table_plan

    event, left = sys.argv.pop(1), int(sys.argv.pop(1))

    def watched(name, call):
        def instead(*args, **options):
            global left
            result = call(*args, **options)
            if name == event:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result
        return instead

    storage.StagedTable.publish = watched("publish", storage.StagedTable.publish)
    table_plan.TablePlan.flush = watched("flush", table_plan.TablePlan.flush)
    embedding_backend._PART_SECONDS = embedding_backend._PART_SHARE = 0
    galleries.write_page = watched("page", galleries.write_page)
    main()
"""
# Each run goes on from where the one before it was killed: what has been published then.
MOMENTS = [
    ("between assets", "publish", 1, {"image_manifest"}),
    ("within the decode pass", "flush", 2, {"image_manifest"}),
    ("between the two tables of the decode pass", "publish", 2, {"image_manifest", "embeddings"}),
    ("while the pages are made", "page", 3, set(SPLIT_ASSETS) - {"galleries"}),
]


def digests(store: TableStore) -> dict[str, str]:
    return {table: table_digest(TABLES[table], store.read(table, KEY)) for table in SPLIT_ASSETS}


@pytest.fixture
def images(tmp_path: Path, photos) -> Path:
    photos(tmp_path / "images", 40)
    shutil.copy(tmp_path / "images" / "photo-0003.jpg", tmp_path / "images" / "copy.jpg")
    return tmp_path / "images"


def test_a_killed_run_is_finished_by_the_next_one(tmp_path, images, monkeypatch):
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    arguments = ["run", str(images), "--name", "pets", "--num-threads", "1", "--json"]
    home = tmp_path / "home"
    store = TableStore(home / "store")
    for moment, event, count, published in MOMENTS:
        code = "\n".join(line[4:] for line in VICTIM.splitlines())
        victim = [sys.executable, "-c", code, event, str(count), *arguments]
        done = subprocess.run(
            victim, env={**os.environ, "DAGSTER_HOME": str(home)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, (moment, done.stderr)
        assert {table for table in SPLIT_ASSETS if store.exists(table, KEY)} == published, moment
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["all"]["features"]["inferred_now"] == 0
    with dg.DagsterInstance.get() as instance:
        runs = [run.status for run in instance.get_runs() if run.job_name == "analyse_split"]
    assert runs == [dg.DagsterRunStatus.SUCCESS, *[dg.DagsterRunStatus.FAILURE] * len(MOMENTS)]

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "undisturbed"))
    assert CliRunner().invoke(main, arguments).exit_code == 0
    undisturbed = TableStore(tmp_path / "undisturbed" / "store")
    assert digests(store) == digests(undisturbed)
    assert page_names(store) == page_names(undisturbed)
    assert left_over(store) == left_over(undisturbed) == []


def page_names(store: TableStore) -> set[str]:
    folder = store.pages(KEY)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def left_over(store: TableStore) -> list[Path]:
    return [path for path in (store.root / "_staging").rglob("*") if path.is_file() and path.suffix != ".lock"]
