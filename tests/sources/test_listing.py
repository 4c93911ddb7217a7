"""Answers of `ListObjectsV2`: read as botocore reads them, and nothing else taken for one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources import open_source
from fastdup_dagster.sources.listing import CutListingError, Listed, NoListingError, parsed, query
from fastdup_dagster.sources.locations import location
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.remote_errors import EndpointError, NoSuchBucketError, PastTheEndError, RemoteError
from fastdup_dagster.sources.s3 import holds_anything

_KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
Answer = tuple[int, dict[str, str], bytes]


def listing(inside: str, space: str = _SPACE, encoding: str = "url") -> bytes:
    head = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    return f'<?xml version="1.0"?>\n<ListBucketResult{space}>{head}{inside}</ListBucketResult>'.encode()


def contents(key: str, rest: str = "<Size>1</Size><ETag>&quot;e&quot;</ETag>") -> str:
    return f"<Contents><Key>{key}</Key>{rest}</Contents>"


@contextmanager
def answering(answer: Callable[[str, dict[str, list[str]], dict[str, str]], Answer]) -> Iterator[str]:
    """A server that answers GET and HEAD by a function of path, query and headers; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, headers, body = answer(parts.path, parse_qs(parts.query), dict(self.headers))
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCESS_KEY_ID": "testing",
        "SECRET_ACCESS_KEY": "testing",
        "DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@given(st.lists(_KEY, max_size=5), st.lists(_KEY, max_size=3), st.sampled_from([_SPACE, ""]))
def test_keys_and_folders_of_any_characters_come_back(keys: list[str], folders: list[str], space: str) -> None:
    inside = "".join(contents(quote(key)) for key in keys)
    inside += "".join(f"<CommonPrefixes><Prefix>{quote(folder)}/</Prefix></CommonPrefixes>" for folder in folders)
    page = parsed(listing(inside, space))
    assert [item.key for item in page.objects] == keys
    assert page.folders == [f"{folder}/" for folder in folders]
    assert bool(page) == bool(keys or folders) and page.following is None


def test_all_that_is_said_of_an_object_is_read() -> None:
    rest = "<LastModified>2026-03-04T05:06:07.089Z</LastModified><ETag>&quot;a-2&quot;</ETag><Size>12345678901</Size>"
    (item,) = parsed(listing(contents("a+b%2Bc", f"{rest}<StorageClass>STANDARD</StorageClass>"))).objects
    assert item == Listed("a b+c", 12345678901, datetime(2026, 3, 4, 5, 6, 7, 89000, UTC), '"a-2"')


def test_a_server_that_does_not_encode_keys_is_taken_at_its_word() -> None:
    (item,) = parsed(listing(contents("100%25 a+b"), encoding="")).objects
    assert item == Listed("100%25 a+b", 1, None, '"e"')


def test_a_page_that_is_not_the_last_says_where_the_next_begins() -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>1/x=+</NextContinuationToken>"
    assert parsed(listing(more)).following == "1/x=+"
    assert "continuation-token=1%2Fx%3D%2B&" in query("", "", 1000, "1/x=+", "")
    with pytest.raises(NoListingError, match="goes on"):
        parsed(listing("<IsTruncated>true</IsTruncated>"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "doctype", ['<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">']
)
def test_a_document_type_is_refused_before_it_is_read(doctype: str, encoding: str) -> None:
    whole = (
        f"<?xml version='1.0' encoding='{encoding}'?>{doctype}<ListBucketResult>{contents('&c;')}</ListBucketResult>"
    )
    with pytest.raises(NoListingError):
        parsed(whole.encode(encoding))


@pytest.mark.parametrize(
    "answer",
    [
        b"<!doctype html><p>hello",
        b"<html></html>",
        b"hello",
        b"<Error><Code>X</Code></Error>",
        listing(contents("a", "<Size>-</Size>")),
    ],
)
def test_what_is_no_listing_is_not_taken_for_an_empty_one(answer: bytes) -> None:
    with pytest.raises(NoListingError):
        parsed(answer)


def test_an_answer_that_is_cut_anywhere_is_noticed() -> None:
    whole = listing(contents("a"))
    for end in range(len(whole)):
        with pytest.raises(CutListingError):
            parsed(whole[:end])


def test_a_listing_is_the_one_that_botocore_reads(s3_server: Any) -> None:
    keys = [
        "a b/c+d.jpg",
        "100%.jpg",
        "x%20y",
        "é",
        "e\u0301",
        "\x01",
        "tab\t",
        "&amp;<",
        "漢/字",
        "a//b",
        "trail/",
        "~*'()",
    ]
    bucket = s3_server.bucket(**{key: key.encode() for key in keys})
    client = botocore.session.get_session().create_client("s3", endpoint_url=s3_server.url)
    for prefix, delimiter, after in (
        ("", "", ""),
        ("", "/", ""),
        ("a", "/", ""),
        ("a b/", "", ""),
        ("", "", "e\u0301"),
    ):
        given_ = {"Delimiter": delimiter} if delimiter else {}
        given_ |= {"StartAfter": after} if after else {}
        theirs = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **given_)
        page = object_store("").page(location(f"s3://{bucket}/{prefix}"), delimiter, after=after)
        found = [(o["Key"], o["Size"], o["LastModified"], o["ETag"]) for o in theirs.get("Contents", ())]
        assert list(map(tuple, page.objects)) == found
        assert page.folders == [item["Prefix"] for item in theirs.get("CommonPrefixes", ())]
        assert found or page.folders


