"""Connections of urllib3 that take little CPU time for one answer: most are a few lines and a body of known length.

The standard library's client takes its answers line by line and parses headers as those of e-mails: .2 ms of the .5 ms
that a GET of a photo costs. Here the usual answer is cut out of the bytes that came; every other one (chunked, an
error, one to a HEAD, a large one) goes to the standard library, with what came of it. Connecting, certificates,
proxies, time-outs and keeping connections stay urllib3's.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Mapping
from http.client import HTTPResponse as StandardResponse
from http.client import IncompleteRead, LineTooLong, RemoteDisconnected
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

_AT_ONCE = 65_536
_LONGEST_HEAD = 65_536
# A buffer of the length that a server claims: a larger body is read as it comes.
_LARGEST = 64 * 1024 * 1024
_USUAL = (b"HTTP/1.1 200 ", b"HTTP/1.1 206 ")


class _Lean:
    """Sends a request in one piece, and reads its answer whole."""

    sock: Any
    timeout: Any
    _method = "GET"

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> None:
        """Sends a request without a body; its headers are sent as they are, `Host` among them.

        Raises:
            OSError: if it cannot be sent.
            ValueError: for a line break in a header, or a body.
        """
        lines = [
            f"{method} {url} HTTP/1.1",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if body is not None or any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a request of one line each header and no body is expected")
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self.sock.settimeout(self.timeout)
        self._method = method
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def getresponse(self) -> HTTPResponse:
        """The answer, with its body.

        Raises:
            OSError: if the connection breaks.
            http.client.HTTPException: if it ends too early, or is no answer.
        """
        self.sock.settimeout(self.timeout)
        came = _head(self.sock)
        end = came.index(b"\r\n\r\n") + 4
        usual = self._method == "GET" and came.startswith(_USUAL)
        headers = dict(map(_header, bytes(came[: end - 4]).split(b"\r\n")[1:])) if usual else {}
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) <= _LARGEST and "transfer-encoding" not in headers:
            status = int(came[9:12])
            data = _body(self.sock, came[end:], int(length))
            closes = headers.get("connection", "").lower() == "close" or len(came) - end > len(data)
        else:
            answer = StandardResponse(_Replayed(self.sock, bytes(came)), method=self._method)  # type: ignore[arg-type]
            answer.begin()
            status, data, closes = answer.status, answer.read(), answer.will_close
            headers = {name.lower(): value for name, value in answer.getheaders()}
        if closes:
            self.close()  # type: ignore[attr-defined]
        return HTTPResponse(data or io.BytesIO(), headers, status, decode_content=False, request_method=self._method)


class _LeanHTTPConnection(_Lean, HTTPConnection):  # type: ignore[misc]
    pass


class _LeanHTTPSConnection(_Lean, HTTPSConnection):  # type: ignore[misc]
    pass


def lean(pool: HTTPConnectionPool) -> HTTPConnectionPool:
    """The pool, whose connections are of this kind from now on; to be called before it has any."""
    is_secure = isinstance(pool, HTTPSConnectionPool)
    pool.ConnectionCls = _LeanHTTPSConnection if is_secure else _LeanHTTPConnection
    return pool


class _Replayed(io.RawIOBase):
    """A socket as the standard library's response wants it, with bytes that came already before it."""

    def __init__(self, sock: socket.socket, came: bytes) -> None:
        self._sock = sock
        self._came = came

    def makefile(self, mode: str) -> io.BufferedReader:
        """The file that the response reads."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._came:
            return self._sock.recv_into(buffer)
        some, self._came = self._came[: len(buffer)], self._came[len(buffer) :]
        buffer[: len(some)] = some
        return len(some)


def _head(sock: socket.socket) -> bytearray:
    """What comes until the end of the headers, and some of the body."""
    came = bytearray()
    while b"\r\n\r\n" not in came:
        some = sock.recv(_AT_ONCE)
        if not some:
            raise RemoteDisconnected("the connection ended before an answer")
        came += some
        if len(came) > _LONGEST_HEAD and b"\r\n\r\n" not in came:
            raise LineTooLong("headers")
    return came


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("latin-1").lower(), value.strip().decode("latin-1")


def _body(sock: socket.socket, came: bytearray, length: int) -> bytes:
    """So many bytes, the first of which came already."""
    if len(came) >= length:
        return bytes(came[:length])
    data = bytearray(length)
    data[: len(came)] = came
    rest = memoryview(data)[len(came) :]
    while rest:
        count = sock.recv_into(rest)
        if not count:
            raise IncompleteRead(bytes(data[: length - len(rest)]), len(rest))
        rest = rest[count:]
    return bytes(data)
