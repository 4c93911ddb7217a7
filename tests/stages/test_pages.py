"""Text shown safely, and pages that are written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastdup_dagster.stages.pages import (
    cell,
    data_size,
    environment,
    link,
    link_between,
    page_set,
    percent,
    visible,
    write_page,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from fastdup_dagster.stages.pages import page_set
with page_set(Path(sys.argv[1])) as part:
    (part / "report.html").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _write(folder: Path, text: str) -> None:
    with page_set(folder) as part:
        (part / "report.html").write_text(text)
        (part / "images" / f"{text}.jpg").write_bytes(b"jpeg")


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_set_of_pages_replaces_the_old_one_as_a_whole(tmp_path):
    folder = tmp_path / "a b" / "train"
    _write(folder, "old")
    _write(folder, "new")
    assert _names(tmp_path) == ["a b/train/images/new.jpg", "a b/train/report.html"]
    assert (folder / "report.html").read_text() == "new"


def test_an_error_while_writing_leaves_the_old_set_and_nothing_else(tmp_path):
    _write(tmp_path / "train", "old")
    with pytest.raises(RuntimeError, match="disk"), page_set(tmp_path / "train") as part:
        (part / "report.html").write_text("half")
        raise RuntimeError("disk")
    assert _names(tmp_path) == ["train/images/old.jpg", "train/report.html"]


def test_a_killed_run_leaves_the_old_set_and_the_next_run_cleans_up(tmp_path):
    _write(tmp_path / "train", "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "train")], check=False, timeout=60)
    assert done.returncode == -9
    assert (tmp_path / "train" / "report.html").read_text() == "old"
    assert any(path.name.startswith(".train.part-") for path in tmp_path.iterdir())
    _write(tmp_path / "train", "new")
    assert _names(tmp_path) == ["train/images/new.jpg", "train/report.html"]


@pytest.mark.parametrize("name", ["notes.txt", "images/raw.png"])
def test_a_folder_with_files_of_somebody_else_is_never_replaced(tmp_path, name):
    _write(tmp_path / "mine", "old")
    (tmp_path / "mine" / name).write_text("precious")
    with pytest.raises(FileExistsError, match=re.escape(name)):
        _write(tmp_path / "mine", "new")
    assert (tmp_path / "mine" / name).read_text() == "precious"
    assert (tmp_path / "mine" / "report.html").read_text() == "old"


def test_one_page_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_page(path, "old é")
    write_page(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(UnicodeEncodeError):
        write_page(path, "\udcff")
    assert path.read_text(encoding="utf-8") == "new é"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_unseen_characters_are_shown_and_the_rest_is_left_alone():
    assert visible("a\nb\tc\u202ed\u200b") == "a\\nb\\tc\\u202ed\\u200b"
    assert visible("café 日本 <b> 'x'") == "café 日本 <b> 'x'"


def test_links_are_percent_encoded(tmp_path):
    assert link("a b", "#1%?.jpg", "x/y") == "a%20b/%231%25%3F.jpg/x%2Fy"
    page = tmp_path / "pages" / "report.html"
    assert link_between(page, tmp_path / "pages" / "tr ain") == "tr%20ain"
    assert link_between(page, tmp_path / "other" / "x.html") == "../other/x.html"


def test_numbers_for_people():
    assert [percent(*x) for x in ((0, 7), (1, 3), (7, 7), (1, 99_999), (99_999, 100_000), (0, 0))] == [
        "0 %", "33.3 %", "100 %", "<0.1 %", ">99.9 %", "–",
    ]  # fmt: skip
    assert [data_size(n) for n in (0, 980, 97_600, 4_200_000, None)] == ["0 B", "980 B", "97.6 kB", "4.2 MB", "–"]
    assert [cell(v) for v in (None, 0.30000000000000004, 3, b"ab", "x\n", "y" * 400)] == [
        "–", "0.3", "3", "2 bytes", "x\\n", "y" * 299 + "…",
    ]  # fmt: skip


def test_the_policy_allows_the_one_style_and_the_one_script_and_nothing_remote():
    known = environment().globals
    policy = str(known["policy"])
    for text in (known["style"], known["script"]):
        digest = base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|unsafe|\*", policy)


def test_autoescape_is_on_and_no_template_turns_it_off():
    made = environment()
    assert made.autoescape is True
    for name in made.list_templates(extensions=["html"]):
        source = made.loader.get_source(made, name)[0]
        assert not re.search(r"\|\s*safe|autoescape|Markup|style=|onclick|onload", source), name


def _luminance(colour: str) -> float:
    short = colour.lstrip("#")
    full = short if len(short) == 6 else "".join(c * 2 for c in short)
    channels = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(scheme):
    blocks = re.findall(r":root \{([^}]*)\}", str(environment().globals["style"]))
    tokens = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", blocks[scheme]))
    pairs = [(ink, ground) for ink in ("ink", "soft") for ground in ("bg", "card", "well")]
    pairs += [("accent", "bg"), ("accent", "card"), ("card", "accent"), ("mark", "card"), ("accent", "accent-weak")]
    pairs += [(tone, f"{tone}-weak") for tone in ("ok", "bad", "warn", "violet", "orange")]
    pairs += [("ink", f"{tone}-weak") for tone in ("ok", "bad", "warn")]
    for ink, ground in pairs:
        light, dark = sorted((_luminance(tokens[ink]), _luminance(tokens[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
