"""The decode pass: a row per instance, failures are rows, and nothing that is known is computed again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from fastdup_dagster.images import ImageError
from fastdup_dagster.models import EmbeddingModel, load_model
from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS
from fastdup_dagster.settings import settings_from
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages import decode_worker, read_ahead
from fastdup_dagster.stages.features import FEATURE_TABLES, FeatureSummary, compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.storage import TableStore, table_digest

KEY = "pets/train"
BAD = {
    "empty.jpg": "ZERO_SIZE_FILE",
    "gone.jpg": "MISSING_FILE",
    "text.jpg": "CORRUPT_IMAGE",
    "tiny.png": "IMAGE_TOO_SMALL",
}


class Watched:
    """A model that counts the images it is given, and may misbehave."""

    def __init__(self, model: EmbeddingModel, change: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._model, self._change = model, change
        self.images = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.images += len(images)
        vectors = self._model.embed(images)
        return vectors if self._change is None else self._change(vectors)


@dataclass
class Bench:
    """A folder of images, a store, and what the passes over them really read and infer."""

    folder: Path
    store: TableStore
    model: EmbeddingModel
    reads: list[str] = field(default_factory=list)
    inferred: int = 0

    def manifest(self) -> pl.DataFrame:
        return list_images(open_source(self.folder), settings_from({}), split="train").frame

    def run(
        self,
        tables: tuple[str, ...] = FEATURE_TABLES,
        publish: bool = True,
        model: Any = None,
        recompute: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> FeatureSummary:
        chosen = settings_from({"num_threads": 2, **settings})
        watched = Watched(model or self.model)
        self.reads.clear()
        with compute_features(
            self.manifest(), chosen, watched, self.store, KEY, tables=tables, progress=progress, recompute=recompute
        ) as features:
            if publish:
                for table in features.staged.values():
                    table.publish()
                features.finish()
        self.inferred = watched.images
        assert features.summary.inferred == watched.images
        return features.summary

    def table(self, name: str) -> pl.DataFrame:
        return self.store.read(name, KEY)

    def digests(self) -> dict[str, str]:
        width = self.table("embeddings").schema["embedding"].size
        schemas = (EMBEDDINGS.with_embedding_width(width), IMG_STATS)
        return {schema.name: table_digest(schema, self.table(schema.name)) for schema in schemas}


def write(folder: Path, count: int, first: int = 0) -> None:
    """Small pictures of several formats and sizes, every fifth of them over 224 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        patches = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), dtype=np.uint8)
        size = (300, 240) if seed % 5 == 0 else (40, 30)
        cv2.imwrite(
            str(folder / f"{seed:03}.{('jpg', 'png', 'bmp')[seed % 3]}"),
            cv2.resize(patches, size, interpolation=cv2.INTER_CUBIC),
        )


def break_some(folder: Path) -> None:
    (folder / "empty.jpg").touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "text.jpg").write_text("this is no image")
    cv2.imwrite(str(folder / "tiny.png"), np.zeros((5, 5, 3), np.uint8))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model: EmbeddingModel) -> Bench:
    """24 good images and four bad ones, published once; tests work on copies."""
    root = tmp_path_factory.mktemp("features")
    write(root / "images", 24)
    break_some(root / "images")
    bench = Bench(root / "images", TableStore(root / "store"), model)
    bench.run()
    return bench


