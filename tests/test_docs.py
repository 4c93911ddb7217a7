"""The documentation builds strictly, loads nothing from elsewhere, says what the code says, and no link is dead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster.cli import main
from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.schemas import ERROR_CODES, TABLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_REMOTE_STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


class Resources(HTMLParser):
    """What a page loads: sources of scripts, styles, pictures, frames and media, and text that is CSS."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        names = ("href",) if tag == "link" else () if tag == "a" else ("src", "srcset", "poster", "data")
        self.found += [value for name in names if (value := given.get(name))]


def is_remote(source: str) -> bool:
    return source.startswith(("http:", "https:", "//"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    loaded = {(page.name, source) for page in pages for source in Resources(page.read_text("utf-8")).found}
    assert [found for found in loaded if is_remote(found[1])] == []
    assert any(source.endswith(".css") for _, source in loaded)
    assert any(source.endswith(".js") for _, source in loaded)
    styled = [path for path in (*pages, *site.rglob("*.css")) if _REMOTE_STYLE.search(path.read_text("utf-8"))]
    assert styled == []


def test_what_would_be_loaded_from_elsewhere_is_seen() -> None:
    page = (
        '<link href="https://a/x.css"><script src="//b/x.js"></script><img srcset="http://c/x 2x"><a href="https://d">'
    )
    assert [is_remote(source) for source in Resources(page).found] == [True, True, True]
    assert _REMOTE_STYLE.search("body { background: url('https://e/x.png') }")


def test_what_a_page_loads_is_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name != "404.html":  # its links start at the root of a server
            for source in Resources(page.read_text("utf-8")).found:
                if not source.startswith("data:"):
                    assert (page.parent / unquote(source.partition("?")[0])).exists(), (page, source)


def test_every_table_column_and_code_is_explained(site: Path) -> None:
    said = text_of(site / "tables.html")
    for table in TABLES.values():
        assert table.name in said
        assert [column.name for column in table.columns if column.name not in said] == []
    assert [code for code in ERROR_CODES if code not in said] == []


def test_every_command_option_and_setting_is_explained(site: Path) -> None:
    said = text_of(site / "command_line.html")
    below = [inner for c in main.commands.values() if isinstance(c, click.Group) for inner in c.commands.values()]
    options = [option for command in (*main.commands.values(), *below) for p in command.params for option in p.opts]
    assert [option for option in options if option.startswith("--") and option not in said] == []
    said = text_of(site / "api" / "settings.html")
    assert [name for name in RunSettings.model_fields if name not in said] == []
    said = text_of(site / "dagster.html")
    assert [name for name in DatasetEntry.model_fields if name not in said] == []


@pytest.mark.parametrize(
    ("page", "public"),
    [
        ("fastdup", fastdup.Fastdup),
        ("controller", fastdup.FastdupController),
        ("visualizer", fastdup.FastdupVisualizer),
    ],
)
def test_every_public_method_has_its_entry_and_words(site: Path, page: str, public: type) -> None:
    anchors = re.findall(r'id="fastdup_dagster\.[\w.]+\.(\w+)"', (site / "api" / f"{page}.html").read_text("utf-8"))
    names = [name for name in dir(public) if not name.startswith("_")]
    assert [name for name in names if name not in anchors] == []
    assert [name for name in names if not getattr(public, name).__doc__] == []


def test_every_public_name_has_a_page(site: Path) -> None:
    anchors = set()
    for page in (site / "api").glob("*.html"):
        anchors |= set(re.findall(r'id="fastdup_dagster\.(?:\w+\.)*(\w+)"', page.read_text("utf-8")))
    assert [name for name in fastdup.__all__ if name not in anchors and name != "FD"] == []
    constants = [name for name in dir(fastdup.FD) if name.isupper()]
    assert [name for name in constants if f"FD.{name}" not in text_of(site / "api" / "constants.html")] == []


def links(page: Path) -> Iterator[str]:
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if not target.startswith(("http:", "https:", "#", "mailto:")):
            yield unquote(target.partition("#")[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


def test_a_picture_is_small_enough_to_live_in_the_repository() -> None:
    assert [p.name for p in (ROOT / "docs" / "images").iterdir() if p.stat().st_size > 400_000] == []


def test_the_differences_that_the_migration_page_names_are_true_of_this_code() -> None:
    """But for the last row, what reaches the network: it depends on the release of ONNX Runtime."""
    command = [sys.executable, str(ROOT / "docs" / "differences.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:-1]]
    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    said = {line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")[-1] for line in page.splitlines()}
    assert len(rows) == 12
    assert {name: found for name, found in rows if said.get(name) != found} == {}
