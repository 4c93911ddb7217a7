"""A worker leaves whole part files, does none twice, and says what went wrong; here without anything that runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.schemas import IMG_STATS
from fastdup_dagster.settings import settings_from
from fastdup_dagster.sharding import ray_backend, worker
from fastdup_dagster.sharding.ray_backend import RayBackend, error_of
from fastdup_dagster.sharding.worker import ShardWorker, described
from fastdup_dagster.stages import decode_worker, reuse
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.row_files import write_part
from fastdup_dagster.storage import TableStore


class InThisProcess(RayBackend):
    """The backend with one worker of this process in place of Ray."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
        one = ShardWorker(order.to_json())
        for number, name in enumerate(names):
            done = one({"number": np.array([number]), "name": np.array([name])})
            row = {column: values[0] for column, values in done.items()}
            self.rows.append(row)
            yield row


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch, model: EmbeddingModel) -> None:
    monkeypatch.setattr(worker, "load_model", lambda settings: model)
    monkeypatch.setattr(ray_backend, "cluster", lambda options: nullcontext((None, True)))
    monkeypatch.setattr(ray_backend, "workers_of", lambda ray, options: 2)


def test_the_tables_are_those_of_a_local_pass(mixed, local, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    backend = InThisProcess()
    digests, summary = mixed.run(tmp_path, backend, progress=lambda *done: seen.append(done))
    assert digests == local
    assert len(backend.rows) >= 7 and seen[-1] == (mixed.rows, mixed.rows)
    assert summary.invalid["error_code"].to_list() == ["CORRUPT_IMAGE"]
    # copies are looked for within a shard: those in others are computed again, to the same rows
    assert mixed.distinct <= summary.inferred <= mixed.distinct + 2
    assert mixed.run(tmp_path, InThisProcess())[1].computed == 0


def test_what_is_published_is_known_by_its_bytes(mixed, local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed.run(tmp_path)
    keys = reuse.text_hash
    monkeypatch.setattr(reuse, "text_hash", lambda text: keys(f"touched {text}"))
    digests, summary = mixed.run(tmp_path, InThisProcess())
    assert (summary.inferred, summary.computed, digests) == (0, 0, local)
    monkeypatch.setattr(reuse, "text_hash", keys)
    monkeypatch.setattr(worker, "_KNOWN_ROWS", 1)  # too many to hold: computed again, to the same rows
    digests, summary = mixed.run(tmp_path, InThisProcess())
    assert summary.inferred >= mixed.distinct and digests == local


def test_parts_of_a_shard_that_are_there_are_not_made_again(mixed, local, tmp_path: Path) -> None:
    class Killed(InThisProcess):
        """The worker dies after its third shard, between the parts; then another one begins it anew."""

        def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
            first = list(super()._outcomes(ray, order, names[:3], workers))
            part = Path(order.tables["embeddings"].parts) / f"part-{names[2]}.arrow"
            before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part-*.arrow") if path != part}
            part.write_bytes(part.read_bytes()[:100])  # as a disk that was full leaves it
            again = list(super()._outcomes(ray, order, names[:3], workers))
            assert [row["inferred"] for row in again] == [0, 0, first[2]["inferred"]]
            assert before == {path: path.stat().st_mtime_ns for path in before}
            yield from super()._outcomes(ray, order, names, workers)

    digests, _ = mixed.run(tmp_path, Killed())
    assert digests == local


def test_rows_that_failed_for_a_passing_reason_are_tried_again(
    mixed, local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Twice(InThisProcess):
        def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
            with monkeypatch.context() as patch:

                def fail(*given: Any) -> Any:
                    raise MemoryError("for now")

                patch.setattr(decode_worker, "working_image", fail)
                assert all(not row["error"] for row in super()._outcomes(ray, order, names, workers))
            yield from super()._outcomes(ray, order, names, workers)

    assert mixed.run(tmp_path, Twice())[0] == local


def test_what_was_finished_before_an_error_is_taken_over(mixed, local, tmp_path: Path) -> None:
    class Stopped(InThisProcess):
        def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
            for number, row in enumerate(super()._outcomes(ray, order, names, workers)):
                yield row | {"error": described(ValueError("of the model"))} if number == 4 else row

    with pytest.raises(ValueError, match=r"^of the model\n"):
        mixed.run(tmp_path, Stopped())
    assert not list(tmp_path.rglob("tasks.parquet"))
    digests, summary = mixed.run(tmp_path)  # by threads
    assert digests == local and 0 < summary.inferred <= mixed.distinct - 20


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no width"), ValueError, "no width"),
        (type("ModelMissingError", (FileNotFoundError,), {})("gone"), FileNotFoundError, "gone"),
        (type("Fail", (Exception,), {})("of ONNX Runtime"), RuntimeError, "Fail: of ONNX Runtime (in a worker on h)"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeError, "'utf-8' codec can't decode"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: Exception, kind: type[Exception], message: str) -> None:
    arrived = error_of(described(error), "h")
    assert type(arrived) is kind and message in str(arrived)


def test_a_shard_that_ends_its_worker_each_time_is_given_up(mixed, tmp_path: Path) -> None:
    class Crashing(InThisProcess):
        def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
            for number in range(worker.ATTEMPTS):
                (Path(order.folder) / f"{names[1]}.{number}.attempt").touch()
            yield from super()._outcomes(ray, order, names, workers)

    with pytest.raises(RuntimeError, match=r"has ended its worker 4 times: one of its \d+ images, from file:.* to "):
        mixed.run(tmp_path, Crashing())


def test_a_worker_with_another_model_or_version_makes_no_rows(
    mixed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker, "recipe", lambda *_: "another")
        with pytest.raises(RuntimeError, match="needs the same versions of fastdup_dagster and onnxruntime"):
            mixed.run(tmp_path, InThisProcess())
    with monkeypatch.context() as patch:
        patch.setattr(worker, "load_model", lambda settings: type("Other", (), {"id": "other@0"})())
        with pytest.raises(ValueError, match="has the model other@0"):
            mixed.run(tmp_path, InThisProcess())


def test_copies_on_this_machine_are_refused(mixed, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="copies of remote files are of this machine alone"):
        compute_features(
            mixed.manifest,
            settings_from({}),
            mixed.model,
            TableStore(tmp_path),
            "a/b",
            copies={"s3://b/x": "file:///x"},
            backend=InThisProcess(),
        )


def test_a_part_of_other_rows_is_refused(mixed, tmp_path: Path) -> None:
    class Mistaken(InThisProcess):
        def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
            for row in super()._outcomes(ray, order, names, workers):
                part = Path(order.tables["img_stats"].parts) / f"part-{names[0]}.arrow"
                write_part(IMG_STATS, pl.read_ipc(part.read_bytes())[::-1], part)
                yield row

    with pytest.raises(RuntimeError, match="holds other rows than its shard"):
        mixed.run(tmp_path, Mistaken())


def test_a_pass_that_finds_no_room_says_so(
    mixed, local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(InThisProcess):
        def _outcomes(self, ray: Any, order: Any, names: list[str], workers: int) -> Iterator[dict[str, Any]]:
            time.sleep(0.3)
            yield from super()._outcomes(ray, order, names, workers)

    monkeypatch.setattr(ray_backend, "_ROOM_PATIENCE", 0.05)
    assert mixed.run(tmp_path, Late())[0] == local
    assert "no worker of the Ray cluster has begun yet" in caplog.text