@pytest.fixture
def bench(done: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A copy of it whose tables know the copied files."""
    shutil.copytree(done.folder, tmp_path / "images", symlinks=True)
    shutil.copytree(done.store.root, tmp_path / "store")
    copied = Bench(tmp_path / "images", TableStore(tmp_path / "store"), done.model)
    copied.run()  # the same bytes at another place: read once more, known by their hash
    assert copied.inferred == 0
    read = read_ahead.read_bytes
    monkeypatch.setattr(read_ahead, "read_bytes", lambda uri: copied.reads.append(uri) or read(uri))
    return copied


def test_every_instance_has_a_row_in_both_tables_with_its_id(done: Bench) -> None:
    manifest = done.manifest()
    assert len(manifest) == 28
    for name in FEATURE_TABLES:
        assert done.table(name)["index"].to_list() == manifest["index"].to_list()


def test_failures_are_rows_with_code_and_reason_in_both_tables(done: Bench) -> None:
    names = done.manifest().select("index", "filename")
    for name in FEATURE_TABLES:
        failed = done.table(name).filter(pl.col("error_code").is_not_null()).join(names, on="index")
        assert dict(failed.select("filename", "error_code").iter_rows()) == BAD
        assert failed["error"].null_count() == 0
    embeddings, stats = (done.table(name) for name in FEATURE_TABLES)
    assert embeddings["embedding"].is_null().equals(embeddings["error_code"].is_not_null())
    assert stats["thumbnail"].is_null().equals(stats["error_code"].is_not_null())


def test_the_summary_counts_what_was_done(done: Bench, tmp_path: Path) -> None:
    fresh = Bench(done.folder, TableStore(tmp_path), done.model)
    summary = fresh.run()
    assert (summary.rows, summary.computed, summary.inferred, summary.reused) == (28, 26, 24, 0)
    assert (summary.nonfinite, summary.width) == (0, 576)
    assert summary.invalid.columns == ["index", "filename", "error_code", "error"]
    assert dict(summary.invalid.select("filename", "error_code").iter_rows()) == BAD
    assert fresh.digests() == done.digests()


def test_valid_rows_are_complete(done: Bench) -> None:
    stats = done.table("img_stats").filter(pl.col("error_code").is_null())
    always = [
        "content_hash",
        "pixel_hash",
        "format",
        "img_w",
        "img_h",
        "has_alpha",
        "file_size",
        "blur",
        "mean",
        "unique",
    ]
    assert sum(stats.select(always).null_count().row(0)) == 0
    assert set(stats["format"]) == {"jpeg", "png", "bmp"}
    assert {(40, 30), (300, 240)} == set(stats.select("img_w", "img_h").iter_rows())
    vectors = done.table("embeddings")["embedding"].drop_nulls().to_numpy()
    assert vectors.shape == (24, 576)
    assert np.isfinite(vectors).all()
    assert done.table("embeddings")["model"].unique().to_list() == [done.model.id]


def test_a_second_run_reads_nothing_and_infers_nothing(bench: Bench) -> None:
    before = bench.digests()
    summary = bench.run()
    assert (bench.reads, summary.inferred, summary.computed) == ([], 0, 0)
    assert summary.reused == 26
    assert bench.digests() == before


def test_a_touched_file_costs_a_read_and_no_inference(bench: Bench) -> None:
    before = bench.digests()
    os.utime(bench.folder / "003.jpg", ns=(5, 5))
    os.utime(bench.folder / "text.jpg", ns=(5, 5))
    summary = bench.run()
    assert (len(bench.reads), summary.inferred, summary.computed) == (2, 0, 0)
    assert bench.digests() == before
    bench.run()
    assert bench.reads == []


def test_a_renamed_file_costs_a_read_and_no_inference(bench: Bench) -> None:
    (bench.folder / "003.jpg").rename(bench.folder / "zzz.jpg")
    summary = bench.run()
    assert (len(bench.reads), summary.inferred, summary.computed) == (1, 0, 0)


def test_a_copy_costs_a_read_and_no_inference(bench: Bench) -> None:
    shutil.copy(bench.folder / "003.jpg", bench.folder / "copy.jpg")
    summary = bench.run()
    assert (len(bench.reads), summary.inferred, summary.computed) == (1, 0, 0)
    stats = bench.table("img_stats").join(bench.manifest().select("index", "filename"), on="index")
    pair = stats.filter(pl.col("filename").is_in(["003.jpg", "copy.jpg"]))
    assert pair.height == 2
    assert pair.drop("index", "filename", "source_key")[0].equals(pair.drop("index", "filename", "source_key")[1])


def test_copies_within_one_pass_are_inferred_once_and_have_equal_rows(done: Bench, tmp_path: Path) -> None:
    write(tmp_path / "images", 3)
    for number in range(90):  # more than a chunk, so that owner and copy meet in different threads
        shutil.copy(tmp_path / "images" / "001.png", tmp_path / "images" / f"copy-{number:02}.png")
    fresh = Bench(tmp_path / "images", TableStore(tmp_path / "store"), done.model)
    assert fresh.run().inferred == 3
    for name, column in (("embeddings", "embedding"), ("img_stats", "thumbnail")):
        rows = fresh.table(name)
        copies = rows.filter(rows["content_hash"] == rows["content_hash"][1])
        assert len(copies) == 91
        assert copies["index"].is_unique().all()
        assert copies["error_code"].null_count() == 91
        assert (copies[column].to_numpy() == copies[column].to_numpy()[0]).all()


def test_what_the_listing_refuses_has_no_row_from_an_earlier_listing(bench: Bench) -> None:
    listed = bench.manifest().with_columns(
        pl.when(pl.col("index") == 0).then(pl.lit("MISSING_ANNOTATION")).otherwise("error_code").alias("error_code")
    )
    with compute_features(listed, settings_from({}), bench.model, bench.store, KEY) as features:
        for table in features.staged.values():
            first = table.scan().head(1).collect()
            assert first["error_code"].item() == "MISSING_ANNOTATION"
        assert features.staged["embeddings"].scan().head(1).collect()["embedding"].item() is None


def test_a_changed_file_is_computed_anew_also_at_equal_size_and_name(bench: Bench) -> None:
    path = bench.folder / "002.bmp"
    data = bytearray(path.read_bytes())
    data[-100:] = bytes(255 - value for value in data[-100:])
    path.write_bytes(data)
    before = bench.table("img_stats")
    summary = bench.run()
    assert (len(bench.reads), summary.inferred, summary.computed) == (1, 1, 1)
    changed = (before["pixel_hash"] != bench.table("img_stats")["pixel_hash"]).arg_true().to_list()
    assert changed == [2]


def test_one_added_file_costs_one_inference_although_all_later_ids_shift(bench: Bench) -> None:
    before = {name: bench.table(name).drop("index", "source_key") for name in FEATURE_TABLES}
    write(bench.folder / "000-before-all", 1, first=77)
    summary = bench.run()
    assert (len(bench.reads), summary.inferred, summary.computed, summary.reused) == (1, 1, 1, 26)
    added = bench.manifest()["filename"].to_list().index("000-before-all/077.bmp")
    for name in FEATURE_TABLES:
        after = bench.table(name)
        assert after["index"].to_list() == list(range(29))
        rest = after.filter(pl.col("index") != added).drop("index", "source_key")
        assert rest.equals(before[name])


def test_a_removed_file_costs_nothing(bench: Bench) -> None:
    (bench.folder / "000.jpg").unlink()
    summary = bench.run()
    assert (bench.reads, summary.inferred, summary.rows) == ([], 0, 27)


def test_a_repaired_file_is_computed(bench: Bench) -> None:
    shutil.copy(bench.folder / "000.jpg", bench.folder / "not-seen-before.jpg")
    cv2.imwrite(str(bench.folder / "text.jpg"), np.full((30, 40, 3), 77, np.uint8))
    (bench.folder / "gone.jpg").unlink()
    cv2.imwrite(str(bench.folder / "gone.jpg"), np.full((30, 40, 3), 99, np.uint8))
    summary = bench.run()
    assert summary.inferred == 2
    assert summary.invalid["error_code"].sort().to_list() == ["IMAGE_TOO_SMALL", "ZERO_SIZE_FILE"]


def test_a_file_that_could_not_be_read_is_tried_again_the_next_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bench.digests()
    read = read_ahead.read_bytes

    def refuse(uri: str) -> bytes:
        if uri.endswith("003.jpg"):
            raise ImageError("READ_ERROR", "Permission denied")
        return read(uri)

    with monkeypatch.context() as patch:
        patch.setattr(read_ahead, "read_bytes", refuse)
        summary = bench.run(recompute=True)
    assert summary.invalid.filter(pl.col("filename") == "003.jpg")["error_code"].to_list() == ["READ_ERROR"]
    for name in FEATURE_TABLES:
        assert bench.table(name).filter(pl.col("index") == 3)["error"].to_list() == ["Permission denied"]
    summary = bench.run()
    assert (len(bench.reads), summary.inferred) == (1, 1)
    assert bench.digests() == expected


def test_a_file_that_goes_away_between_listing_and_reading_is_a_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = bench.manifest()
    (bench.folder / "003.jpg").unlink()
    os.utime(bench.folder / "004.png", ns=(5, 5))
    monkeypatch.setattr(Bench, "manifest", lambda _: manifest)
    summary = bench.run(recompute=True)
    assert summary.invalid.filter(pl.col("filename") == "003.jpg")["error_code"].to_list() == ["MISSING_FILE"]


def test_another_model_computes_the_embeddings_and_leaves_the_statistics(bench: Bench) -> None:
    wide = load_model(settings_from({"d": 960}))
    stats = bench.digests()["img_stats"]
    summary = bench.run(tables=("embeddings",), model=wide, d=960)
    assert (summary.inferred, summary.width) == (24, 960)
    assert bench.table("embeddings").schema["embedding"] == pl.Array(pl.Float32, 960)
    assert bench.digests()["img_stats"] == stats
    summary = bench.run(model=wide, d=960)
    assert (summary.inferred, summary.computed) == (0, 0)
    assert bench.digests()["img_stats"] == stats


def test_other_statistics_are_computed_without_inference(bench: Bench) -> None:
    embeddings = bench.digests()["embeddings"]
    summary = bench.run(run_advanced_stats=True)
    assert (summary.inferred, summary.computed) == (0, 26)
    assert bench.table("img_stats")["mean_hue"].null_count() == 4
    assert bench.digests()["embeddings"] == embeddings


def test_without_statistics_hashes_and_thumbnails_are_there_all_the_same(bench: Bench) -> None:
    bench.run(run_stats=False)
    stats = bench.table("img_stats")
    assert stats.select("blur", "mean", "unique", "is_blurry").null_count().row(0) == (28, 28, 28, 28)
    assert stats.select("content_hash", "thumbnail", "img_w").null_count().row(0) == (2, 4, 4)


def test_only_the_table_that_is_asked_for_is_made(bench: Bench) -> None:
    fresh = Bench(bench.folder, TableStore(bench.store.root / "fresh"), bench.model)
    assert fresh.run(tables=("img_stats",)).inferred == 0
    assert not fresh.store.exists("embeddings", KEY)
    assert table_digest(IMG_STATS, fresh.table("img_stats")) == bench.digests()["img_stats"]


def test_flags_follow_their_thresholds_without_a_read(bench: Bench) -> None:
    stats = bench.table("img_stats").filter(pl.col("error_code").is_null())
    thresholds = {
        "blur_threshold": stats["blur"].median(),
        "darkness_threshold": stats["mean"].quantile(0.25),
        "brightness_threshold": stats["mean"].quantile(0.75),
    }
    before = bench.digests()
    summary = bench.run(**thresholds)
    assert (bench.reads, summary.computed) == ([], 0)
    flags = bench.table("img_stats").filter(pl.col("error_code").is_null())
    assert flags["is_blurry"].equals((stats["blur"] < thresholds["blur_threshold"]).alias("is_blurry"))
    assert flags["is_dark"].equals((stats["mean"] < thresholds["darkness_threshold"]).alias("is_dark"))
    assert flags["is_bright"].equals((stats["mean"] > thresholds["brightness_threshold"]).alias("is_bright"))
    assert 0 < flags["is_blurry"].sum() < 24
    assert bench.digests()["img_stats"] != before["img_stats"]
    assert bench.digests()["embeddings"] == before["embeddings"]


def test_a_lower_limit_of_pixels_makes_large_images_invalid_and_back(bench: Bench) -> None:
    before = bench.digests()
    summary = bench.run(max_pixels=10_000)
    assert (
        summary.invalid["error_code"].value_counts().filter(pl.col("error_code") == "IMAGE_TOO_LARGE")["count"].item()
        == 5
    )
    bench.run()
    assert bench.digests() == before


def test_recompute_computes_everything_again_and_gets_the_same(bench: Bench) -> None:
    before = bench.digests()
    summary = bench.run(recompute=True)
    assert (summary.inferred, summary.reused) == (24, 0)
    assert bench.digests() == before


def test_recompute_takes_nothing_from_an_unfinished_pass_either(bench: Bench) -> None:
    write(bench.folder, 3, first=90)
    bench.run(publish=False)
    summary = bench.run(recompute=True)
    assert (summary.inferred, summary.reused) == (27, 0)


@pytest.mark.parametrize("threads", [1, 4])
def test_digests_do_not_depend_on_threads(done: Bench, tmp_path: Path, threads: int) -> None:
    fresh = Bench(done.folder, TableStore(tmp_path), done.model)
    fresh.run(num_threads=threads)
    assert fresh.digests() == done.digests()


def test_an_image_alone_has_the_row_that_it_has_among_others(done: Bench, tmp_path: Path) -> None:
    for name in ("000.jpg", "007.png"):
        (tmp_path / name / "images").mkdir(parents=True)
        shutil.copy(done.folder / name, tmp_path / name / "images")
        alone = Bench(tmp_path / name / "images", TableStore(tmp_path / name / "store"), done.model)
        alone.run()
        for table in FEATURE_TABLES:
            row = done.table(table).filter(pl.col("index") == int(name[:3])).drop("index", "source_key")
            assert alone.table(table).drop("index", "source_key").equals(row)


def test_progress_grows_and_ends_at_the_total(done: Bench, tmp_path: Path) -> None:
    write(tmp_path / "images", 70)
    seen: list[tuple[int, int]] = []
    fresh = Bench(tmp_path / "images", TableStore(tmp_path / "store"), done.model)
    fresh.run(progress=lambda ready, total: seen.append((ready, total)))
    assert {total for _, total in seen} == {70}
    ready = [ready for ready, _ in seen]
    assert ready == sorted(set(ready))
    assert ready[-1] == 70


def test_nothing_is_published_unless_asked_and_no_staged_file_stays(bench: Bench) -> None:
    before = bench.digests()
    write(bench.folder, 1, first=90)
    bench.run(publish=False)
    assert bench.digests() == before
    assert not list(bench.store.root.glob("_staging/**/*.parquet"))


def test_after_publishing_no_file_of_the_work_stays(bench: Bench) -> None:
    write(bench.folder, 1, first=90)
    bench.run()
    files = [path.relative_to(bench.store.root).as_posix() for path in bench.store.root.rglob("*") if path.is_file()]
    assert sorted(files) == [f"embeddings/{KEY}.parquet", f"img_stats/{KEY}.parquet"]


def test_an_unpublished_pass_is_not_done_twice(bench: Bench) -> None:
    write(bench.folder, 3, first=90)
    assert bench.run(publish=False).inferred == 3
    assert bench.run().inferred == 0


def test_a_pass_of_one_table_leaves_what_another_pass_did_for_the_other(bench: Bench) -> None:
    write(bench.folder, 3, first=90)
    bench.run(publish=False)
    assert bench.inferred == 3
    bench.run(tables=("img_stats",))
    assert (bench.inferred, bench.reads) == (0, [])
    work = bench.store.staging("features", KEY)
    assert list(work.rglob("*.arrow"))
    assert not (work / "img_stats").exists()
    strangers = [work / "notes.txt", next((work / "embeddings").iterdir()) / "fetched.parquet"]
    for path in strangers:
        path.touch()
    bench.run(tables=("img_stats",), recompute=True)
    assert len(bench.reads) == len(set(bench.manifest().filter(pl.col("error_code").is_null())["uri"]))
    assert not any(path.exists() for path in strangers)
    bench.run()
    assert (bench.inferred, bench.reads) == (0, [])
    assert not work.exists()


@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="this Arrow has no jemalloc")
def test_a_pass_settles_the_allocator_of_an_arrow_that_was_there_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pa.default_memory_pool()
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    pa.set_memory_pool(pa.mimalloc_memory_pool())
    try:
        bench.run()
        assert pa.default_memory_pool().backend_name == "jemalloc"
    finally:
        pa.set_memory_pool(before)


class Stopped(Exception):
    pass


def test_a_pass_that_was_stopped_goes_on_where_it_was(done: Bench, tmp_path: Path) -> None:
    write(tmp_path / "images", 100)
    undisturbed = Bench(tmp_path / "images", TableStore(tmp_path / "undisturbed"), done.model)
    undisturbed.run()
    stopped = Bench(tmp_path / "images", TableStore(tmp_path / "stopped"), done.model)

    def stop(ready: int, _: int) -> None:
        if ready >= 64:
            raise Stopped

    with pytest.raises(Stopped):
        stopped.run(progress=stop)
    assert not stopped.store.exists("embeddings", KEY)
    kept = sum(pl.read_ipc(part).height for part in stopped.store.root.glob("_staging/**/embeddings/**/part-*.arrow"))
    assert kept >= 64
    summary = stopped.run()
    assert (summary.inferred, summary.reused) == (100 - kept, kept)
    assert stopped.digests() == undisturbed.digests()


def test_an_error_of_the_model_ends_the_pass_and_blames_no_image(bench: Bench) -> None:
    calls = []

    def fail_once(vectors: np.ndarray) -> np.ndarray:
        calls.append(len(vectors))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return vectors

    before = bench.digests()
    with pytest.raises(RuntimeError, match="out of memory"):
        bench.run(model=Watched(bench.model, fail_once), recompute=True)
    assert bench.digests() == before
    bench.run(recompute=True)
    assert bench.digests() == before


def test_a_vector_that_is_zero_or_not_finite_makes_its_instance_invalid_with_a_reason(
    done: Bench, tmp_path: Path
) -> None:
    def spoil(vectors: np.ndarray) -> np.ndarray:
        vectors = vectors.copy()
        vectors[0] = 0
        if len(vectors) > 2:
            vectors[1, 5], vectors[2, 7] = np.nan, np.inf
        return vectors

    write(tmp_path / "images", 4, first=1)
    fresh = Bench(tmp_path / "images", TableStore(tmp_path / "store"), done.model)
    summary = fresh.run(model=Watched(done.model, spoil), num_threads=1)
    assert summary.nonfinite == 3
    table = fresh.table("embeddings")
    assert table["error_code"].to_list() == ["INVALID_EMBEDDING"] * 3 + [None]
    assert table["embedding"].is_null().to_list() == [True, True, True, False]
    assert fresh.table("img_stats")["error_code"].to_list() == [None] * 4
    assert fresh.run(model=done.model).inferred == 0


def test_an_unexpected_error_costs_its_own_row_only(
    done: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "images", 6)
    target = (tmp_path / "images" / "002.bmp").read_bytes()
    decode = decode_worker.decode

    def explode(data: bytes, *args: Any, **options: Any) -> Any:
        if data == target:
            raise KeyError("surprise")
        return decode(data, *args, **options)

    monkeypatch.setattr(decode_worker, "decode", explode)
    fresh = Bench(tmp_path / "images", TableStore(tmp_path / "store"), done.model)
    assert fresh.run().inferred == 5
    for name in FEATURE_TABLES:
        assert fresh.table(name)["error_code"].to_list() == [None, None, "READ_ERROR", None, None, None]
        assert "KeyError: 'surprise'" in fresh.table(name)["error"][2]
    monkeypatch.undo()
    again = fresh.run()
    assert again.inferred == 1  # it may not have been the bytes' fault
    assert again.invalid.is_empty()


def test_a_published_table_that_is_broken_or_of_older_columns_is_computed_anew(bench: Bench) -> None:
    expected = bench.digests()
    bench.store.path("embeddings", KEY).write_bytes(b"not a parquet file")
    bench.table("img_stats").drop("blur").write_parquet(bench.store.path("img_stats", KEY))
    summary = bench.run()
    assert (summary.inferred, summary.computed) == (24, 26)
    assert bench.digests() == expected


def test_a_partition_of_only_bad_files_is_a_table_of_errors(model: EmbeddingModel, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    break_some(tmp_path / "images")
    fresh = Bench(tmp_path / "images", TableStore(tmp_path / "store"), model)
    summary = fresh.run()
    assert (summary.rows, summary.inferred, len(summary.invalid)) == (4, 0, 4)
    assert fresh.table("embeddings")["error_code"].null_count() == 0
    assert fresh.run().computed == 0


def test_a_partition_of_one_image_has_one_row(model: EmbeddingModel, tmp_path: Path) -> None:
    write(tmp_path / "images", 1)
    fresh = Bench(tmp_path / "images", TableStore(tmp_path / "store"), model)
    assert fresh.run().inferred == 1
    assert fresh.table("embeddings").height == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_row(bench: Bench) -> None:
    (bench.folder / "003.jpg").chmod(0)
    summary = bench.run(recompute=True)
    assert summary.invalid.filter(pl.col("filename") == "003.jpg")["error_code"].to_list() == ["READ_ERROR"]
