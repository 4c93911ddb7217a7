"""The gallery pages of a split: right items, right order, right numbers, and safe whatever a file is called."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.galleries import render_galleries, render_leaks, shown_leaks
from fastdup_dagster.stages.split_leakage import leak_rates

SETTINGS = Settings(num_threads=2)
SCRIPT_LABEL = "<script>document.title='bad'</script>"  # of image 7 in the hand-made split
PAGES = ["report", "duplicates", "outliers", "clusters", "blurry", "dark", "bright"]


class _Parsed(HTMLParser):
    """The tags, the names of attributes and the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def _render(split, folder: Path, settings: Settings = SETTINGS, **more):
    return render_galleries(split.tables, folder, "data/split", settings, read=split.read, **more)


def _page(folder: Path, kind: str) -> str:
    return (folder / f"{kind}.html").read_text(encoding="utf-8")


def _items(html: str) -> list[str]:
    return re.findall(r"<article class=\"card.*?</article>", html, flags=re.S)


def _values(html: str) -> list[float]:
    return [float(value) for value in re.findall(r'<dd><data value="([^"]+)"', html)]


def _indices(html: str) -> list[int]:
    return [int(index) for index in re.findall(r'class="shot" href="images/(\d+)\.jpg"', html)]


def _links(html: str) -> list[str]:
    return re.findall(r'\b(?:src|href)="([^"]*)"', html)


@pytest.fixture
def leakage() -> pl.DataFrame:
    return schemas.SPLIT_LEAKAGE.frame(
        {
            "split_from": ["test", "test", "test"],
            "from": [5, 0, 7],
            "split_to": ["train", "train", "train"],
            "to": [6, 1, 7],
            "distance": [0.93, 1.0, 0.97],
            "kind": ["similar", "identical_bytes", "near_duplicate"],
            "verified_score": [None, 1.0, 0.9],
        }
    )


def test_the_table_has_a_row_per_page_and_says_shown_and_total(split, tmp_path):
    table = _render(split, tmp_path / "pages", Settings(num_threads=2, gallery_items=2))
    assert table.schema == schemas.GALLERIES.frame().schema
    assert dict(zip(table["kind"], table.select("items", "total").rows(), strict=True)) == {
        "report": (17, 17),
        "duplicates": (2, 5),
        "outliers": (2, 3),
        "clusters": (2, 2),
        "blurry": (2, 3),
        "dark": (1, 1),
        "bright": (1, 1),
    }
    for kind, uri in table.select("kind", "uri").iter_rows():
        assert Path(unquote(urlsplit(uri).path)) == tmp_path / "pages" / f"{kind}.html"
    for kind, items in table.filter(pl.col("kind") != "report").select("kind", "items").iter_rows():
        assert len(_items(_page(tmp_path / "pages", kind))) == items


def test_duplicates_show_each_pair_once_most_alike_first_with_its_numbers(split, tmp_path):
    _render(split, tmp_path / "pages")
    items = _items(_page(tmp_path / "pages", "duplicates"))
    assert [_indices(item) for item in items] == [[0, 1], [0, 2], [0, 3], [0, 4], [5, 6]]
    kinds = [re.search(r'data-kind="(\w+)"', item).group(1) for item in items]
    assert kinds == ["identical_bytes", "identical_bytes", "identical_pixels", "near_duplicate", "similar"]
    assert [_values(item) for item in items[3:]] == [pytest.approx([0.97, 0.88]), pytest.approx([0.93])]
    assert all('class="shot difference"' in item for item in items)
    assert "40 × 30" in items[3] and "near duplicate" in items[3] and "a_resized.png" in items[3]
    sizes = split.tables.img_stats["file_size"]
    assert f'<data value="{sizes[0]}">' in items[0]


def test_outliers_are_lowest_first_beside_their_nearest(split, tmp_path):
    _render(split, tmp_path / "pages")
    items = _items(_page(tmp_path / "pages", "outliers"))
    assert [_values(item) for item in items] == [pytest.approx([s]) for s in (0.2, 0.25, 0.31)]
    assert [_indices(item) for item in items] == [[7], [9, 10], [7, 8]]
    assert "vanished.png" in items[0]


def test_clusters_are_largest_first_and_show_at_most_twelve_members(split, tmp_path):
    members = [*list(range(13)), 13, 14]
    many = schemas.COMPONENTS.frame(
        {
            "index": members,
            "component_id": [1] * 13 + [0] * 2,
            "count": [13] * 13 + [2] * 2,
            "mean_distance": [0.98] * 15,
            "min_distance": [0.97] * 15,
            "max_distance": [1.0] * 15,
        }
    )
    table = _render(replace(split, tables=replace(split.tables, components=many)), tmp_path / "pages")
    big, small = _items(_page(tmp_path / "pages", "clusters"))
    assert "Cluster 1" in big and '<data value="13">13</data> images' in big and "and 1 more" in big
    assert big.count("<li>") == 12
    assert "Cluster 0" in small and "more</li>" not in small
    assert table.filter(pl.col("kind") == "clusters").row(0)[2:] == (2, 2)


