"""The server of galleries: pages of registered data sets, and nothing else, to this machine alone."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastdup_dagster.command_line.pages_server import pages_server
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.storage import open_store

Get = Callable[..., tuple[int, bytes, dict[str, str]]]


@pytest.fixture
def pages(home: Path) -> Path:
    register("pets", DatasetEntry(root="/nowhere", splits={"train": "train"}))
    folder = home / "store" / "pages" / "pets"
    (folder / "train" / "images").mkdir(parents=True)
    (folder / "report.html").write_text("<p>ä</p>")
    (folder / "train" / "images" / "1 é.jpg").write_bytes(b"\xff\xd8")
    (folder / "train" / "table.parquet").write_text("secret")
    (home / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(home / "secret.html")
    return folder


@pytest.fixture
def get(pages: Path) -> Iterator[Get]:
    with pages_server(0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]

        def ask(path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request(method, path, headers={"Host": f"{host}:{port}"})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}

        yield ask
        server.shutdown()
        thread.join()
    assert server.server_address[0] == "127.0.0.1"


def test_pages_and_pictures_are_given_out(get: Get):
    status, body, headers = get("/pets/report.html")
    assert (status, body.decode()) == (200, "<p>ä</p>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert get("/pets/train/images/1%20%C3%A9.jpg")[0] == 200
    assert get("/pets/report.html?a=1#b", method="HEAD")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/pets",
        "/pets/",
        "/pets/train/",
        "/cats/report.html",
        "/pets/none.html",
        "/pets/train/table.parquet",
        "/pets/../../../secret.html",
        "/pets/%2e%2e/%2e%2e/%2e%2e/secret.html",
        "/pets/..%2f..%2f..%2fsecret.html",
        "//etc/passwd",
        "/pets/link.html",
        "/pets/report.html%00",
        "/a%20b/report.html",
    ],
)
def test_everything_else_is_not_there(get: Get, path: str):
    status, body, _ = get(path)
    assert status == 404
    assert b"secret" not in body


def test_a_foreign_host_name_is_refused(get: Get):
    assert get("/pets/report.html", host="evil.example")[0] == 403
    assert get("/pets/report.html", host="localhost")[0] == 200


def test_a_data_set_that_is_registered_later_is_found(get: Get, home: Path):
    assert get("/new/report.html")[0] == 404
    register("new", DatasetEntry(root="/nowhere", splits={"all": "."}, store=str(home / "other")))
    (home / "other" / "pages" / "new").mkdir(parents=True)
    (home / "other" / "pages" / "new" / "report.html").write_text("new")
    assert get("/new/report.html")[:2] == (200, b"new")


def test_pages_of_a_store_in_a_bucket_are_given_out_with_links_to_this_server(get: Get, home: Path, s3_server):
    store = open_store(f"s3://{s3_server.bucket()}/out")
    register("remote", DatasetEntry(root="/nowhere", splits={"train": "train"}, store=store.name))
    page = store.pages("remote/train") / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="../report.html">ä</a>')
    store.publish_page("remote/train", "report.html", seconds=60)
    status, body, headers = get("/remote/train/report.html")
    assert (status, body.decode()) == (200, '<a href="/remote/report.html">ä</a>')
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert get("/remote/train/report.html", method="HEAD")[0] == 200
    for path in ("/remote/report.html", "/remote/../other/x.html", "/remote/train/"):
        assert get(path)[0] == 404
