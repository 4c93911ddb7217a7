"""A lock that machines share: an object that only one of them can create, and that expires.

It is created by a conditional write (`If-None-Match: *`), renewed while it is held, and taken over (`If-Match`) when it
was not renewed for a while: its holder was killed. Ages are differences of the server's own times, so clocks of
machines do not matter. A server that ignores conditions gives no protection: then the local lock is all there is, and
publishing whole objects keeps readers safe.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from fastdup_dagster.s3.objects import Objects, error_code
from fastdup_dagster.sources.locations import Location
from fastdup_dagster.sources.remote_errors import RemoteError, RemoteFileNotFoundError

EXPIRY = 60.0
_PAUSE = 0.5
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class TakenError(RuntimeError):
    """Another machine, or process, holds the lock; the message says which."""


class ObjectLock:
    """One lock; `with lock.held(patience): …`.

    Args:
        objects: the endpoint.
        place: of the object that stands for the lock.
        expiry: seconds after which a lock that was not renewed may be taken over.
    """

    def __init__(self, objects: Objects, place: Location, expiry: float = EXPIRY) -> None:
        self._objects, self._place, self._expiry = objects, place, expiry
        self._me = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._etag = ""
        self._renewals = 0
        self._is_lost = False

    @contextlib.contextmanager
    def held(self, patience: float) -> Iterator[None]:
        """Holds the lock; it is renewed by a thread.

        Raises:
            TakenError: if another one still holds it after `patience` seconds; at the end, if another one took it
                over meanwhile, because it could not be renewed in time.
        """
        end = time.monotonic() + patience
        while not self._take():
            if time.monotonic() >= end:
                raise TakenError(f"held by {self._holder()}")
            time.sleep(min(_PAUSE, max(patience, 0.01)))
        stop = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(stop,), name="lock", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            stop.set()
            renewing.join()
            self._release()
        if self._is_lost:
            raise TakenError(f"taken over by {self._holder()} while this run had no connection: run it again")

    def _take(self) -> bool:
        """Creates the object, or takes over one that has expired."""
        if self._write(IfNoneMatch="*"):
            return True
        there = self._objects.head(self._place)
        if there is None or _age(there) <= self._expiry:
            return False
        return self._write(IfMatch=there["ETag"])

    def _write(self, **condition: str) -> bool:
        self._renewals += 1  # another content, another ETag: whoever saw the old one cannot take over
        body = json.dumps({"holder": self._me, "renewals": self._renewals}).encode()
        try:
            self._etag = self._objects.put(self._place, body, "application/json", **condition)
        except RemoteFileNotFoundError:  # released between two requests
            return False
        except RemoteError as error:
            if error_code(error) not in _TAKEN:
                raise
            return self._is_mine()
        return True

    def _is_mine(self) -> bool:
        """Whether a write that was refused was refused for our own: the answer to the first attempt got lost."""
        there = self._objects.head(self._place)
        if there is None or self._holder() != self._me:
            return False
        self._etag = there["ETag"]
        return True

    def _holder(self) -> str:
        try:
            return str(json.loads(self._objects.store.get(self._place))["holder"])
        except (RemoteFileNotFoundError, ValueError, KeyError):
            return "another run"

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(self._expiry / 4):
            with contextlib.suppress(RemoteError):  # tried again in a moment; until it expires nothing is lost
                if not self._write(IfMatch=self._etag):
                    self._is_lost = True
                    return

    def _release(self) -> None:
        with contextlib.suppress(
            RemoteError
        ):  # it expires by itself; and one that was taken over is not ours to delete
            self._objects.call("delete_object", self._place, Key=self._place.key, IfMatch=self._etag)


def _age(head: dict[str, Any]) -> float:
    """Seconds between the last write and the answer, both by the server's clock."""
    date = head["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return float((now - head["LastModified"]).total_seconds())
