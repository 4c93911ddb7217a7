"""Members of a tar archive, header by header, each with the place of its bytes.

The standard library reads the single headers, not the archive: `tarfile` loops for ever on some broken ones
(CVE-2025-8194) in some of the Pythons that this runs on, and keeps every member in memory.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace

from fastdup_dagster.sources.archive import BrokenArchiveError, Member, Readable

_BLOCK = tarfile.BLOCKSIZE
_MAX_NAME_BYTES = 2**20
_MAX_SIZE = 2**60
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_EXTENDED = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_WITHOUT_DATA = {tarfile.DIRTYPE, *_KINDS} - {tarfile.GNUTYPE_SPARSE}


def tar_members(file: Readable) -> Iterator[Member]:
    """The members in the order of the archive, folders left out; what is no plain file is refused.

    Args:
        file: the archive, unpacked.

    Raises:
        BrokenArchiveError: after the members that can be read, if there is no way on.
    """
    at = 0
    shared: dict[bytes, bytes] = {}
    own: dict[bytes, bytes] = {}
    block = _read(file, at, _BLOCK)
    while block.rstrip(b"\0"):
        header = _header(block, at)
        data = at + _BLOCK
        if header.type in _EXTENDED:
            records = _records(file, header, data)
            (shared if header.type == tarfile.XGLTYPE else own).update(records)
            at = data + _padded(header.size)
            block = _read(file, at, _BLOCK)
            continue
        member = _member(header, data, {**shared, **own})
        own = {}
        at = data + (0 if header.type in _WITHOUT_DATA else _padded(member.size))
        block, why = _next(file, at)
        is_cut = len(block) < _BLOCK and at > data and not _reaches(file, data + member.size)
        if header.type != tarfile.DIRTYPE:
            yield member.refused("READ_ERROR", f"the archive ends within it{why}") if is_cut else member
        if is_cut or why:
            raise BrokenArchiveError(f"it ends within the member at byte {data}{why}" if is_cut else why.lstrip(": "))
    if not block:  # a whole archive ends with zeros
        raise BrokenArchiveError("it has no end mark, as if it were cut off", is_certain=False)


def _header(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BrokenArchiveError(f"no header of a member at byte {at}: {error}") from error
    if not 0 <= header.size < _MAX_SIZE:
        raise BrokenArchiveError(f"a member of {header.size} bytes at byte {at}")
    return header


def _member(header: tarfile.TarInfo, data: int, records: dict[bytes, bytes]) -> Member:
    size = header.size
    if b"size" in records:
        try:
            size = int(records[b"size"])
        except ValueError:
            size = -1
        if not 0 <= size < _MAX_SIZE:
            raise BrokenArchiveError(f"a size that cannot be at byte {data}")
    name = records.get(b"path", os.fsencode(header.name))
    member = Member(name, data, 0 if header.type in _WITHOUT_DATA else size)
    is_sparse = header.type != tarfile.GNUTYPE_SPARSE and any(key.startswith(b"GNU.sparse.") for key in records)
    if is_sparse:
        member = replace(member, name=records.get(b"GNU.sparse.name", name))
    kind = "a sparse file" if is_sparse else _KINDS.get(header.type)
    return member.refused("UNSUPPORTED_FORMAT", f"refused: {kind}, not a plain file") if kind else member


def _records(file: Readable, header: tarfile.TarInfo, data: int) -> dict[bytes, bytes]:
    """What an extended header says of the member after it, by the names of the pax format."""
    if header.size > _MAX_NAME_BYTES:
        raise BrokenArchiveError(f"an extended header of {header.size} bytes at byte {data}")
    text = _read(file, data, header.size)
    if len(text) < header.size:
        raise BrokenArchiveError(f"it ends within the extended header at byte {data}")
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {b"path": text.partition(b"\0")[0]}
    records: dict[bytes, bytes] = {}
    while header.type in _PAX and text.rstrip(b"\0"):
        length, _, rest = text.partition(b" ")
        key, equals, _ = rest.partition(b"=")
        end = int(length) if length.isdigit() and len(length) < 8 else 0
        if not (equals and len(length) + len(key) + 2 < end <= len(text)):
            raise BrokenArchiveError(f"a broken extended header at byte {data}")
        records[key] = text[len(length) + len(key) + 2 : end - 1]
        text = text[end:]
    return records


def _read(file: Readable, at: int, size: int) -> bytes:
    try:
        file.seek(at)
        return file.read(size)
    except BrokenArchiveError:
        raise
    except OSError as error:
        raise BrokenArchiveError(f"cannot be read at byte {at}: {error.strerror or error}") from error


def _next(file: Readable, at: int) -> tuple[bytes, str]:
    """The header at a place, or why there is none: the member before it is told of first."""
    try:
        return _read(file, at, _BLOCK), ""
    except BrokenArchiveError as error:
        return b"", f": {error}"


def _reaches(file: Readable, end: int) -> bool:
    try:
        return bool(_read(file, end - 1, 1))
    except BrokenArchiveError:
        return False


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