@pytest.mark.parametrize(("kind", "shown"), [("blurry", [11, 10, 9]), ("dark", [10]), ("bright", [11])])
def test_blurry_dark_and_bright_are_worst_first_with_their_number(split, tmp_path, kind, shown):
    _render(split, tmp_path / "pages")
    items = _items(_page(tmp_path / "pages", kind))
    assert [_indices(item) for item in items] == [[index] for index in shown]
    column = "blur" if kind == "blurry" else "mean"
    assert [_values(item)[0] for item in items] == [split.tables.img_stats[column][index] for index in shown]


def test_an_image_that_cannot_be_read_is_a_box_with_the_reason(split, tmp_path):
    _render(split, tmp_path / "pages")
    item = _items(_page(tmp_path / "pages", "outliers"))[0]
    assert "No picture" in item and "FileNotFoundError" in item and "vanished.png" in item


def test_each_thumbnail_is_made_once_and_is_at_most_320_pixels(split, tmp_path):
    def read(uri: str, max_side: int) -> bytes:
        assert max_side == 320
        return split.read(uri, max_side)

    render_galleries(split.tables, tmp_path / "pages", "data/split", SETTINGS, read=read)
    assert set(Counter(split.asked).values()) == {1}
    made = {path.name for path in (tmp_path / "pages" / "images").iterdir()}
    assert made == {f"{index}.jpg" for index in range(12)}


@pytest.mark.parametrize("kind", PAGES)
def test_every_link_is_relative_and_leads_somewhere(split, tmp_path, kind):
    _render(split, tmp_path / "pages", home="../report.html")
    html = _page(tmp_path / "pages", kind)
    for href in _links(html):
        if href.startswith(("data:image/svg", "#", "../report.html")):
            continue
        assert not urlsplit(href).scheme and not href.startswith("/")
        assert (tmp_path / "pages" / unquote(href)).is_file(), href
    assert not re.search(r"(?:src|href|url\(|@import)[=\s\"'(]*(?:https?:)?//", html)
    assert html.count("<img") == html.count('loading="lazy"')


@pytest.mark.parametrize("kind", PAGES)
def test_names_and_labels_are_text_whatever_they_hold(split, tmp_path, kind):
    _render(split, tmp_path / "pages")
    parsed = _Parsed()
    parsed.feed(_page(tmp_path / "pages", kind))
    assert parsed.tags.count("script") == 1
    assert not any(name.startswith("on") or name == "style" for name in parsed.attributes)
    names = split.tables.manifest["filename"].to_list()
    texts = {"duplicates": [names[2]], "outliers": [names[7], SCRIPT_LABEL], "report": ["begins with <b>text</b>"]}
    for text in texts.get(kind, []):
        assert text in parsed.texts


def test_the_default_reader_makes_the_thumbnails(split, tmp_path):
    render_galleries(split.tables, tmp_path / "pages", "data/split", SETTINGS)
    assert {path.stem for path in (tmp_path / "pages" / "images").iterdir()} == {str(i) for i in range(12)}
    assert "MISSING_FILE: " in _page(tmp_path / "pages", "outliers")


def test_unseen_characters_of_a_name_are_shown(split, tmp_path):
    _render(split, tmp_path / "pages")
    assert "new\\nline\\u202egnp.exe.png" in _page(tmp_path / "pages", "outliers")


