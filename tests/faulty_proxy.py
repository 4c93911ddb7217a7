"""An HTTP proxy that does what servers do on bad days: in front of an S3 server, in threads of this process.

Every tenth request, as seeded dice fall, is answered with 503 or 500, is cut off before an answer, or gets half of the
body. Latency can be added to every request.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("503", "500", "reset", "truncated")
_CODES = {"503": "SlowDown", "500": "InternalError", "403": "AccessDenied"}
_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"})


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to a server, some of them badly.

    Args:
        upstream: URL of the server.
        share: of the requests that fail, 0 to 1.
        faults: in which ways.
        latency: seconds before every answer.
        seed: of the dice.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, upstream: str, share: float = 0.1, faults: tuple[str, ...] = FAULTS, latency: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = urlsplit(upstream).netloc
        self.share, self.faults, self.latency = share, faults, latency
        self.counts: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self._dice = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, path: str) -> str | None:
        """Counts a request; how it is to fail, None if not at all."""
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.paths[path] += 1
            fault = self._dice.choice(self.faults) if self._dice.random() < self.share else None
            self.counts[fault or "ok"] += 1
            return fault

    def end(self) -> None:
        """The answer is out."""
        with self._lock:
            self.in_flight -= 1

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultyProxy

    def _pass_on(self) -> None:
        fault = self.server.begin(self.path)
        try:
            self._answer(fault)
        finally:
            self.server.end()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _answer(self, fault: str | None) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.server.latency)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault in _CODES:
            self._reply(int(fault), [], f"<Error><Code>{_CODES[fault]}</Code></Error>".encode())
        else:
            upstream = http.client.HTTPConnection(self.server.host, timeout=30)
            upstream.request(self.command, self.path, body or None, dict(self.headers))
            answer = upstream.getresponse()
            self._reply(answer.status, answer.getheaders(), answer.read(), fault == "truncated")
            upstream.close()

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes, truncated: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.server.sent[self.path] += len(body)
            self.wfile.write(body[: len(body) // 2] if truncated else body)
        if truncated:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def faulty_proxy(upstream: str, **how: object) -> Iterator[FaultyProxy]:
    """A proxy that runs in a thread; see `FaultyProxy`."""
    proxy = FaultyProxy(upstream, **how)  # type: ignore[arg-type]
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
