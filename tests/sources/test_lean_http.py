"""Answers of servers, usual and unusual, as urllib3 gives them on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from fastdup_dagster.sources import lean_http
from fastdup_dagster.sources.lean_http import lean

Ask = Callable[..., urllib3.BaseHTTPResponse]


class Scripted:
    """A server that gives prepared answers, a list of pieces each, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[list[bytes]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while request := connection.recv(65536):
                self.requests.append(request)
                for piece in self.answers.pop(0):
                    if piece == b"END":
                        return
                    connection.sendall(piece)
                    time.sleep(0.01)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


@pytest.fixture
def ask(server: Scripted) -> Iterator[Ask]:
    """A request to the server, which answers with these pieces."""
    with urllib3.PoolManager(timeout=2) as manager:
        pool = lean(manager.connection_from_url(f"http://127.0.0.1:{server.port}"))

        def once(*pieces: bytes, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
            server.answers.append(list(pieces))
            sent = {"Host": "bucket.example.com", **headers}
            return pool.urlopen(method, "/key", headers=sent, retries=False, redirect=False, decode_content=False)

        yield once


_CHUNKED = b"HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "status", "data"),
    [
        ([b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\nabcde'], 200, b"abcde"),
        ([b"HTTP/1.1 206 Partial\r\nContent-", b"Length: 5\r\n\r", b"\nab", b"c", b"de"], 206, b"abcde"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\n", b"abcde"], 200, b"abcde"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], 200, b""),
        ([_CHUNKED % b"200 OK"], 200, b"abcde"),
        ([_CHUNKED % b"503 Slow Down"], 503, b"abcde"),
        ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nab", b"cde"], 404, b"abcde"),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"], 200, b"abcde"),
        ([b"HTTP/1.0 200 OK\r\n\r\nabc", b"de", b"END"], 200, b"abcde"),
        ([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde", b"END"], 200, b"abcde"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde and more"], 200, b"abcde"),
    ],
)
def test_an_answer_is_read_whatever_its_form_and_the_next_one_too(ask, pieces, status, data):
    for _ in range(2):
        answer = ask(*pieces)
        assert (answer.status, answer.data) == (status, data)


def test_headers_are_found_whatever_their_case_and_a_connection_is_used_again(ask, server):
    for _ in range(3):
        assert ask(b'HTTP/1.1 200 OK\r\netag: "e"\r\nContent-Length: 1\r\n\r\na').headers["ETag"] == '"e"'
    assert server.connections == 1


def test_a_request_says_what_it_was_given(ask, server):
    ask(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", Range="bytes=0-0")
    assert server.requests == [
        b"GET /key HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: bucket.example.com\r\nRange: bytes=0-0\r\n\r\n"
    ]


def test_an_answer_to_head_has_no_body(ask):
    for _ in range(2):
        answer = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method="HEAD")
        assert (answer.status, answer.headers["Content-Length"], answer.data) == (200, "5", b"")


def test_a_large_body_is_read_as_it_comes(ask, monkeypatch):
    monkeypatch.setattr(lean_http, "_LARGEST", 4)
    assert ask(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"cde").data == b"abcde"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"END"],
        [b"HTTP/1.1 200 O", b"END"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"END"],
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nabc", b"END"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", b"END"],
        [b"SSH-2.0-server\r\n\r\n", b"END"],
        [b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 20_000, b"END"],
    ],
)
def test_an_answer_that_ends_early_or_is_none_is_an_error_and_the_next_one_is_read(ask, pieces):
    with pytest.raises(ProtocolError):
        ask(*pieces)
    assert ask(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").data == b"a"


def test_a_server_that_stops_in_the_middle_is_given_up_after_the_time_out(server):
    with urllib3.PoolManager(timeout=0.2) as manager:
        pool = lean(manager.connection_from_url(f"http://127.0.0.1:{server.port}"))
        server.answers.append([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"])
        with pytest.raises(HTTPError, match="timed out"):
            pool.urlopen("GET", "/key", headers={"Host": "h"}, retries=False)


def test_a_line_break_in_a_header_is_refused(ask, server):
    with pytest.raises(ValueError, match="one line each header"):
        ask(b"", **{"If-Match": "a\r\nX: y"})
    assert server.requests == []
