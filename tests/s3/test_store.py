"""A store in a bucket keeps what a store in a folder promises: tables are published whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from faulty_proxy import FAULTS, faulty_proxy

from fastdup_dagster.s3.store import S3TableStore
from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS, KNN_GRAPH
from fastdup_dagster.sources.remote_errors import (
    AccessDeniedError,
    EndpointError,
    NoCredentialsError,
    NoSuchBucketError,
    RemoteError,
)
from fastdup_dagster.storage import BusyError, Lineage, TableStore, open_store, table_digest


def edges(count: int = 4) -> pl.DataFrame:
    return KNN_GRAPH.frame(
        {"from": range(count), "to": range(1, count + 1), "rank": [1] * count, "distance": [0.5] * count}
    )


def keys(s3_server: Any, bucket: str) -> list[str]:
    return [found["Key"] for found in s3_server.client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def vectors(count: int, width: int = 64) -> pl.DataFrame:
    values = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    return EMBEDDINGS.with_embedding_width(width).frame(
        pl.DataFrame(
            {
                "index": np.arange(count),
                "embedding": pl.Series(values, dtype=pl.Array(pl.Float32, width)),
                "model": ["m"] * count,
                "source_key": [""] * count,
            }
        )
    )


def test_what_is_written_comes_back_and_lies_under_its_partition(s3_server, bucket, store) -> None:
    digest = store.write(KNN_GRAPH, "pets/train", edges(5))
    assert keys(s3_server, bucket) == ["re sults+1/é/knn_graph/pets/train.parquet"]
    assert store.uri("knn_graph", "pets/train") == f"s3://{bucket}/re sults+1/é/knn_graph/pets/train.parquet"
    assert store.read("knn_graph", "pets/train").equals(edges(5))
    assert store.read("knn_graph", "pets/train", ["to"]).columns == ["to"]
    assert store.scan("knn_graph", "pets/train").filter(pl.col("to") > 3).collect().height == 2
    assert digest == table_digest(KNN_GRAPH, edges(5))
    store.remove("knn_graph", "pets/train")
    store.remove("knn_graph", "pets/train")
    assert not store.exists("knn_graph", "pets/train")
    with pytest.raises(FileNotFoundError, match=r"'knn_graph' of 'pets/train' is not there: s3://"):
        store.scan("knn_graph", "pets/train")


def test_nothing_is_visible_before_publishing_and_a_failed_gate_leaves_the_old_table(s3_server, bucket, store) -> None:
    store.write(KNN_GRAPH, "a/b", edges(2))
    with pytest.raises(ZeroDivisionError), store.stage(KNN_GRAPH, "a/b") as staged:
        staged.write(edges(3))
        staged.close()
        assert staged.scan().collect().height == 3
        assert store.read("knn_graph", "a/b").height == 2
        raise ZeroDivisionError
    assert store.read("knn_graph", "a/b").height == 2
    assert keys(s3_server, bucket) == ["re sults+1/é/knn_graph/a/b.parquet"]
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_a_table_of_many_parts_appears_whole_and_a_killed_upload_leaves_nothing(
    s3_server, bucket, store, monkeypatch
) -> None:
    monkeypatch.setattr("fastdup_dagster.s3.objects.PART_BYTES", 5 * 1024 * 1024)
    frame = vectors(50_000)
    schema = EMBEDDINGS.with_embedding_width(64)
    digest = store.write(schema, "a/b", frame)
    head = s3_server.client.head_object(Bucket=bucket, Key="re sults+1/é/embeddings/a/b.parquet")
    assert head["ETag"].endswith('-3"')
    assert table_digest(schema, store.read("embeddings", "a/b")) == digest
    blocks = list(store.blocks("embeddings", "a/b", ["index"]))
    assert [block.height for block in blocks] == [16_384, 16_384, 16_384, 848]
    assert pl.concat(blocks)["index"].to_list() == list(range(50_000))

    send = store._objects.call

    def killed(operation: str, *given: Any, **more: Any) -> Any:
        if operation == "upload_part" and more["PartNumber"] == 2:
            raise KeyboardInterrupt
        return send(operation, *given, **more)

    monkeypatch.setattr(store._objects, "call", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write(schema, "a/b", frame[::-1])
    assert table_digest(schema, store.read("embeddings", "a/b")) == digest
    assert not s3_server.client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_completion_whose_answer_was_lost_counts(s3_server, bucket, store, monkeypatch) -> None:
    monkeypatch.setattr("fastdup_dagster.s3.objects.PART_BYTES", 5 * 1024 * 1024)
    send = store._objects.call

    def twice(operation: str, *given: Any, **more: Any) -> Any:
        if operation == "complete_multipart_upload":
            send(operation, *given, **more)
        return send(operation, *given, **more)

    monkeypatch.setattr(store._objects, "call", twice)
    store.write(EMBEDDINGS.with_embedding_width(64), "a/b", vectors(30_000))
    assert store.read("embeddings", "a/b", ["index"]).height == 30_000


def test_a_table_says_what_it_was_made_of(store) -> None:
    digest = store.write(KNN_GRAPH, "a/b", edges(3), {"embeddings": "e"})
    assert store.lineage("knn_graph", "a/b") == Lineage(digest, {"embeddings": "e"})
    with pytest.raises(FileNotFoundError, match=r"'knn_graph' of 'a/c' is not there"):
        store.lineage("knn_graph", "a/c")


def test_an_empty_table_is_a_table(store) -> None:
    with store.stage(IMG_STATS, "a/b") as staged:
        staged.publish()
    assert store.read("img_stats", "a/b").equals(IMG_STATS.frame())


def test_a_fetched_table_is_a_local_file_and_there_is_no_local_path(store, tmp_path: Path) -> None:
    store.write(KNN_GRAPH, "a/b", edges(3))
    copy = store.fetch("knn_graph", "a/b", tmp_path / "copies")
    assert pl.read_parquet(copy).equals(edges(3))
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["knn_graph.parquet"]
    with pytest.raises(TypeError, match="is no local file"):
        store.path("knn_graph", "a/b")


def test_keys_with_glob_characters_are_names_not_patterns(store) -> None:
    for number, key in enumerate(["v1.5/train", "v1.5/[a]*?", "v1.5/a"], 1):
        store.write(KNN_GRAPH, key, edges(number))
    assert [store.read("knn_graph", key).height for key in ("v1.5/train", "v1.5/[a]*?", "v1.5/a")] == [1, 2, 3]


def test_a_second_run_is_refused_on_the_same_machine_and_on_another(bucket, store, tmp_path: Path) -> None:
    elsewhere = S3TableStore(store.name, tmp_path / "another machine")
    with store.lock("features", "pets/train"):
        with pytest.raises(BusyError, match="another run is working"), store.lock("features", "pets/train", patience=0):
            pass
        busy = pytest.raises(BusyError, match=r"another machine is working on features of 'pets/train' in s3://")
        with busy, elsewhere.lock("features", "pets/train", patience=0):
            pass
        with elsewhere.lock("features", "pets/test", patience=0):
            pass
    with elsewhere.lock("features", "pets/train", patience=0):
        pass


def test_the_place_decides_which_store_it_is_and_a_local_run_imports_no_s3(tmp_path: Path, s3_server, bucket) -> None:
    assert type(open_store(tmp_path)) is TableStore
    assert type(open_store(f"s3://{bucket}/x")) is S3TableStore
    code = (
        "import sys; from fastdup_dagster.storage import open_store; import fastdup_dagster.definitions; "
        f"open_store({str(tmp_path)!r}); print([m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore')])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_bucket_that_is_not_there_is_named_with_a_remedy(s3_server, tmp_path: Path) -> None:
    store = S3TableStore("s3://no-such-bucket/x", tmp_path)
    for use in (store.check_writable, lambda: store.exists("knn_graph", "a/b"), lambda: store.read("knn_graph", "a/b")):
        with pytest.raises(NoSuchBucketError, match=r"no bucket 'no-such-bucket' at http://.*: check its name"):
            use()
    with pytest.raises(NoSuchBucketError):
        store.write(KNN_GRAPH, "a/b", edges())


def test_an_endpoint_that_does_not_answer_and_missing_credentials_are_told_apart(
    s3_server, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(EndpointError, match=r"nothing answers at http://127.0.0.1:9: check AWS_ENDPOINT_URL"):
        S3TableStore("s3://some-bucket", tmp_path).check_writable()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(NoCredentialsError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"):
        S3TableStore("s3://some-bucket", tmp_path)


def test_a_refusal_is_an_access_denied_error_that_names_the_rights_and_no_credentials(
    s3_server, bucket, tmp_path: Path, monkeypatch
) -> None:
    with faulty_proxy(s3_server.url, share=1.0, faults=("403",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(AccessDeniedError, match=r"access denied by http://.*s3:PutObject") as caught:
            S3TableStore(f"s3://{bucket}/x", tmp_path).write(KNN_GRAPH, "a/b", edges())
    assert "secret-of-the-tests" not in str(caught.value)


def test_tables_survive_a_server_that_fails_now_and_then(s3_server, bucket, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("fastdup_dagster.s3.objects.PART_BYTES", 5 * 1024 * 1024)
    schema, frame = EMBEDDINGS.with_embedding_width(64), vectors(50_000)
    with faulty_proxy(s3_server.url, share=0.3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = S3TableStore(f"s3://{bucket}/x", tmp_path)
        for key in ("a/1", "a/2", "a/3"):
            digest = store.write(schema, key, frame)
            assert table_digest(schema, store.read("embeddings", key)) == digest
            assert table_digest(schema, pl.read_parquet(store.fetch("embeddings", key, tmp_path / "copy"))) == digest
        with store.lock("features", "a/1"):
            pass
    assert sum(proxy.counts[fault] for fault in FAULTS) > 5


def test_a_table_that_can_never_be_read_is_a_typed_error(store, monkeypatch) -> None:
    store.write(KNN_GRAPH, "a/b", edges())
    monkeypatch.setattr("fastdup_dagster.s3.store.time.sleep", lambda _: None)
    s3 = store._objects
    monkeypatch.setattr(s3, "head", lambda place: {"ETag": "x"})
    with pytest.raises(RemoteError, match=r"s3://.*/c\.parquet cannot be read, 4 times in a row"):
        store.read("knn_graph", "a/c")
