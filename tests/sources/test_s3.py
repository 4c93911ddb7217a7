"""Listing and reading an object store, over HTTP."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import FAULTS, faulty_proxy

from fastdup_dagster.images import ImageError, read_bytes
from fastdup_dagster.sources import FolderSource, S3Source, find_splits, images_outside, open_source
from fastdup_dagster.sources.opening import open_binary
from fastdup_dagster.sources.remote_errors import (
    AccessDeniedError,
    EndpointError,
    NoCredentialsError,
    NoSuchBucketError,
    RemoteError,
    RemoteFileNotFoundError,
)
from fastdup_dagster.sources.s3 import remote_entries

AWKWARD = (
    "a b.jpg",
    "100%.jpg",
    "a%20b.jpg",
    "x+y.jpg",
    "ü/漢字.jpg",
    "q?#&.jpg",
    "back\\slash.jpg",
)


def test_a_prefix_is_listed_as_a_folder_is(s3_server: Any, tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a/1.JPG", "a-/3.png", "a.jpg", "notes.txt", ".hidden/4.jpg", "empty.jpg", "film.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"" if "empty" in name else name.encode())
    bucket = s3_server.upload(tmp_path, "some/prefix/")
    s3_server.client.put_object(Bucket=bucket, Key="some/prefix/a/", Body=b"")
    s3_server.client.put_object(Bucket=bucket, Key="some/prefix-of-others/1.jpg", Body=b"x")
    local, remote = FolderSource(tmp_path), open_source(f"s3://{bucket}/some/prefix")
    seen = [[(e.filename, e.file_size, e.error_code) for e in source.entries()] for source in (local, remote)]
    assert seen[0] == seen[1] and len(seen[1]) == 6
    assert remote.notes == local.notes


def test_what_only_a_bucket_can_hold_is_listed_or_told_of(s3_server: Any) -> None:
    keys = (
        "d//b.jpg",
        "/c.jpg",
        "up/../x.jpg",
        "./y.jpg",
        "A.jpg",
        "a.jpg",
        "e\u0301.jpg",
        "\u00e9.jpg",
        f"{'k/' * 508}.k.jpg",
    )
    bucket = s3_server.bucket(**{f"p/{key}": key.encode() for key in (*keys, "full.jpg/")}, **{"p/empty/": b""})
    source = open_source(f"s3://{bucket}/p")
    entries = list(source.entries())
    assert {read_bytes(entry.uri).decode() for entry in entries} == set(keys)
    assert len({entry.filename for entry in entries}) == len(entries) == len(keys)
    assert source.notes == ["left out, because their keys end with a slash: 1"]


def test_entries_carry_the_tokens_of_the_listing(s3_server: Any) -> None:
    bucket = s3_server.bucket(**{"a.jpg": b"abc"})
    (entry,) = S3Source(f"s3://{bucket}").entries()
    head = s3_server.client.head_object(Bucket=bucket, Key="a.jpg")
    assert entry.uri == f"s3://{bucket}/a.jpg"
    assert (entry.file_size, entry.etag) == (3, head["ETag"].strip('"'))
    assert entry.mtime_ns == int(head["LastModified"].timestamp() * 1e9)
    assert list(remote_entries([("a.jpg", entry.uri)])) == [entry]


def test_every_key_survives(s3_server: Any) -> None:
    bucket = s3_server.bucket(**{f"in/{key}": key.encode() for key in AWKWARD})
    entries = list(open_source(f"s3://{bucket}/in").entries())
    assert {read_bytes(entry.uri).decode() for entry in entries} == set(AWKWARD)
    assert len({entry.filename for entry in entries}) == len(AWKWARD)
    rows = [f"s3://{bucket}/in/{key}" for key in AWKWARD]
    assert [read_bytes(entry.uri).decode() for entry in open_source(rows).entries()] == list(AWKWARD)


def test_a_server_of_ones_own_is_named_in_the_url(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_server.bucket(**{"p/a.jpg": b"abc"})
    server = s3_server.url.removeprefix("http://")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("FASTDUP_MINIO_MY_SHOP", s3_server.url)
    for place in (f"minio://{server}/{bucket}/p", f"minio://my-shop/{bucket}/p"):
        (entry,) = open_source(place).entries()
        assert entry.uri == f"{place}/a.jpg"
        assert read_bytes(entry.uri) == b"abc"
    with pytest.raises(ValueError, match="FASTDUP_MINIO_OTHER"):
        list(open_source(f"minio://other/{bucket}/p").entries())


@pytest.mark.parametrize("place", ["s3://user:hush@bucket/a", "minio://user:hush@host:9000/bucket/a"])
@pytest.mark.parametrize("many", [False, True])
def test_a_url_with_a_password_is_refused_and_not_repeated(place: str, many: bool) -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        open_source([place] if many else place)
    shown = "".join(traceback.format_exception(caught.value))  # Dagster keeps and shows the causes too
    assert "hush" not in shown and "AWS_" in shown


def test_what_is_told_of_a_server_that_is_gone_is_ours_alone(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match="nothing answers") as caught:
        list(open_source("s3://some-bucket/x").entries())
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("place", ["s3://", "s3:///key", "s3://b", "minio://host:9000", "minio://ho st/bucket"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        open_source(place)


def test_a_listing_of_several_pages_is_streamed(s3_server: Any) -> None:
    bucket = s3_server.bucket()
    with faulty_proxy(s3_server.url, share=0.0) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        from fastdup_dagster.sources.locations import location
        from fastdup_dagster.sources.object_store import object_store

        for number in range(7):
            s3_server.client.put_object(Bucket=bucket, Key=f"{number}.jpg", Body=b"x")
        pages = object_store("").pages(location(f"s3://{bucket}"), most=3)
        before = sum(proxy.paths.values())
        assert [item.key for item in next(pages).objects] == ["0.jpg", "1.jpg", "2.jpg"]
        assert sum(proxy.paths.values()) == before + 1
        assert [len(page.objects) for page in pages] == [3, 1]


def test_errors_of_a_listing_say_what_to_do(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchBucketError, match=r"'no-such-bucket' at http://127\.0\.0\.1:\d+: check its name"):
        list(open_source("s3://no-such-bucket/x").entries())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(EndpointError, match=r"nothing answers at http://127\.0\.0\.1:9: check AWS_ENDPOINT_URL"):
        list(open_source("s3://some-bucket/x").entries())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NoCredentialsError, match="AWS_ACCESS_KEY_ID"):
        list(open_source("s3://some-bucket/x").entries())


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:99999", "ftp://host", "127.0.0.1:9000", "http://"])
def test_an_endpoint_that_is_no_url_is_said(endpoint: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(EndpointError, match="no URL of a server: check AWS_ENDPOINT_URL"):
        list(open_source("s3://some-bucket/x").entries())
    with pytest.raises(EndpointError, match="no URL of a server: check the server of the minio:// URL"):
        list(open_source("minio://host:99999/some-bucket/x").entries())


@pytest.mark.parametrize("endpoint", ["http://user:hush@127.0.0.1:9", "http://user:hush@no host:1"])
def test_no_message_holds_a_password(endpoint: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises((RemoteError, ValueError)) as caught:
        list(open_source("s3://some-bucket/x").entries())
    assert "hush" not in str(caught.value)


def test_access_denied_is_said_at_the_listing_and_is_a_row_of_a_list(
    s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_server.bucket(**{"a.jpg": b"abc"})
    with faulty_proxy(s3_server.url, share=1.0, faults=("403",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(AccessDeniedError, match=rf"s3://{bucket}: access denied .* s3:ListBucket"):
            list(open_source(f"s3://{bucket}").entries())
        (entry,) = open_source([f"s3://{bucket}/a.jpg"]).entries()
    assert entry.error_code == "READ_ERROR" and "access denied" in str(entry.error)
    assert proxy.counts == {"403": 2}  # not tried again


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_are_retried(fault: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_server.bucket(**{f"{n}.jpg": bytes([n]) * 5000 for n in range(12)})
    with faulty_proxy(s3_server.url, share=0.4, faults=(fault,), seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        entries = list(open_source(f"s3://{bucket}").entries())
        assert [read_bytes(entry.uri) for entry in entries] == [
            read for _, read in sorted(_contents(s3_server, bucket))
        ]
    assert proxy.counts[fault] > 3


def _contents(s3_server: Any, bucket: str) -> list[tuple[str, bytes]]:
    keys = [item["Key"] for item in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    return [(key, s3_server.client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]


def test_a_fault_that_stays_is_an_error_of_that_file(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdup_dagster.sources.remote_errors._FIRST_DELAY", 0.001)
    bucket = s3_server.bucket(**{"a.jpg": b"abc"})
    with faulty_proxy(s3_server.url, share=1.0, faults=("503",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(ImageError, match=r"SlowDown, status 503, 8 times in a row") as caught:
            read_bytes(f"s3://{bucket}/a.jpg")
    assert caught.value.code == "READ_ERROR"
    assert proxy.counts == {"503": 8}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ImageError, match="nothing answers") as unreachable:
        read_bytes(f"s3://{bucket}/a.jpg")
    assert unreachable.value.code == "READ_ERROR"


def test_an_object_that_is_gone_is_missing(s3_server: Any) -> None:
    bucket = s3_server.bucket()
    with pytest.raises(ImageError) as caught:
        read_bytes(f"s3://{bucket}/gone.jpg")
    assert caught.value.code == "MISSING_FILE"
    with pytest.raises(RemoteFileNotFoundError, match=r"gone\.jpg"):
        open_binary(f"s3://{bucket}/gone.jpg").read()


def test_an_object_is_read_in_part(s3_server: Any) -> None:
    data = bytes(range(256)) * 100
    bucket = s3_server.bucket(**{"a b.tar": data})
    with open_binary(f"s3://{bucket}/a%20b.tar") as file:
        assert file.read(3) == data[:3]
        file.seek(-5, 2)
        assert file.read() == data[-5:]
        file.seek(1000)
        assert (file.read(10), file.tell()) == (data[1000:1010], 1010)
        file.seek(0)
        assert file.read() == data


def test_an_object_that_is_replaced_while_it_is_read_is_refused(
    s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdup_dagster.sources.opening.BLOCK_BYTES", 10)
    bucket = s3_server.bucket(**{"a.tar": b"x" * 100})
    with open_binary(f"s3://{bucket}/a.tar") as file:
        file.read(5)
        s3_server.client.put_object(Bucket=bucket, Key="a.tar", Body=b"y" * 100)
        with pytest.raises(RemoteError, match="replaced"):
            file.read(50)


def test_lists_mix_local_and_remote_files_and_folders(s3_server: Any, tmp_path: Path) -> None:
    bucket = s3_server.bucket(**{"f/a.jpg": b"a", "f/b.jpg": b"b", "hash-without-extension": b"c", "d.jpg": b"d"})
    (tmp_path / "local.jpg").write_bytes(b"l")
    rows = [
        f"s3://{bucket}/d.jpg",
        "local.jpg",
        f"s3://{bucket}/hash-without-extension",
        f"s3://{bucket}/f",
        f"s3://{bucket}/d.jpg",
        f"s3://{bucket}/gone.jpg",
    ]
    (tmp_path / "list.csv").write_text("\n".join(["filename,label", *(f"{row},x" for row in rows)]))
    source = open_source(tmp_path / "list.csv")
    seen = [(e.filename, e.file_size, e.error_code) for e in source.entries()]
    assert seen == [
        (rows[0], 1, None),
        ("local.jpg", 1, None),
        (rows[2], 1, None),
        (f"s3://{bucket}/f/a.jpg", 1, None),
        (f"s3://{bucket}/f/b.jpg", 1, None),
        (rows[5], None, "MISSING_FILE"),
    ]
    assert source.notes == ["1 rows repeat a path above them and were left out"]


def test_a_list_in_a_bucket_is_relative_to_its_own_prefix(s3_server: Any) -> None:
    bucket = s3_server.bucket(**{"d/a.jpg": b"a", "d/more/b.jpg": b"b", "d/list.txt": b"a.jpg\nmore/\n"})
    entries = list(open_source(f"s3://{bucket}/d/list.txt").entries())
    assert [entry.uri for entry in entries] == [f"s3://{bucket}/d/a.jpg", f"s3://{bucket}/d/more/b.jpg"]
    with pytest.raises(ValueError, match="is an image"):
        open_source(f"s3://{bucket}/d/a.jpg")


def test_splits_are_found_below_a_prefix(s3_server: Any) -> None:
    keys = (
        "d/Train/1.jpg",
        "d/test/1.jpg",
        "d/other/x/2.jpg",
        "d/3.jpg",
        "e/images/val/1.jpg",
        "e/images/y/4.jpg",
        "f/1.jpg",
    )
    bucket = s3_server.bucket(**dict.fromkeys(keys, b"x"))
    assert find_splits(f"s3://{bucket}/d") == {"train": "Train", "test": "test"}
    assert find_splits(f"s3://{bucket}/e") == {"val": "images/val"}
    assert find_splits(f"s3://{bucket}/f") == {"all": "."}
    assert images_outside(f"s3://{bucket}/d", ["Train", "test"]) == 2
    assert images_outside(f"s3://{bucket}/e", ["images/val"]) == 1
    assert images_outside(f"s3://{bucket}/f", ["."]) == 0
