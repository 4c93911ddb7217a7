"""How every page is made: Jinja2 with autoescape always on, safe text, and files written whole or not at all."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

IMAGE_FOLDER = "images"
PAGE_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='10' height='10' "
    "rx='2' fill='%230a5fb4'/%3E%3Crect x='6' y='6' width='10' height='10' rx='2' fill='%2379b8ff' "
    "fill-opacity='.8'/%3E%3C/svg%3E"
)
# control characters, and those that are invisible or turn the reading direction, so that a name can pose as another
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: object) -> str:
    """`text` with every unseen character (newline, tab, direction marks, …) written as its escape."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def count(value: int | None) -> str:
    """An integer with thousands separated by commas; a dash for None."""
    return "–" if value is None else f"{value:,}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` decimals; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(part: float, whole: float) -> str:
    """`part` of `whole` in percent: 0 % and 100 % only where exactly that, else <0.1 % and >99.9 %."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99.9 < share < 100:
        return ">99.9 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def data_size(size: int | None) -> str:
    """Bytes for people: 980 B, 97.6 kB, 4.2 MB (powers of 1000)."""
    if size is None:
        return "–"
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def cell(value: object) -> str:
    """Any table value as short text: a dash for None, at most 6 significant digits, at most 300 characters."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = visible(value)
    return text if len(text) <= 300 else f"{text[:299]}…"


def link(*parts: str) -> str:
    """A relative link of path segments, each percent-encoded (`/` inside a segment too), byte for byte."""
    return "/".join(quote(os.fsencode(part), safe="") for part in parts)


def link_between(page: Path, target: Path) -> str:
    """The percent-encoded relative link from the file `page` to the file or folder `target`."""
    return link(*Path(os.path.relpath(target.absolute(), page.absolute().parent)).parts)


def data_uri(jpeg: bytes) -> str:
    """A JPEG as a `data:` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _hash_source(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") + "'"


@functools.cache
def environment() -> jinja2.Environment:
    """The one Jinja2 environment: autoescape on, undefined names are errors, one style and one script for every page.

    The Content-Security-Policy names the hashes of that style and that script, so nothing else can run or load,
    even where text slipped through unescaped.
    """
    loader = jinja2.PackageLoader("fastdup_dagster", "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = (loader.get_source(made, name)[0] for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src 'self' file: data:; style-src {_hash_source(style)}; "
        f"script-src {_hash_source(script)}; base-uri 'none'; form-action 'none'"
    )
    made.globals.update(style=Markup(style), script=Markup(script), policy=policy, icon=PAGE_ICON)  # noqa: S704 our own
    for use in (visible, count, number, percent, data_size, cell):
        made.filters[use.__name__] = use
    return made


def render(template: str, **context: object) -> str:
    """Renders a template of `fastdup_dagster/templates` to HTML."""
    return environment().get_template(template).render(**context)


def write_page(path: Path, html: str) -> None:
    """Writes one page whole or not at all: into a temporary sibling that then takes `path`'s place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{uuid.uuid4().hex[:8]}")
    try:
        part.write_text(html, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def page_set(folder: Path) -> Iterator[Path]:
    """Gives a temporary sibling of `folder` to fill, which takes `folder`'s place when the block ends without an error.

    Whoever looks sees the old set or the new one, never a mixture. Leftovers of killed runs are removed first, so
    one folder must have one writer at a time.

    Raises:
        FileExistsError: if `folder` holds anything that is not a page or a page's image: replacing it would lose that.
    """
    folder = folder.absolute()
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.iterdir():
        if leftover.name.startswith((f".{folder.name}.part-", f".{folder.name}.old-")):
            shutil.rmtree(leftover)
    tag = uuid.uuid4().hex[:8]
    part, old = (folder.with_name(f".{folder.name}.{state}-{tag}") for state in ("part", "old"))
    (part / IMAGE_FOLDER).mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    ours = {IMAGE_FOLDER, ".DS_Store", "Thumbs.db"}  # the last two appear by themselves when a folder is looked at
    foreign = [entry.name for entry in folder.iterdir() if entry.suffix != ".html" and entry.name not in ours]
    images = folder / IMAGE_FOLDER
    if images.is_dir():
        foreign += [
            f"{IMAGE_FOLDER}/{entry.name}"
            for entry in images.iterdir()
            if entry.suffix != ".jpg" and entry.name not in ours
        ]
    if foreign:
        raise FileExistsError(
            f"{folder} holds files that are no gallery: {', '.join(sorted(foreign)[:5])}; choose another folder"
        )
