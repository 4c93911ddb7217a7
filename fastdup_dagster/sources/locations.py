"""Places in object stores: `s3://bucket/key`, and `minio://server/bucket/key` for a server of one's own.

People write a key as it is (`s3://photos/my cat.jpg`), as the AWS command line does; a URI in a table holds it
percent-encoded, so that every key survives: spaces, %, +, newlines, other scripts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard
from urllib.parse import quote, unquote

from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, as_bytes, container_kind, extension, to_uri

_SCHEMES = ("s3://", "minio://")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[^/]+")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket, or a key or prefix in it.

    Attributes:
        server: of `minio://`: `host:port`, or an alias; empty for the endpoint of the AWS settings.
        bucket: its name.
        key: as it is, not encoded; empty for the bucket as a whole.
    """

    server: str
    bucket: str
    key: str

    @property
    def store(self) -> str:
        """The bucket, as people write it."""
        return f"minio://{self.server}/{self.bucket}" if self.server else f"s3://{self.bucket}"

    @property
    def text(self) -> str:
        """As people write it: the key as it is."""
        return f"{self.store}/{self.key}" if self.key else self.store

    @property
    def uri(self) -> str:
        """As tables hold it: the key percent-encoded."""
        return f"{self.store}/{quote(self.key, safe='/~', errors='surrogateescape')}"

    @property
    def folder(self) -> Location:
        """The same with a key that ends with a slash, as the keys in it begin; the bucket as a whole stays itself."""
        key = self.key.rstrip("/")
        return Location(self.server, self.bucket, f"{key}/" if key else "")


def is_remote(place: object) -> TypeGuard[str]:
    """Whether a text is a place in an object store."""
    return isinstance(place, str) and place.startswith(_SCHEMES)


def location(text: str) -> Location:
    """What a person means by a text: the key is taken as it stands.

    Raises:
        ValueError: if it names no bucket, holds a user and password, or its server is neither `host:port` nor an
            alias. The text itself is not repeated where it may hold a password.
    """
    scheme, _, rest = text.partition("://")
    if not is_remote(text):
        raise ValueError(f"{text!r}: expected s3://bucket/prefix or minio://server/bucket/prefix")
    server = ""
    if scheme == "minio":
        server, _, rest = rest.partition("/")
    bucket, _, key = rest.partition("/")
    if "@" in server or "@" in bucket:
        raise ValueError(
            f"a {scheme}:// URL with a user or password in it is refused: put credentials where the AWS tools look for "
            "them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a role), and leave them out of the URL"
        )
    if scheme == "minio" and not (_HOST_AND_PORT.fullmatch(server) or _ALIAS.fullmatch(server)):
        raise ValueError(f"{text!r}: {server!r} is no server; expected minio://host:port/bucket/prefix, or an alias")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{text!r}: {bucket!r} is no name of a bucket; expected s3://bucket/prefix")
    return Location(server, bucket, key)


def location_of(uri: str) -> Location:
    """The place behind a URI of a table: its key is percent-encoded.

    Raises:
        ValueError: if it is none.
    """
    found = location(uri)
    return Location(found.server, found.bucket, unquote(found.key, errors="surrogateescape"))


def endpoint_of(server: str) -> str | None:
    """The URL of a `minio://` server; None for the endpoint of the AWS settings.

    An alias stands for what the variable `FASTDUP_MINIO_<ALIAS>` says, as `https://minio.example.com:9000`.

    Raises:
        ValueError: for an alias that no variable explains.
    """
    if not server:
        return None
    if ":" in server:
        return f"http://{server}"
    variable = f"FASTDUP_MINIO_{re.sub('[^A-Za-z0-9]', '_', server).upper()}"
    url = os.environ.get(variable, "")
    if not re.fullmatch(r"https?://[^/@]+/?", url):
        raise ValueError(
            f"minio://{server}/: no server is known by this name; set {variable} to its address, such as "
            "https://minio.example.com:9000 (no user or password in it), or write minio://host:port/bucket/prefix"
        )
    return url.rstrip("/")


def is_remote_file(text: str) -> bool:
    """Whether an input is one object, as its extension says, and not a prefix.

    That is a list file, a YOLO yaml, an archive or video, or, wrongly, an image.
    """
    name = os.fsencode(location(text).key)
    kind = extension(name)
    return kind in ("txt", "csv", "yaml", "yml") or kind in IMAGE_EXTENSIONS or container_kind(name) is not None


def remote_base(text: str) -> str:
    """The prefix that names in or beside an input start at: itself, or the one that a file is in."""
    place = location(text)
    if not is_remote_file(text):
        return text
    return Location(place.server, place.bucket, place.key.rpartition("/")[0]).text


def joined(root: str | Path, name: str) -> str | Path:
    """A name below a folder or a prefix; a place of its own stays what it is. The type is that of the result."""
    if is_remote(name):
        return name
    if is_remote(root):
        return str(root) if name in ("", ".") else f"{str(root).rstrip('/')}/{name}"
    return Path(root) / name


def place_in(base: str | Path, name: str) -> bytes:
    """The one spelling of the place that a name below a base means: an absolute path, or a location's text."""
    place = joined(base, name)
    return os.fsencode(place) if isinstance(place, str) else as_bytes(place)


def uri_in(base: str | Path, name: str) -> str:
    """The URI of the place that a name below a base means."""
    place = joined(base, name)
    return location(place).uri if isinstance(place, str) else to_uri(as_bytes(place))
