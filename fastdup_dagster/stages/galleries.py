"""The pages of one split: its report, and a gallery for duplicates, outliers, clusters, blurry, dark and bright images.

A page needs only the `images` folder beside it: no network, no other file. The same tables give the same pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from fastdup_dagster.schemas import GALLERIES
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.gallery_items import PairItem, Selection, items, pair_item, select_all
from fastdup_dagster.stages.gallery_pages import (
    TITLES,
    Frame,
    Tab,
    between,
    gallery_page,
    leak_table,
    leak_words,
    words_for,
)
from fastdup_dagster.stages.pages import page_set, write_page
from fastdup_dagster.stages.pictures import Picture, ReadThumbnail, pictures_of, thumbnail_jpeg, with_thumbnail_files
from fastdup_dagster.stages.report_sections import (
    ReportPage,
    charts,
    links_of,
    previewed,
    report_page,
    setting_rows,
    split_section,
    tiles,
)
from fastdup_dagster.stages.summary import SplitSummary, SplitTables, most_alike_first, summarise

__all__ = ["SplitTables", "leak_items", "leak_pictures", "render_galleries", "render_leaks", "shown_leaks"]


def render_galleries(
    tables: SplitTables,
    folder: Path,
    title: str,
    settings: Settings,
    read: ReadThumbnail = thumbnail_jpeg,
    home: str | None = None,
) -> pl.DataFrame:
    """Writes the pages of one split into `folder`, which is replaced as a whole or not at all.

    Args:
        tables: of the split.
        folder: gets report.html, duplicates.html, outliers.html, clusters.html, blurry.html, dark.html, bright.html
            and images/<index>.jpg, each image once.
        title: data set and split, for people.
        settings: of the run; `gallery_items` is how many items a page shows.
        read: makes a thumbnail; an image it fails on is shown as a box with the reason.
        home: relative link from `folder` to the data set's report, if there will be one.

    Returns:
        GALLERIES: a row per page; for the report, `items` and `total` are the images of the split.

    Raises:
        FileExistsError: if `folder` holds files that are no gallery.
    """
    selections = select_all(tables, settings.gallery_items)
    summary = summarise(tables, clustered=settings.run_cc)
    tabs = {"report": None} | {kind: selection.total for kind, selection in selections.items()}
    tabs |= {} if settings.run_cc else {"clusters": None}
    with page_set(folder) as part:
        found = pictures_of(tables.manifest, tables.img_stats, _indices(selections)).values()
        pictures = with_thumbnail_files(found, part, read, settings.threads)
        for kind, selection in selections.items():
            words = words_for(kind, tables, summary, settings)
            frame = Frame(title, _tabs(tabs, kind), home)
            page = gallery_page(kind, items(kind, selection, pictures), selection.total, words, frame)
            write_page(part / f"{kind}.html", page)
        report = _split_report(title, tables, summary, selections, pictures, settings)
        write_page(part / "report.html", report_page(report, Frame(title, _tabs(tabs, "report"), home)))
    counts = {"report": (summary.images, summary.images)}
    return _rows(folder, counts | {kind: (s.rows.height, s.total) for kind, s in selections.items()})


def render_leaks(
    leakage: pl.DataFrame,
    rates: pl.DataFrame,
    manifests: Mapping[str, pl.DataFrame],
    img_stats: Mapping[str, pl.DataFrame],
    folder: Path,
    title: str,
    settings: Settings,
    read: ReadThumbnail = thumbnail_jpeg,
    home: str | None = None,
    left_out: Sequence[str] = (),
) -> pl.DataFrame:
    """Writes leaks.html, the pairs across the splits of a data set, into `folder`; whole or not at all.

    Args:
        leakage: SPLIT_LEAKAGE.
        rates: what `split_leakage.leak_rates` gives.
        manifests, img_stats: of every split that `leakage` names.
        folder: of this page alone; images are named after their split's position and their index.
        title: the data set's name.
        settings: of the run; `gallery_items` is how many pairs the page shows, of every two splits some.
        read: makes a thumbnail.
        home: relative link from `folder` to the data set's report, if there will be one.
        left_out: splits that were not compared.

    Returns:
        GALLERIES with one row, of kind `leaks`.

    Raises:
        FileExistsError: if `folder` holds files that are no gallery.
    """
    rows = shown_leaks(leakage, settings.gallery_items)
    with page_set(folder) as part:
        pictures = {
            split: with_thumbnail_files(
                leak_pictures(rows, split, manifests[split], img_stats[split]).values(),
                part, read, settings.threads, prefix=f"{position}-",
            )
            for position, split in enumerate(sorted(manifests))
        }  # fmt: skip
        frame = Frame(title, [Tab(TITLES["leaks"], "leaks.html", leakage.height, current=True)], home)
        table, shown = leak_table(leakage, rates, rows), leak_items(rows, pictures)
        page = gallery_page("leaks", shown, leakage.height, leak_words(left_out), frame, table)
        write_page(part / "leaks.html", page)
    return _rows(folder, {"leaks": (rows.height, leakage.height)})


def shown_leaks(leakage: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The pairs that are shown, most alike first: of every two splits an equal share, then the most alike of the rest.

    Args:
        leakage: SPLIT_LEAKAGE.
        limit: pairs in all; at least one of every two splits that have any is shown.
    """
    ordered = most_alike_first(leakage).with_row_index("place")
    sides = ["split_from", "split_to"]
    share = max(1, limit // max(1, ordered.select(sides).n_unique()))
    of_all = ordered.filter(pl.int_range(pl.len()).over(sides) < share)
    more = ordered.join(of_all, on="place", how="anti", maintain_order="left").head(max(0, limit - of_all.height))
    return pl.concat([of_all, more]).sort("place").drop("place")


def leak_pictures(
    rows: pl.DataFrame, split: str, manifest: pl.DataFrame, img_stats: pl.DataFrame
) -> dict[int, Picture]:
    """The images of one split that rows of SPLIT_LEAKAGE name, without thumbnails; `split` as the rows call it."""
    ends = (("split_from", "from"), ("split_to", "to"))
    wanted = [i for side, end in ends for i in rows.filter(pl.col(side) == split)[end].to_list()]
    return pictures_of(manifest, img_stats, wanted)


def leak_items(rows: pl.DataFrame, pictures: Mapping[str, Mapping[int, Picture]]) -> list[PairItem]:
    """Pairs across splits, in the order of `rows` of SPLIT_LEAKAGE; each end is tagged with its split."""
    found = []
    for row in rows.iter_rows(named=True):
        splits = row["split_from"], row["split_to"]
        found.append(pair_item(row, pictures[splits[0]], pictures[splits[1]], splits, between(*splits)))
    return found


def _indices(selections: Mapping[str, Selection]) -> set[int]:
    return {i for selection in selections.values() for i in selection.indices}


def _tabs(totals: Mapping[str, int | None], current: str) -> list[Tab]:
    return [Tab(TITLES[kind], f"{kind}.html", total, kind == current) for kind, total in totals.items()]


def _rows(folder: Path, pages: Mapping[str, tuple[int, int]]) -> pl.DataFrame:
    return GALLERIES.frame(
        {
            "kind": list(pages),
            "uri": [(folder.absolute() / f"{kind}.html").as_uri() for kind in pages],
            "items": [shown for shown, _ in pages.values()],
            "total": [total for _, total in pages.values()],
        }
    )


def _split_report(
    title: str,
    tables: SplitTables,
    summary: SplitSummary,
    selections: Mapping[str, Selection],
    pictures: Mapping[int, Picture],
    settings: Settings,
) -> ReportPage:
    links = links_of(selections)
    return ReportPage(
        heading=title,
        sections=[split_section(title, tables, summary, previewed(selections), pictures, links)],
        total=summary,
        tiles=tiles(summary, settings, links),
        charts=charts({title: tables}, settings),
        settings=setting_rows(settings),
        threshold=settings.threshold,
    )
