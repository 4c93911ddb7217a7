"""`ListObjectsV2`: what is asked, and what an answer says. https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html

Botocore takes 0.1 ms of CPU time for each key, nearly all of it to read the answer by its model of the API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_plus
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser


class NoListingError(ValueError):
    """An answer that is no listing, and will be none the next time."""


class CutListingError(ValueError):
    """An answer that ends early, or is damaged."""


class Listed(NamedTuple):
    """One object of a listing.

    Attributes:
        key: as it is, not encoded.
        size: bytes.
        changed: when it was written, with its time zone; None if the server does not say.
        etag: as the server writes it, with its quotes; empty if it does not say.
    """

    key: str
    size: int
    changed: datetime | None
    etag: str


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One answer.

    Attributes:
        objects: in the order of the answer.
        folders: what keys have in common up to the delimiter, with it.
        following: token that the next page is asked for with; None after the last one.
    """

    objects: list[Listed]
    folders: list[str]
    following: str | None

    def __bool__(self) -> bool:
        """Whether there is anything on it."""
        return bool(self.objects or self.folders)


def query(prefix: str, delimiter: str, most: int, token: str | None, after: str) -> str:
    """What the request for a page has behind its `?`: encoded and in order, as a signature wants it.

    Args:
        prefix: what the keys begin with.
        delimiter: see `ListingPage.folders`; empty for all keys.
        most: keys on the page.
        token: of the page before.
        after: the key that the first one comes after.
    """
    given = {
        "continuation-token": token,
        "delimiter": delimiter,
        "encoding-type": "url",  # XML knows no control characters, keys do
        "list-type": "2",
        "max-keys": str(most),
        "prefix": prefix,
        "start-after": after,
    }
    return "&".join(f"{name}={quote(v, safe='-_.~', errors='surrogateescape')}" for name, v in given.items() if v)


class _NoDoctype(TreeBuilder):
    """Without a document type there are no entities, which is where XML from strangers is dangerous.

    It refuses what `defusedxml` refuses with `forbid_dtd=True`, and leaves the rest to the parser in C: half the time.
    """

    def doctype(self, *_: Any) -> None:
        """Called by the parser when one begins."""
        raise NoListingError("it has a document type")


def parsed(answer: bytes) -> ListingPage:
    """What an answer says.

    Raises:
        CutListingError: if it is cut off.
        NoListingError: if it is something else.
    """
    begins = answer.lstrip(b"\xef\xbb\xbf \r\n\t")[:5]
    if not any(known.startswith(begins) for known in (b"<?xml", b"<List")):
        raise NoListingError(f"it begins with {begins!r}")
    parser = XMLParser(target=_NoDoctype())  # noqa: S314 - see there
    try:
        parser.feed(answer)
        root: Element = parser.close()
    except ParseError as error:
        raise CutListingError(str(error)) from None
    space, _, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise NoListingError(f"it is {name[:60]!r}")
    return _page(root, f"{space}}}" if space else "")


def _page(root: Element, space: str) -> ListingPage:
    key, size, changed, etag = (f"{space}{name}" for name in ("Key", "Size", "LastModified", "ETag"))
    # A server that does not know the encoding says so by its silence.
    decoded: Callable[[str], str] = _decoded if root.findtext(f"{space}EncodingType") == "url" else str
    try:
        objects = [
            Listed(
                decoded(item.findtext(key, "")),
                int(item.findtext(size, "")),
                _time(item.findtext(changed)),
                item.findtext(etag, ""),
            )
            for item in root.iterfind(f"{space}Contents")
        ]
    except ValueError as error:
        raise NoListingError(f"a size or time that cannot be: {error}") from None
    folders = [decoded(text) for text in _texts(root, f"{space}CommonPrefixes/{space}Prefix")]
    following = root.findtext(f"{space}NextContinuationToken") or None
    more = root.findtext(f"{space}IsTruncated", "").strip().lower() == "true"
    if more and following is None:
        raise NoListingError("it goes on, but does not say where")
    return ListingPage(objects, folders, following if more else None)


def _texts(root: Element, path: str) -> list[str]:
    return [item.text or "" for item in root.iterfind(path)]


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape")


def _time(text: str | None) -> datetime | None:
    """ISO 8601; one without a zone is in UTC."""
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