@pytest.mark.usefixtures("credentials")
def test_an_endpoint_that_is_no_object_store_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(path: str, *_: Any) -> Answer:
        asked.append(path)
        return (404 if "lost" in path else 200), {}, b"<!doctype html><p>Welcome"

    with answering(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"{url}/base")
        with pytest.raises(RemoteError, match=r"no listing of a bucket .*AWS_ENDPOINT_URL"):
            list(open_source("s3://some-bucket").entries())
        with pytest.raises(NoSuchBucketError, match="AWS_ENDPOINT_URL"):
            list(open_source("s3://lost-bucket").entries())
    assert asked == ["/base/some-bucket", "/base/lost-bucket"]


@pytest.mark.usefixtures("credentials")
def test_a_proxy_is_asked_for_the_very_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(path: str, *_: Any) -> Answer:
        asked.append(path)
        return 200, {}, b"x"

    with answering(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example:9000")
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "")
        assert object_store("").get(location("s3://some-bucket/up/../x/./y..jpg")) == b"x"
    assert [unquote(path) for path in asked] == ["/some-bucket/up/../x/./y..jpg"]


@pytest.mark.usefixtures("credentials")
def test_a_server_that_turns_in_circles_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    more = listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")
    with answering(lambda *_: (200, {}, more)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(RemoteError, match="same page again"):
            list(open_source("s3://some-bucket").entries())


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("told", ["header", "body", "listing"])
def test_a_bucket_of_another_region_is_followed_there_once(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def answer(path: str, asked: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        region = re.findall(r"/\d{8}/([^/]+)/s3/", headers["Authorization"])[0]
        if region != "ap-south-2":
            refused.append(path)
            code = "PermanentRedirect" if told == "header" else "AuthorizationHeaderMalformed"
            body = f"<Error><Code>{code}</Code><Region>ap-south-2</Region></Error>".encode()
            where = {"x-amz-bucket-region": "ap-south-2"} if told == "header" else {}
            return (301 if told == "header" else 400), where, body
        return 200, {"ETag": '"e"'}, listing(contents("a.jpg")) if "list-type" in asked else b"x"

    with answering(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        place = "s3://some-bucket"
        if told == "listing":  # asked by HEAD first, whose answer has no body
            entries = list(open_source([f"{place}/a.jpg"]).entries())
        else:
            entries = list(open_source(place).entries())
        assert [(entry.uri, entry.error_code) for entry in entries] == [(f"{place}/a.jpg", None)]
        assert object_store("").get(location(f"{place}/a.jpg")) == b"x"
    assert refused == (["/some-bucket/a.jpg", "/some-bucket"] if told == "listing" else ["/some-bucket"])


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("region", ["", "evil.example.com/x", "eu-west-1"])
def test_a_bucket_that_is_nobody_knows_where_is_an_error_with_a_remedy(
    region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"<Error><Code>PermanentRedirect</Code><Region>{region}</Region></Error>".encode()
    with answering(lambda *_: (301, {"x-amz-bucket-region": region}, body)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(RemoteError, match="another region, or at another endpoint: set AWS_REGION"):
            list(open_source("s3://some-bucket").entries())


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("ask", ["page", "head", "get"])
def test_a_server_that_wants_https_is_asked_a_few_times_and_said(ask: str) -> None:
    asked: list[str] = []

    def answer(path: str, *_: object) -> Answer:
        asked.append(path)
        return 400, {}, b"Client sent an HTTP request to an HTTPS server.\n"

    with answering(answer) as url:
        place = location(f"minio://{url.removeprefix('http://')}/bucket/photo.jpg")
        with pytest.raises(EndpointError, match=r"does it want https\? .*FASTDUP_MINIO_NAME=https://"):
            getattr(object_store(place.server), ask)(place)
    assert len(asked) <= 3


@pytest.mark.usefixtures("credentials")
def test_a_server_that_knows_no_ranges_gives_the_bytes_that_were_asked_for_all_the_same() -> None:
    whole = bytes(range(256)) * 8
    with answering(lambda *_: (200, {"ETag": '"e"'}, whole)) as url:
        place = location(f"minio://{url.removeprefix('http://')}/bucket/photos.tar")
        store = object_store(place.server)
        assert store.get(place, 300, 309) == whole[300:310]
        assert store.get(place, 2000, 5000) == whole[2000:]
        with pytest.raises(PastTheEndError):
            store.get(place, len(whole), len(whole) + 9)


@pytest.mark.usefixtures("credentials")
def test_an_empty_page_with_a_next_is_not_the_end() -> None:
    def answer(path: str, asked: dict[str, list[str]], _: object) -> Answer:
        if "continuation-token" in asked:
            return 200, {}, listing(contents("photos/a.jpg") + "<IsTruncated>false</IsTruncated>")
        return 200, {}, listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")

    with answering(answer) as url:
        root = f"minio://{url.removeprefix('http://')}/bucket/photos"
        assert holds_anything(root)
        assert [entry.filename for entry in open_source(root).entries()] == ["a.jpg"]
