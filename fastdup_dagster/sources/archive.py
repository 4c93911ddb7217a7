"""What the readers of archives have in common: members, and which of them are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Protocol

# One image of 16-bit RGBA at the largest number of pixels that is decoded by default is just over it.
MAX_MEMBER_BYTES = 2**30
# Deflate packs zeros 1,000 times; pictures that are worth a look, and large, never come near this.
MAX_RATIO = 200
MIN_BOMB_BYTES = 2**28

_SEPARATORS = re.compile(rb"[/\\]")
_DRIVE = re.compile(rb"[A-Za-z]:")


class Readable(Protocol):
    """Bytes that can be read from any place."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; fewer at the end alone."""

    def seek(self, offset: int, /) -> int:
        """Goes to a place."""


class BrokenArchiveError(ValueError):
    """An archive cannot be read on; what came before is good.

    Attributes:
        is_certain: whether something is lost; else it may be.
    """

    def __init__(self, message: str, is_certain: bool = True) -> None:
        super().__init__(message)
        self.is_certain = is_certain


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive; the places and sizes are those of `Part`.

    Attributes:
        name: as it stands in the archive; `checked` cleans it.
        code: why it cannot be used, one of `schemas.ERROR_CODES`; None if it can.
        reason: the same in words.
    """

    name: bytes
    offset: int
    size: int
    packed: int = 0
    method: int = 0
    crc: int = 0
    code: str | None = None
    reason: str | None = None

    def refused(self, code: str, reason: str) -> Member:
        """The member with a reason not to read it; the first reason stays."""
        return self if self.code else replace(self, code=code, reason=reason)


def checked(member: Member) -> Member:
    """The member under its plain name (`./a//b.jpg` is `a/b.jpg`); one that leads out, or is a bomb, is refused."""
    name = member.name
    if b"\0" in name or not name:
        member = member.refused("UNSUPPORTED_FORMAT", "refused: a name that no file can have")
    elif b".." in _SEPARATORS.split(name):
        member = member.refused("UNSUPPORTED_FORMAT", "refused: its name leads out of the archive")
    elif name[:1] in (b"/", b"\\") or _DRIVE.match(name):
        member = member.refused("UNSUPPORTED_FORMAT", "refused: its name is absolute")
    else:
        name = b"/".join(piece for piece in name.split(b"/") if piece not in (b"", b"."))
        member = replace(member, name=name)
    if max(member.size, member.packed) > MAX_MEMBER_BYTES:
        larger = max(member.size, member.packed)
        return member.refused("IMAGE_TOO_LARGE", f"refused: {larger} bytes, over {MAX_MEMBER_BYTES}")
    if member.size > MIN_BOMB_BYTES and member.size > MAX_RATIO * max(1, member.packed or member.size):
        return member.refused("IMAGE_TOO_LARGE", f"refused: {member.packed} bytes that say to be {member.size}")
    return member