def test_the_same_tables_give_the_same_pages_and_replace_the_old_ones(split, tmp_path):
    _render(split, tmp_path / "pages")
    before = {path.name: path.read_bytes() for path in (tmp_path / "pages").rglob("*") if path.is_file()}
    (tmp_path / "pages" / "images" / "99.jpg").write_bytes(b"of an older run")
    _render(split, tmp_path / "pages")
    after = {path.name: path.read_bytes() for path in (tmp_path / "pages").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("kind", PAGES)
def test_a_split_without_images_still_gets_its_pages(empty_tables, tmp_path, kind):
    table = render_galleries(empty_tables, tmp_path / "pages", "data/none", SETTINGS)
    assert table["total"].to_list() == [0] * 7
    assert "<h1>" in _page(tmp_path / "pages", kind)


def test_a_page_with_nothing_to_show_says_how_far_off_it_is(split, tmp_path):
    sharp = split.tables.img_stats.with_columns(pl.lit(False).alias("is_blurry"))
    _render(replace(split, tables=replace(split.tables, img_stats=sharp)), tmp_path / "pages")
    assert "The lowest sharpness is 0.0." in _page(tmp_path / "pages", "blurry")


def test_a_page_says_when_its_numbers_were_not_computed(split, tmp_path):
    nothing = pl.lit(None, dtype=pl.Boolean)
    stats = split.tables.img_stats.with_columns(nothing.alias("is_blurry"), pl.lit(None, pl.Float64).alias("blur"))
    tables = replace(split.tables, img_stats=stats, components=schemas.COMPONENTS.frame())
    _render(replace(split, tables=tables), tmp_path / "pages", Settings(run_cc=False))
    assert "run_stats=False" in _page(tmp_path / "pages", "blurry")
    assert "run_cc=False" in _page(tmp_path / "pages", "clusters")
    report = _page(tmp_path / "pages", "report")
    [tile] = re.findall(r'data-measure="clusters".*?</li>', report, flags=re.S)
    assert '<data class="value" value="">–</data>' in tile
    assert "not computed (run_cc=False)" in tile
    assert 'href="clusters.html">Clusters</a>' in report  # without a count


def test_leaks_show_the_pairs_most_alike_first_with_their_splits(make_split, leakage, tmp_path):
    splits = {name: make_split(name) for name in ("train", "test")}
    table = render_leaks(
        leakage,
        leak_rates(leakage, {"train": 14, "test": 14}),
        {name: s.tables.manifest for name, s in splits.items()},
        {name: s.tables.img_stats for name, s in splits.items()},
        tmp_path / "pages",
        "data",
        SETTINGS,
        read=splits["train"].read,
    )
    assert table.select("kind", "items", "total").rows() == [("leaks", 3, 3)]
    items = _items(_page(tmp_path / "pages", "leaks"))
    assert [re.findall(r'class="tag">(\w+)<', item) for item in items] == [["test", "train"]] * 3
    assert [re.findall(r'class="shot" href="images/([^"]+)"', item) for item in items] == [
        ["0-0.jpg", "1-1.jpg"],
        ["0-7.jpg", "1-7.jpg"],
        ["0-5.jpg", "1-6.jpg"],
    ]
    # the same index in two splits is two images, each of its own folder
    asked = {Path(unquote(uri)).parent.name for uri in splits["train"].asked}
    assert asked == {"images of train", "images of test"}


def test_leaks_of_three_splits_are_told_for_every_two_of_them_and_none_crowds_out_another(make_split, tmp_path):
    splits = {name: make_split(name) for name in ("a", "b", "c")}
    rows = [("a", i, "b", i, 1 - i / 100, "near_duplicate") for i in range(6)]
    rows += [("a", i, "c", 0, 0.95 - i / 100, "similar") for i in range(3)] + [("b", 7, "c", 7, 0.91, "near_duplicate")]
    columns = ["split_from", "from", "split_to", "to", "distance", "kind"]
    leaks = schemas.SPLIT_LEAKAGE.frame(pl.DataFrame(rows, schema=columns, orient="row"))
    assert shown_leaks(leaks, 4).select("split_from", "split_to", "from").rows() == [
        ("a", "b", 0), ("a", "b", 1), ("a", "c", 0), ("b", "c", 7)
    ]  # fmt: skip
    assert shown_leaks(leaks, 1).height == 3
    assert shown_leaks(leaks, 100).height == len(rows)
    table = render_leaks(
        leaks,
        leak_rates(leaks, {"a": 14, "b": 14, "c": 2}),
        {name: s.tables.manifest for name, s in splits.items()},
        {name: s.tables.img_stats for name, s in splits.items()},
        tmp_path / "pages",
        "data",
        Settings(gallery_items=4),
        read=splits["a"].read,
    )
    assert table.select("kind", "items", "total").rows() == [("leaks", 4, 10)]
    page = _page(tmp_path / "pages", "leaks")
    body = page[page.index('<table class="leak-rates">') :]
    told = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r'<tr><th scope="row">.*?</tr>', body, re.S)]
    assert told == [
        ["b", "and", "c", "1", "0", "1", "(7.1", "%)", "1", "(50.0", "%)"],
        ["a", "and", "b", "6", "0", "6", "(42.9", "%)", "6", "(42.9", "%)"],
        ["a", "and", "c", "0", "3", "0", "(0", "%)", "0", "(0", "%)"],
    ]
    assert re.findall(r'data-group="([^"]+)"', page) == ["a and b", "a and b", "a and c", "b and c"]
    assert re.findall(r"<option [^>]*>([^<]+)", page) == ["all", "b and c (1)", "a and b (2)", "a and c (1)"]


def test_no_leaks_are_said_in_words(make_split, tmp_path):
    empty = schemas.SPLIT_LEAKAGE.frame()
    table = render_leaks(empty, leak_rates(empty, {}), {}, {}, tmp_path / "pages", "data", SETTINGS)
    assert table["total"].to_list() == [0]
    assert "No image of one split resembles" in _page(tmp_path / "pages", "leaks")
