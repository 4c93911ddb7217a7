"""Archives and videos as inputs: their members and frames as entries, and the bytes of one of them.

Nothing is unpacked to disk. A member of a tar or zip is read where it lies; of a tgz, from the state of the
decompressor before it; a frame by decoding on from the one before it, if a reader stands there.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, Protocol

from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import opening
from fastdup_dagster.sources.archive import BrokenArchiveError, Member, checked
from fastdup_dagster.sources.base import Entry, FrameChoice
from fastdup_dagster.sources.gzip_stream import GzipIndex, GzipReader
from fastdup_dagster.sources.parts import BrokenPartError, Part, path_of
from fastdup_dagster.sources.paths import IMAGE_EXTENSIONS, container_kind, display_name, extension, to_uri
from fastdup_dagster.sources.tar import tar_members
from fastdup_dagster.sources.zip import read_zip_member, zip_members

_SHOWN = 5
# Containers whose gzip states are remembered, for galleries and the like after a pass.
_INDEXED = 4


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
            for member in map(checked, _listing(kind, file, size, container.uri)):
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
    if kind == "zip":
        return zip_members(file, size)
    return tar_members(GzipReader(file, _index(uri, _token(file))) if kind == "tgz" else file)


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
    every = Settings(video_frames="all")
    return {path_of(entry.uri): entry for entry in Contents(every).entries(whole)}


def uri_of(path: bytes) -> str:
    """The URI of an absolute path: of a file, or of a member or frame, as `entry_at` finds it."""
    entry = entry_at(path)
    return to_uri(path) if entry is None else entry.uri


@lru_cache(maxsize=64)
def _chosen_frames(
    uri: str, _mtime_ns: int | None, _token: str, choice: FrameChoice
) -> tuple[list[tuple[int, float]], int]:
    """Remembered, because one run lists its input more than once, and scenes are found by decoding all of a video."""
    from fastdup_dagster.sources import video

    return video.chosen_frames(uri, choice)


class _Reader(Protocol):
    at: int

    def close(self) -> None: ...


@dataclass
class _Idle:
    """Readers that stand somewhere in a container and may be wanted again; none are kept outside of `keeping_open`."""

    keep: int = 0
    readers: list[tuple[str, _Reader]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, uri: str, at: int) -> _Reader | None:
        """The reader of this container that stands nearest before a place, no longer idle."""
        with self.lock:
            fitting = [pair for pair in self.readers if pair[0] == uri and pair[1].at <= at]
            best = max(fitting, key=lambda pair: pair[1].at, default=None)
            if best is None:
                return None
            self.readers.remove(best)
            return best[1]

    def give(self, uri: str, reader: _Reader) -> None:
        """Takes a reader back; the one that waits longest is closed if there are too many."""
        with self.lock:
            self.readers.append((uri, reader))
            surplus = self.readers[: max(0, len(self.readers) - self.keep)]
            del self.readers[: len(surplus)]
        for _, old in surplus:
            old.close()


_idle = _Idle()


@contextmanager
def keeping_open(readers: int) -> Iterator[None]:
    """While this lasts, containers that must be read from front to back stay open between one part and the next."""
    with _idle.lock:
        _idle.keep += readers
    try:
        yield
    finally:
        with _idle.lock:
            _idle.keep -= readers
            surplus = _idle.readers[: max(0, len(_idle.readers) - _idle.keep)]
            del _idle.readers[: len(surplus)]
        for _, old in surplus:
            old.close()


def read_part(part: Part, max_pixels: int) -> bytes:
    """The bytes of a member, or the pixels of a frame as a PPM file.

    Args:
        part: what to read.
        max_pixels: a frame of more is refused.

    Raises:
        OSError: if the container cannot be read, or does not give the part; BrokenPartError is one.
    """
    if part.kind == "video":
        return _read_frame(part, max_pixels)
    if part.kind == "tgz":
        return _read_packed(part)
    with opening.open_binary(part.container) as file:
        if part.kind == "zip":
            return read_zip_member(file, part)
        file.seek(part.offset)
        return _whole(file.read(part.size), part)


def _read_packed(part: Part) -> bytes:
    reader = _idle.take(part.container, part.offset)
    if not isinstance(reader, GzipReader):
        file = opening.open_binary(part.container)
        reader = GzipReader(file, _index(part.container, _token(file)))
    try:
        reader.seek(part.offset)
        data = reader.read(part.size)
    except BrokenArchiveError as error:
        reader.close()
        raise BrokenPartError(f"broken in the archive: {error}") from error
    _idle.give(part.container, reader)
    return _whole(data, part)


def _read_frame(part: Part, max_pixels: int) -> bytes:
    from fastdup_dagster.sources.video import BrokenVideoError, FrameReader

    try:
        reader = _idle.take(part.container, part.offset)
        if not isinstance(reader, FrameReader):
            reader = FrameReader(part.container)
        try:
            data = reader.read(part.offset, part.seconds, max_pixels)
        except BaseException:
            reader.close()
            raise
    except BrokenVideoError as error:
        raise BrokenPartError(str(error)) from error
    _idle.give(part.container, reader)
    return data


def _whole(data: bytes, part: Part) -> bytes:
    if len(data) < part.size:
        raise BrokenPartError(f"the archive gives {len(data)} of {part.size} bytes")
    return data


_indexes: OrderedDict[tuple[str, object], GzipIndex] = OrderedDict()
_indexes_lock = threading.Lock()


def _index(uri: str, token: object) -> GzipIndex:
    with _indexes_lock:
        index = _indexes.setdefault((uri, token), GzipIndex())
        _indexes.move_to_end((uri, token))
        while len(_indexes) > _INDEXED:
            _indexes.popitem(last=False)
        return index


def _token(file: BinaryIO) -> object:
    """Tells an archive from another one that took its place."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, AttributeError):
        size = file.seek(0, 2)
        file.seek(0)
        return size
    return status.st_ino, status.st_size, status.st_mtime_ns
