"""Members of archives and frames of videos by URI: the container's URI, and in its fragment which part of it is meant.

`file:///data/a.tar#kind=tar&name=cats%2F1.jpg&offset=512&size=4711`: a part is found without its container's listing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fastdup_dagster.sources.locations import is_remote, location_of
from fastdup_dagster.sources.paths import local_path


class BrokenPartError(OSError):
    """A part that its container does not give, though it is listed there; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


@dataclass(frozen=True, slots=True)
class Part:
    """One member or frame.

    Attributes:
        container: the container's URI.
        kind: tar, tgz, zip or video.
        name: inside the container; of a frame, `frame_000120`.
        offset: of the member's bytes; in a tgz, in what it unpacks to; in a zip, of the local header; of a frame, its
            number.
        size: bytes of a member, unpacked.
        packed: bytes of a zip member as they lie there.
        method: compression method of a zip member.
        crc: CRC-32 of a zip member.
        seconds: of a frame, from the first one.
    """

    container: str
    kind: str
    name: bytes
    offset: int
    size: int = 0
    packed: int = 0
    method: int = 0
    crc: int = 0
    seconds: float = 0.0

    @property
    def uri(self) -> str:
        """The URI of the part."""
        given = [f"{name}={value}" for name in _NUMBERS if (value := getattr(self, name))]
        name = quote_from_bytes(self.name, safe="")
        return "&".join([f"{self.container}#kind={self.kind}", f"name={name}", *given])


_NUMBERS = {field.name: float if field.name == "seconds" else int for field in fields(Part)[3:]}


def part_of(uri: str) -> Part | None:
    """The part that a URI names; None for the URI of a file of its own.

    Raises:
        ValueError: for a fragment that no listing wrote.
    """
    container, is_part, fragment = uri.partition("#")
    if not is_part:
        return None
    values = dict(pair.split("=", 1) for pair in fragment.split("&") if "=" in pair)
    if not values.keys() >= {"kind", "name"}:
        raise ValueError(f"not the URI of a member or frame: {uri!r}")
    numbers = {name: kind(values.get(name, 0)) for name, kind in _NUMBERS.items()}
    return Part(container, values["kind"], unquote_to_bytes(values["name"]), **numbers)  # type: ignore[arg-type]


def container_of(uri: str) -> str:
    """The URI of the file that holds the bytes: of the container for a part, else the URI itself."""
    return uri.partition("#")[0]


def moved(uri: str, places: Mapping[str, str]) -> str:
    """The URI with another place of its file, or its container, where there is one.

    Args:
        uri: of a file, or a part.
        places: URIs of files by the URIs that they stand for.
    """
    container = container_of(uri)
    return places.get(container, container) + uri.removeprefix(container)


def path_of(uri: str) -> bytes:
    """The place that people write: a path, or a location in an object store; of a part, with its name behind it.

    It is spelled as `place_in` does it.

    Raises:
        ValueError: if it is neither a local file's nor in an object store.
    """
    container = container_of(uri)
    place = os.fsencode(location_of(container).text) if is_remote(container) else local_path(container)
    part = part_of(uri)
    return place if part is None else place + b"/" + part.name
