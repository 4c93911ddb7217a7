"""Archives and videos as inputs: their members and frames as entries."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import BinaryIO

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import opening
from fastdup_dagster.sources.archive import BrokenArchiveError, Member, checked
from fastdup_dagster.sources.base import Entry, FrameChoice
from fastdup_dagster.sources.gzip_stream import GzipReader, gzip_reader
from fastdup_dagster.sources.locations import Location, location
from fastdup_dagster.sources.object_store import object_store
from fastdup_dagster.sources.parts import Part, path_of
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, container_kind, display_name, extension, to_uri
from fastdup_dagster.sources.remote_errors import RemoteFileNotFoundError
from fastdup_dagster.sources.tar import tar_members
from fastdup_dagster.sources.zip import zip_members

_EVERY = Settings(video_frames="all")


class Contents:
    """Entries of archives and videos, and what was left out of them.

    Args:
        settings: which frames of a video are taken.
    """

    def __init__(self, settings: Settings) -> None:
        self._frame_choice = FrameChoice(settings.video_frames, settings.video_rate, settings.scene_threshold)
        self._left_out: Counter[str] = Counter()
        self._nested: Counter[str] = Counter()
        self._replaced = 0
        self._told: list[str] = []

    @property
    def notes(self) -> list[str]:
        """What was left out, over all containers, and which of them are broken."""
        notes = list(self._told)
        if self._nested:
            notes.append(f"archives or videos inside of archives, not opened: {_counts(self._nested)}")
        if self._replaced:
            notes.append(f"{self._replaced} members are replaced by later ones of the same name in their archive")
        if self._left_out:
            notes.append(f"in archives, not images by their names, left out: {_counts(self._left_out)}")
        return notes

    def entries(self, container: Entry) -> Iterator[Entry]:
        """The members in bytewise order of their names, or the frames in theirs.

        A container that cannot be read, in part or as a whole, is an entry of its own that says why.

        Args:
            container: the archive or video; its uri says where, its filename comes before each member's name.
        """
        if container.error_code is not None:
            yield container
            return
        kind = container_kind(container.uri.encode()) or ""
        try:
            with opening.open_binary(container.uri) as file:
                size = file.seek(0, 2)
                token = container.etag or f"{size} bytes"
                if kind == "video":
                    yield from self._frames(container, token)
                else:
                    yield from self._members(container, kind, file, size, token)
        except OSError as error:
            yield _failed(container, kind, f"cannot be read: {error.strerror or error}")

    def _members(self, container: Entry, kind: str, file: BinaryIO, size: int, token: str) -> Iterator[Entry]:
        found: dict[bytes, Member] = {}
        is_told, problem = False, None
        try:
            for member in _listing(kind, file, size, container.uri):
                if self._takes(member):
                    self._replaced += member.name in found
                    found[member.name] = member
                    is_told |= member.code == "READ_ERROR"
        except BrokenArchiveError as error:
            self._told.append(f"{container.filename}: {error}; {len(found)} images of it are known")
            problem = error if error.is_certain and not is_told else None
        if problem is not None:
            yield _failed(container, kind, f"{problem}; {len(found)} images of it are known")
        elif not found:
            self._told.append(f"{container.filename}: no images inside")
        for name in sorted(found):
            yield _member_entry(container, kind, found[name], token)

    def _takes(self, member: Member) -> bool:
        if (kind := extension(member.name)) in IMAGE_EXTENSIONS:
            return True
        if container_kind(member.name):
            self._nested[kind] += 1
        else:
            self._left_out[kind] += 1
        return False

    def _frames(self, container: Entry, token: str) -> Iterator[Entry]:
        from fastdup_dagster.sources import video  # OpenCV is not needed for a listing of images

        try:
            frames, count = _chosen_frames(container.uri, container.mtime_ns, token, self._frame_choice)
        except video.BrokenVideoError as error:
            yield _failed(container, "video", str(error))
            return
        width = max(6, len(str(count)))
        for number, seconds in frames:
            name = f"frame_{number:0{width}}"
            yield Entry(
                f"{container.filename}/{name}",
                Part(container.uri, "video", name.encode(), number, seconds=seconds).uri,
                mtime_ns=container.mtime_ns,
                etag=token,
                media="frame",
                timestamp=seconds,
            )


def _listing(kind: str, file: BinaryIO, size: int, uri: str) -> Iterator[Member]:
    """The members, those that are refused with the reason."""
    if kind == "tgz":
        return _of_gzip(gzip_reader(uri, file))
    return map(checked, zip_members(file, size) if kind == "zip" else tar_members(file))


def _of_gzip(reader: GzipReader) -> Iterator[Member]:
    """Judged by what each takes in the file, as those of a zip are; that is no part of what they are, being rough."""
    before = reader.source
    for member in tar_members(reader):
        yield replace(checked(replace(member, packed=reader.source - before)), packed=0)
        before = reader.source


def _member_entry(container: Entry, kind: str, member: Member, token: str) -> Entry:
    place = Part(container.uri, kind, member.name, member.offset, member.size, member.packed, member.method, member.crc)
    code, error = member.code, member.reason
    if code is None and member.size == 0:
        code, error = "ZERO_SIZE_FILE", "the member is empty"
    return Entry(
        f"{container.filename}/{display_name(member.name)}",
        place.uri,
        member.size,
        container.mtime_ns,
        code,
        error,
        token,
        "member",
    )


def _failed(container: Entry, kind: str, why: str) -> Entry:
    media, code = ("frame", "CORRUPT_IMAGE") if kind == "video" else ("member", "READ_ERROR")
    return Entry(
        container.filename, container.uri, container.file_size, container.mtime_ns, code, why, container.etag, media
    )


def _counts(by_kind: Counter[str]) -> str:
    return ", ".join(f"{n} {'.' + kind if kind else 'without extension'}" for kind, n in sorted(by_kind.items()))


def entry_at(path: bytes) -> Entry | None:
    """The entry of the member or frame that an absolute path means, `…/a.tar/cats/1.jpg`; None if there is no such one.

    Its filename is the path as people read it.
    """
    container, slash = path, b"/"
    while not os.path.lexists(container) and slash:
        container, slash, _ = container.rpartition(b"/")
    if container == path or not container_kind(container) or not os.path.isfile(container):  # noqa: PTH113 bytes
        return None
    status = os.stat(container)  # noqa: PTH116 bytes
    return _entries_by_path(container, status.st_size, status.st_mtime_ns).get(path)


@lru_cache(maxsize=2)
def _entries_by_path(container: bytes, _size: int, mtime_ns: int) -> dict[bytes, Entry]:
    """Remembered, because annotations name one member of an archive after another."""
    whole = Entry(display_name(container), to_uri(container), mtime_ns=mtime_ns)
    return {path_of(entry.uri): entry for entry in Contents(_EVERY).entries(whole)}


def uri_of(path: bytes) -> str:
    """The URI of an absolute path: of a file, or of a member or frame, as `entry_at` finds it."""
    entry = entry_at(path)
    return to_uri(path) if entry is None else entry.uri


def remote_uri_of(text: str) -> str:
    """The URI of a place in an object store: of an object, or of a member or frame, `s3://bucket/a.tar/cats/1.jpg`.

    Raises:
        RemoteError: if the archive or video in front of the name cannot be asked for.
        ValueError: if it is no such place.
    """
    place = location(text)
    parents = list(PurePosixPath(place.key).parents)[-2::-1]
    container = next((str(parent) for parent in parents if container_kind(os.fsencode(parent))), None)
    if container is None:
        return place.uri
    whole = Location(place.server, place.bucket, container)
    try:
        etag = object_store(place.server).head(whole).get("ETag")
    except RemoteFileNotFoundError:  # a folder that is called like an archive
        return place.uri
    return _remote_uris(whole.uri, etag).get(os.fsencode(place.text), place.uri)


@lru_cache(maxsize=2)
def _remote_uris(container: str, etag: str | None) -> dict[bytes, str]:
    whole = Entry("", container, etag=etag)
    return {path_of(entry.uri): entry.uri for entry in Contents(_EVERY).entries(whole)}


@lru_cache(maxsize=64)
def _chosen_frames(
    uri: str, _mtime_ns: int | None, _token: str, choice: FrameChoice
) -> tuple[list[tuple[int, float]], int]:
    """Remembered, because one run lists its input more than once, and scenes are found by decoding all of a video."""
    from fastdup_dagster.sources import video

    return video.chosen_frames(uri, choice)
