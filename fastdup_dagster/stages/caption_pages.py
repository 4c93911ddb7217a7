"""captions.html: images of a split with what a model says about them, and those without a caption with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fastdup_dagster.schemas import IMG_STATS
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.gallery_pages import TITLES, Frame, Tab, Words, gallery_page
from fastdup_dagster.stages.pages import page_set, write_page
from fastdup_dagster.stages.pictures import Picture, ReadThumbnail, pictures_of, thumbnail_jpeg, with_thumbnail_files

CAPTIONS_PAGE = "captions.html"
# Of the items of a page, those without a caption take no more than this share while there are others.
_FAILED_SHARE = 0.5


@dataclass(frozen=True)
class CaptionItem:
    """An image and its caption; or the error, and no caption."""

    picture: Picture
    text: str | None
    error: str | None


def render_captions(
    captions: pl.DataFrame,
    manifest: pl.DataFrame,
    folder: Path,
    title: str,
    settings: Settings,
    read: ReadThumbnail = thumbnail_jpeg,
    home: str | None = None,
) -> None:
    """Writes captions.html into `folder`, which is replaced as a whole or not at all.

    Args:
        captions: the table.
        manifest: the table `image_manifest`.
        folder: of this page alone.
        title: data set and split, for people.
        settings: of the run; `gallery_items` is how many images the page shows.
        read: makes a thumbnail; an image it fails on is shown as a box with the reason.
        home: relative link from `folder` to the data set's report, if there will be one.

    Raises:
        FileExistsError: if `folder` holds files that are no gallery.
    """
    shown = select_captions(captions, settings.gallery_items)
    with page_set(folder) as part:
        found = pictures_of(manifest, IMG_STATS.frame(), shown["index"].to_list()).values()
        items = caption_items(shown, with_thumbnail_files(found, part, read, settings.threads))
        frame = Frame(title, [Tab(TITLES["captions"], CAPTIONS_PAGE, captions.height, current=True)], home)
        page = gallery_page("captions", items, captions.height, _words(captions), frame)
        write_page(part / CAPTIONS_PAGE, page)


def select_captions(captions: pl.DataFrame, most: int) -> pl.DataFrame:
    """The rows of the table that are shown: some without a caption first, then in the order of the listing."""
    failed, captioned = (captions.filter(pl.col("error").is_null() == good) for good in (False, True))
    failures = min(failed.height, max(int(most * _FAILED_SHARE), most - captioned.height))
    return pl.concat([failed.head(failures), captioned.head(most - failures)])


def caption_items(rows: pl.DataFrame, pictures: Mapping[int, Picture]) -> list[CaptionItem]:
    """The items of these rows of the table, in their order."""
    named = rows.select("index", "caption", "error").iter_rows()
    return [CaptionItem(pictures[index], caption, error) for index, caption, error in named]


def _words(captions: pl.DataFrame) -> Words:
    models = ", ".join(_short(model) for model in captions["model"].unique().sort())
    failed = captions["error"].count()
    return Words(
        f"What {models or 'the model'} says about each image."
        + (f" Without a caption: {failed:,}, each with the reason." if failed else ""),
        "those without a caption first, then in the order of the listing" if failed else "in the order of the listing",
        "There are no images.",
        "ones",
    )


def _short(model: str) -> str:
    """The id of a captioner with twelve digits of the hash; prompt and options come after it."""
    name, _, rest = model.partition("@")
    digest, plus, asked = rest.partition("+")
    return f"{name} @{digest[:12]}{plus}{asked}"
