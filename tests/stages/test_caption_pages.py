"""captions.html: which images it shows, what it says of each, and that no caption is taken for markup."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fastdup_dagster.schemas import CAPTIONS, IMAGE_MANIFEST
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.caption_pages import CAPTIONS_PAGE, render_captions, select_captions

MODEL = f'blip@{"a" * 64}+prompt="a photo of"'


def table(*said: str | None) -> pl.DataFrame:
    """Captions by id; None for a row that has none."""
    return CAPTIONS.frame({
        "index": range(len(said)),
        "caption": said,
        "model": [MODEL] * len(said),
        "error": ["CORRUPT_IMAGE: <no> image" if text is None else None for text in said],
        "source_key": [""] * len(said),
    })  # fmt: skip


def listing(count: int) -> pl.DataFrame:
    values = {
        "index": range(count),
        "instance_id": map(str, range(count)),
        "filename": [f"{n}.jpg" for n in range(count)],
    }
    return IMAGE_MANIFEST.frame({**values, "uri": [f"file:///in/{n}.jpg" for n in range(count)], "media": "image"})


def page(captions: pl.DataFrame, folder: Path, **settings: object) -> str:
    render_captions(
        captions,
        listing(captions.height),
        folder / "train",
        "pets/train",
        Settings(**settings),  # type: ignore[arg-type]
        read=lambda uri, side: b"jpeg",
        home="../../report.html",
    )
    return (folder / "train" / CAPTIONS_PAGE).read_text(encoding="utf-8")


def test_each_image_has_its_caption_or_the_reason_escaped(tmp_path: Path) -> None:
    html = page(table("a <b>dog</b>", None, "a cat\u202e"), tmp_path)
    assert "a &lt;b&gt;dog&lt;/b&gt;" in html
    assert "CORRUPT_IMAGE: &lt;no&gt; image" in html
    assert "a cat\\u202e" in html
    assert html.count('class="card" data-item') == 3
    assert "blip @aaaaaaaaaaaa+prompt=&#34;a photo of&#34; says about each image. Without a caption: 1" in html
    assert 'href="../../report.html"' in html
    assert sorted(path.name for path in (tmp_path / "train" / "images").iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_page_shows_as_many_as_the_settings_say_and_the_total(tmp_path: Path) -> None:
    html = page(table(*(f"number {n}" for n in range(20))), tmp_path, gallery_items=5)
    assert html.count('class="card" data-item') == 5
    assert "The first <b>5</b> of <b data-total>20</b>, in the order of the listing." in html


def test_a_page_without_images_says_so(tmp_path: Path) -> None:
    assert "There are no images." in page(table(), tmp_path)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (("a", None, "b", "c", None, None), [1, 4, 0, 2]),
        (("a", "b", "c", "d", "e"), [0, 1, 2, 3]),
        ((None, None, None, None, None, "f"), [0, 1, 2, 5]),
        ((None, "b", "c", "d", "e", "f"), [0, 1, 2, 3]),
    ],
)
def test_those_without_a_caption_come_first_but_leave_room_for_others(
    said: tuple[str | None, ...], shown: list[int]
) -> None:
    assert select_captions(table(*said), 4)["index"].to_list() == shown
