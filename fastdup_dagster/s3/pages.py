"""Pages that are one object each: pictures inside, and links that work where nothing but a signed URL does.

A signed URL opens one object. Relative links of a page, to its pictures and to other pages, would be refused. Pictures
therefore go into the page, which also makes replacing it atomic, and links to other pages of the store are signed too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fastdup_dagster.stages.pages import IMAGE_FOLDER, data_uri

_PICTURE_LINK = re.compile(rf'<a class="shot" href="{IMAGE_FOLDER}/[^"]*"([^>]*)>(.*?)</a>', re.DOTALL)
_PICTURE = re.compile(rf'src="({IMAGE_FOLDER}/[^"]+\.jpg)"')
_PAGE = re.compile(r'href="([^"#:?]+\.html)(#[^"]*)?"')
_SIGNED = re.compile(r'href="(https?://[^"?#]+\.html)\?[^"#]*X-Amz-Signature=[^"#]*(#[^"]*)?"')


def with_pictures(html: str, folder: Path) -> str:
    """The page with its pictures as data URIs; one that is not there stays a link.

    Args:
        html: the page.
        folder: the page's folder, which holds `images/`.
    """

    def inlined(found: re.Match[str]) -> str:
        path = folder / unquote(unescape(found[1]))
        return f'src="{data_uri(path.read_bytes())}"' if path.is_file() else found[0]

    # As the templates do with inlined pictures: a browser follows no link to a data URI.
    buttons = _PICTURE_LINK.sub(r'<button type="button" class="shot"\1>\2</button>', html)
    return _PICTURE.sub(inlined, buttons)


def with_signed_links(html: str, key: str, sign: Callable[[str], str]) -> str:
    """The page with links to other pages of the store replaced by signed ones.

    Args:
        html: the page.
        key: of the page.
        sign: the URL of a key.
    """

    def signed(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(key), unquote(unescape(found[1]))))
        return f'href="{escape(sign(target))}{found[2] or ""}"'

    return _PAGE.sub(signed, html)


def with_plain_links(html: str, place: str) -> str:
    """The page with signed links to the store's pages as paths of a server that gives them out itself.

    Args:
        html: the page.
        place: what the path of a signed URL has before the path that the server knows.
    """

    def plain(found: re.Match[str]) -> str:
        path = urlsplit(unescape(found[1])).path
        return f'href="{escape(path.removeprefix(place))}{found[2] or ""}"' if path.startswith(place) else found[0]

    return _SIGNED.sub(plain, html)
