"""Members of a zip archive by its directory, and the bytes of one member.

Not by `zipfile`: it refuses a whole archive for one name that is not the UTF-8 it says to be, loses names' bytes, and
reads nothing of an archive that was cut off. APPNOTE.TXT of PKWARE is the format's description.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from fastdup_dagster.sources.archive import BrokenArchiveError, Member, Readable
from fastdup_dagster.sources.parts import BrokenPartError, Part

_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW = 1, 8
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_MOST_COMMENT = 2**16
_FULL, _FULL_SHORT = 2**32 - 1, 2**16 - 1
_LINK, _KIND = 0o120000, 0o170000


def zip_members(file: Readable, size: int) -> Iterator[Member]:
    """The members in the order of the directory, folders left out.

    Without a directory, as in an archive that was cut off, those that can be found one after another from its start.

    Args:
        file: the archive.
        size: its bytes.

    Raises:
        BrokenArchiveError: after the members that can be read, if there is no way on.
    """
    try:
        found = _directory(file, size)
    except OSError as error:
        raise BrokenArchiveError(f"cannot be read: {error.strerror or error}") from error
    if found is None:
        yield from _recovered(file, size)
        raise BrokenArchiveError("it has no directory, as if it were cut off")
    start, length, shift = found
    end, starts = 0, {}
    for member in _listed(file, start, length, shift):
        starts[member.offset] = member.offset + member.packed
        yield member
    for offset, until in sorted(starts.items()):
        if offset < end:
            raise BrokenArchiveError(f"its members lie one over another at byte {offset}, as bombs do")
        end = until


def _directory(file: Readable, size: int) -> tuple[int, int, int] | None:
    """Where the directory starts, its length, and how many bytes stand before the archive; None if there is none."""
    start = max(0, size - _END.size - _MOST_COMMENT)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        return None
    _, _, _, _, count, length, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    if _FULL in (length, offset) or count == _FULL_SHORT:
        length, offset, end = _directory_64(file, end) or (length, offset, end)
    shift = end - length - offset
    return (end - length, length, shift) if shift >= 0 and length <= end else None


def _directory_64(file: Readable, end: int) -> tuple[int, int, int] | None:
    file.seek(max(0, end - _LOCATOR_64.size))
    locator = file.read(_LOCATOR_64.size)
    if len(locator) < _LOCATOR_64.size or not locator.startswith(b"PK\6\7"):
        return None
    at = _LOCATOR_64.unpack(locator)[2]
    if at > end:
        return None
    file.seek(at)
    record = file.read(_END_64.size)
    if len(record) < _END_64.size or not record.startswith(b"PK\6\6"):
        return None
    *_, length, offset = _END_64.unpack(record)
    return length, offset, at


def _listed(file: Readable, start: int, length: int, shift: int) -> Iterator[Member]:
    file.seek(start)
    while length >= _CENTRAL.size:
        fixed = file.read(_CENTRAL.size)
        if len(fixed) < _CENTRAL.size or not fixed.startswith(b"PK\1\2"):
            raise BrokenArchiveError("its directory is broken")
        _, made_by, _, flags, method, _, _, crc, packed, size, names, extras, comments, _, _, mode, offset = (
            _CENTRAL.unpack(fixed)
        )
        rest = file.read(names + extras + comments)
        length -= _CENTRAL.size + names + extras + comments
        name, extra = rest[:names], rest[names : names + extras]
        size, packed, offset = _long(extra, [size, packed, offset])
        member = Member(name, offset + shift, size, packed, method, crc)
        if offset + shift + packed > start:
            member = member.refused("READ_ERROR", "it lies past the end of the archive's members")
        if made_by >> 8 == 3 and mode >> 16 & _KIND == _LINK:  # made on Unix
            member = member.refused("UNSUPPORTED_FORMAT", "refused: a link, not a plain file")
        if not name.endswith(b"/"):
            yield _readable(member, flags)


def _recovered(file: Readable, size: int) -> Iterator[Member]:
    """What local headers tell, from the start on, as long as each says where the next one is."""
    at = 0
    while at + _LOCAL.size <= size:
        file.seek(at)
        fixed = file.read(_LOCAL.size)
        if len(fixed) < _LOCAL.size or not fixed.startswith(b"PK\3\4"):
            return
        _, _, flags, method, _, _, crc, packed, unpacked, names, extras = _LOCAL.unpack(fixed)
        rest = file.read(names + extras)
        name, extra = rest[:names], rest[names:]
        unpacked, packed = _long(extra, [unpacked, packed])
        if flags & _SIZES_FOLLOW and not packed:
            return
        member = Member(name, at, unpacked, packed, method, crc)
        at += _LOCAL.size + names + extras + packed
        if at > size:
            member = member.refused("READ_ERROR", "the archive ends within it")
        if name and not name.endswith(b"/"):
            yield _readable(member, flags)


def _long(extra: bytes, values: list[int]) -> list[int]:
    """Sizes and offset with those that need 64 bits from the extra field, which has them in the same order."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            field = extra[4 : 4 + length]
            numbers = list(struct.unpack_from(f"<{len(field) // 8}Q", field))
            return [numbers.pop(0) if value == _FULL and numbers else value for value in values]
        extra = extra[4 + length :]
    return values


def _readable(member: Member, flags: int) -> Member:
    if flags & _ENCRYPTED:
        return member.refused("UNSUPPORTED_FORMAT", "refused: encrypted")
    if member.method not in (_STORED, _DEFLATED):
        return member.refused(
            "UNSUPPORTED_FORMAT", f"refused: packed by method {member.method}; stored and deflated are read"
        )
    return member


def read_zip_member(file: Readable, part: Part) -> bytes:
    """The bytes of a member, checked against its CRC.

    Raises:
        BrokenPartError: if they are not those that the directory says.
    """
    file.seek(part.offset)
    fixed = file.read(_LOCAL.size)
    if len(fixed) < _LOCAL.size or not fixed.startswith(b"PK\3\4"):
        raise BrokenPartError("there is no member at its place in the archive")
    names, extras = _LOCAL.unpack(fixed)[-2:]
    file.seek(part.offset + _LOCAL.size + names + extras)
    data = file.read(part.packed)
    if part.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-15).decompress(data, part.size + 1)  # one more tells that there is more
        except zlib.error as error:
            raise BrokenPartError(f"broken in the archive ({error})") from error
    if len(data) != part.size or zlib.crc32(data) != part.crc:
        raise BrokenPartError("its bytes in the archive are not those that the archive's directory tells of")
    return data
