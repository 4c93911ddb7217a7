"""Drift against what is published: exact where it must be, and the same as scipy's statistic up to a bin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp

from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS
from fastdup_dagster.stages import drift
from fastdup_dagster.stages.drift import STATISTICS, embedding_drift, furthest_along, most_extreme, statistics_drift
from fastdup_dagster.storage import StagedTable, TableStore

KEY = "pets/train"


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path / "store")


def staged_stats(store: TableStore, **columns: np.ndarray) -> StagedTable:
    rows = len(next(iter(columns.values())))
    table = store.stage(IMG_STATS, KEY)
    table.write(IMG_STATS.frame({"index": range(rows), "source_key": [""] * rows} | columns))
    table.close()
    return table


def staged_vectors(store: TableStore, vectors: np.ndarray | list, model: str = "m@1") -> StagedTable:
    width = next((len(row) for row in vectors if row is not None), 2)
    rows = len(vectors)
    table = store.stage(EMBEDDINGS.with_embedding_width(width), KEY)
    values = pl.Series([None if row is None else [float(v) for v in row] for row in vectors])
    given = {"index": range(rows), "embedding": values.cast(pl.Array(pl.Float32, width)), "model": [model] * rows}
    codes = [None if row is not None else "CORRUPT_IMAGE" for row in vectors]
    table.write(table.schema.frame(given | {"source_key": [""] * rows, "error_code": codes}))
    table.close()
    return table


@pytest.mark.parametrize("shift", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("name", list(STATISTICS))
def test_the_distance_is_that_of_scipy_up_to_what_one_bin_holds(store, name: str, shift: float):
    rng = np.random.default_rng(3)
    axis = STATISTICS[name]
    middle, width = (np.log(axis.high) / 2, 1.0) if axis.log else (axis.high / 2, axis.high / 12)
    before, now = (rng.normal(middle + by * width, width, size) for by, size in ((0, 700), (shift, 500)))
    if axis.log:
        before, now = np.exp(before), np.exp(now)
    if name.startswith("img_"):
        before, now = before.round().clip(1).astype(int), now.round().clip(1).astype(int)
    staged_stats(store, **{name: before}).publish()
    moved = statistics_drift(staged_stats(store, **{name: now}), store, KEY)
    exact = ks_2samp(before, now).statistic
    assert moved.rows["what"].to_list() == [name]
    assert moved.rows["images"].to_list() == [500]
    assert moved.highest == pytest.approx(exact, abs=0.03)
    assert moved.highest <= exact + 1e-9
    assert moved.rows["published_median"][0] == pytest.approx(np.median(before), rel=0.02)


def test_the_statistic_that_moved_most_is_first_and_its_extreme_images_are_found(store):
    rng = np.random.default_rng(0)
    blur, mean = rng.uniform(500, 900, 100), rng.uniform(90, 160, 100)
    staged_stats(store, blur=blur, mean=mean).publish()
    now = staged_stats(store, blur=np.append(blur, [3.0, 1.0, 2.0] * 20), mean=np.append(mean, [130.0] * 60))
    moved = statistics_drift(now, store, KEY)
    assert moved.rows["what"][0] == "blur"
    assert moved.highest == pytest.approx(60 / 160, abs=0.01)
    assert most_extreme(now, moved, 2).rows() == [(101, 1.0), (104, 1.0)]
    bright = staged_stats(store, mean=np.append(mean, [250.0] * 60))
    moved = statistics_drift(bright, store, KEY)
    assert most_extreme(bright, moved, 1).rows() == [(100, 250.0)]


MOVES: list[tuple[Callable, Callable]] = [
    (statistics_drift, lambda store, seed: staged_stats(store, blur=np.random.default_rng(seed).random(9))),
    (embedding_drift, lambda store, seed: staged_vectors(store, np.random.default_rng(seed).random((9, 4)))),
]


@pytest.mark.parametrize(("measure", "stage"), MOVES)
def test_what_was_never_published_and_what_did_not_change_has_no_drift(store, measure, stage, monkeypatch):
    assert (measure(stage(store, 1), store, KEY).note, measure(stage(store, 1), store, KEY).highest) == (drift.FIRST, 0)
    stage(store, 1).publish()
    monkeypatch.setattr(store, "blocks", lambda *_: pytest.fail("the published table is not read"))
    same = measure(stage(store, 1), store, KEY)
    assert (same.note, same.highest) == (drift.UNCHANGED, 0)


def test_statistics_that_were_not_computed_are_not_compared(store):
    staged_stats(store, blur=np.ones(4)).publish()
    moved = statistics_drift(staged_stats(store, img_w=np.full(4, 7)), store, KEY)
    assert moved.note == "no statistics in both tables"


def test_the_drift_of_vectors_is_the_squared_distance_of_means_over_the_spread(store, monkeypatch):
    rng = np.random.default_rng(5)
    before, now = rng.normal(1.0, 0.5, (400, 8)), rng.normal(1.2, 0.5, (300, 8)) * [[1.5] * 4 + [1.0] * 4]
    staged_vectors(store, before).publish()
    table = staged_vectors(store, [*now, None, np.zeros(8)])
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (before, now)]
    means = [u.mean(axis=0) for u in units]
    spread = np.mean([((u - m) ** 2).sum(axis=1).mean() for u, m in zip(units, means, strict=True)])
    moved = embedding_drift(table, store, KEY)
    assert moved.highest == pytest.approx(((means[0] - means[1]) ** 2).sum() / spread, rel=1e-4)
    assert moved.rows.select("images", "published_images").row(0) == (300, 400)
    along = units[1] @ (means[1] - means[0])
    assert furthest_along(table, moved, 3)["index"].to_list() == list(np.argsort(-along)[:3])


def test_more_copies_of_one_image_are_no_drift(store):
    vector = [0.3, 0.1, 0.7]
    staged_vectors(store, [vector] * 3).publish()
    assert embedding_drift(staged_vectors(store, [vector] * 5), store, KEY).highest < 1e-6


def test_other_images_altogether_are_a_drift_of_many_spreads(store):
    rng = np.random.default_rng(6)
    staged_vectors(store, rng.normal([1, 0, 0], 0.1, (50, 3))).publish()
    assert embedding_drift(staged_vectors(store, rng.normal([0, 1, 0], 0.1, (50, 3))), store, KEY).highest > 10


@pytest.mark.parametrize(("width", "model"), [(4, "n@2"), (5, "m@1")])
def test_vectors_of_another_model_are_not_compared(store, width: int, model: str):
    staged_vectors(store, np.ones((3, 4))).publish()
    moved = embedding_drift(staged_vectors(store, np.ones((3, width)), model), store, KEY)
    assert moved.rows.is_empty()
    assert moved.note == f"published by another model: m@1 with 4 numbers; this one: {model} with {width} numbers"


def test_no_vectors_at_all_pass(store):
    staged_vectors(store, [None, [0.0, 0.0]]).publish()
    assert embedding_drift(staged_vectors(store, [[1.0, 1.0]]), store, KEY).note == "no vectors in both tables"


def test_a_table_whose_images_all_failed_is_compared_with_nothing_before_or_after(store):
    staged_vectors(store, [None]).publish()
    assert embedding_drift(staged_vectors(store, [[1.0, 1.0]]), store, KEY).note == "no vectors in both tables"
    staged_vectors(store, [[1.0, 1.0]]).publish()
    moved = embedding_drift(staged_vectors(store, [None]), store, KEY)
    assert moved.note == "no vectors in both tables"
    assert furthest_along(staged_vectors(store, [None]), moved, 3).is_empty()


def test_a_damaged_published_table_is_nothing_to_compare_with(store):
    """Else a pass that makes it anew would fail of what it replaces."""
    random = np.random.default_rng(0)
    staged_stats(store, blur=random.uniform(1, 900, 400)).publish()
    staged_vectors(store, random.normal(size=(400, 8)).tolist()).publish()
    for table, column in (("img_stats", "blur"), ("embeddings", "embedding")):
        path = store.path(table, KEY)
        with pq.ParquetFile(path) as file:
            columns = [file.metadata.row_group(0).column(place) for place in range(file.metadata.num_columns)]
        place = next(c for c in columns if c.path_in_schema.split(".")[0] == column)
        content = bytearray(path.read_bytes())
        content[place.data_page_offset + place.total_compressed_size // 2] ^= 255
        path.write_bytes(content)
    moved = [
        statistics_drift(staged_stats(store, blur=random.uniform(1, 900, 400)), store, KEY),
        embedding_drift(staged_vectors(store, random.normal(size=(400, 8)).tolist()), store, KEY),
    ]
    assert [drift.highest for drift in moved] == [0, 0]
    assert all(drift.note.startswith("nothing to compare with: ") and "is damaged" in drift.note for drift in moved)
