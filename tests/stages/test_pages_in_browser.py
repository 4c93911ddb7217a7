"""The pages in headless Chromium: numbers, pictures, keyboard, phone, dark, without JavaScript, without network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.galleries import render_galleries
from fastdup_dagster.stages.report import CheckOutcome, DatasetReport, render_dataset_report
from fastdup_dagster.stages.summary import summarise

pytestmark = pytest.mark.browser

SETTINGS = Settings(num_threads=2, gallery_items=200)
PAGES = ["report", "duplicates", "outliers", "clusters", "blurry", "dark", "bright"]
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1500, "height": 1000}
ALL_LOADED = """async () => {
  const images = [...document.querySelectorAll("img")];
  images.forEach((image) => { image.loading = "eager"; });
  await Promise.all(images.map((image) => image.decode().catch(() => null)));
  return images.every((image) => image.complete && image.naturalWidth > 0) && images.length;
}"""


class Viewer:
    """Opens pages and keeps what went wrong in them."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left before all was there: nothing is missing
            self.troubles.append(f"{request.url}: {request.failure}")

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        return self.page


@pytest.fixture
def view(chromium: Any) -> Iterator[Any]:
    viewers: list[Viewer] = []

    def make(viewport: dict[str, int] = WIDE, **context: Any) -> Viewer:
        viewers.append(Viewer(chromium, viewport=viewport, **context))
        return viewers[-1]

    yield make
    for viewer in viewers:
        viewer.context.close()


@pytest.fixture
def folder(split, tmp_path):
    render_galleries(split.tables, tmp_path / "pages #1", "data/split", SETTINGS, read=split.read)
    return tmp_path / "pages #1"


@pytest.fixture
def dataset_page(split, folder, tmp_path):
    report = DatasetReport(
        name="data",
        splits={"split": split.tables, "val": None},
        settings=SETTINGS,
        model="m@" + "0" * 64,
        version="0.1.0",
        created=datetime(2025, 11, 22, tzinfo=UTC),
        checks=[CheckOutcome("img_stats", "share_of_invalid", "data/val", False, True, 0.3, 0.05)],
        galleries={"split": folder},
    )
    return render_dataset_report(tmp_path / "report.html", report, read=split.read)


@pytest.mark.parametrize("kind", PAGES)
def test_pictures_load_nothing_goes_wrong_and_nothing_is_asked_of_the_network(folder, view, kind):
    viewer = view()
    page = viewer.open(folder / f"{kind}.html")
    assert page.evaluate(ALL_LOADED) > 0
    assert viewer.troubles == []
    assert all(url.startswith(("file:", "data:")) for url in viewer.requests)
    assert "bad" not in page.title()


def test_the_numbers_that_are_seen_are_those_of_the_tables(split, folder, view):
    viewer = view()
    summary = summarise(split.tables)
    page = viewer.open(folder / "report.html")
    tiles = page.locator(".tile").evaluate_all(
        "tiles => tiles.map(t => [t.dataset.measure, Number(t.querySelector('data').value)])"
    )
    assert dict(tiles) == {name: getattr(summary, name) for name, _ in tiles}
    assert len(tiles) == 10
    for kind, total in (("duplicates", summary.pairs), ("outliers", summary.outliers), ("blurry", summary.blurry)):
        page = viewer.open(folder / f"{kind}.html")
        assert page.locator("article").count() == total
        assert page.locator("nav [aria-current] .count").inner_text() == str(total)
    page = viewer.open(folder / "outliers.html")
    shown = page.locator(".scores dd").all_inner_texts()
    assert [float(text) for text in shown] == pytest.approx(split.tables.outliers["distance"].to_list(), abs=5e-5)


def test_a_script_in_a_name_or_a_label_is_text(folder, view):
    page = view().open(folder / "outliers.html")
    assert "<script>document.title='bad'<b>\"'&#%?.png" in page.locator("main").inner_text()
    assert "label <script>document.title='bad'</script>" in page.locator("main").inner_text()
    assert page.title() == "Outliers · data/split"


def test_a_script_that_would_slip_through_does_not_run(folder, view):
    path = folder / "dark.html"
    path.write_text(path.read_text().replace("<main", "<script>document.title='bad'</script><main"))
    viewer = view()
    page = viewer.open(path)
    assert page.title() == "Dark · data/split"
    assert "Content Security Policy" in viewer.troubles[0]


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("viewport", [PHONE, WIDE], ids=["phone", "wide"])
def test_nothing_is_wider_than_the_window(folder, view, kind, viewport):
    page = view(viewport).open(folder / f"{kind}.html")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_follows_the_colour_scheme(folder, view):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = view(color_scheme="light").open(folder / "report.html").evaluate(ground)
    dark = view(color_scheme="dark").open(folder / "report.html").evaluate(ground)
    assert (light, dark) == ("rgb(245, 246, 248)", "rgb(14, 18, 23)")


def test_pairs_are_filtered_by_kind_and_by_name(folder, view):
    page = view().open(folder / "duplicates.html")
    seen = page.locator("article:visible")
    assert seen.count() == 5
    page.get_by_role("button", name="near duplicate").click()
    assert seen.count() == 1 and "a_resized.png" in seen.text_content()
    assert page.get_by_role("button", name="near duplicate").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_label("Find").fill("MIRRORED")
    assert seen.count() == 1 and "b_mirrored.png" in seen.text_content()
    page.get_by_label("Find").fill("no such name")
    assert seen.count() == 0 and page.locator("[data-status]").inner_text() == "nothing fits"


def test_the_larger_view_opens_steps_and_closes_by_keyboard(folder, view):
    page = view().open(folder / "duplicates.html")
    first = page.locator("a.shot").first
    first.focus()
    page.keyboard.press("Enter")
    box, words = page.locator("dialog"), page.locator("[data-words]")
    assert box.is_visible() and words.inner_text() == "a.png · 64 × 48"
    page.keyboard.press("ArrowRight")
    assert words.inner_text() == "a_copy.png · 64 × 48"
    page.keyboard.press("ArrowRight")
    assert words.inner_text().startswith("Difference: a.png")
    assert box.locator(".stage.difference img").count() == 2
    page.keyboard.press("Escape")
    assert not box.is_visible()
    assert first.evaluate("link => link === document.activeElement")


def test_without_javascript_everything_is_there(folder, view):
    page = view(java_script_enabled=False).open(folder / "duplicates.html")
    assert page.locator("article:visible").count() == 5
    assert not page.locator("[data-tools]").is_visible()
    page.locator("a.shot").first.click()
    assert page.url.endswith("images/0.jpg")


def test_the_first_tab_stop_skips_to_the_content(folder, view):
    page = view().open(folder / "report.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_two_thousand_items_are_paged_and_their_pictures_lazy(split, view, tmp_path):
    n = 2000
    many = schemas.SIMILARITY.frame(
        {
            "from": [i // 2000 for i in range(n)],
            "to": [100 + i for i in range(n)],
            "distance": [0.95] * n,
            "kind": ["near_duplicate"] * n,
        }
    )
    tables = replace(split.tables, similarity=many)
    render_galleries(tables, tmp_path / "many", "data/split", Settings(num_threads=2, gallery_items=n), read=split.read)
    page = view().open(tmp_path / "many" / "duplicates.html")
    assert page.locator("article").count() == n
    assert page.locator("article:visible").count() == 60
    page.get_by_role("button", name="Next page").click()
    assert page.locator("[data-status]").inner_text() == "61–120 of 2000"
    assert page.locator("[data-page]").inner_text() == "Page 2 of 34"


def test_the_report_of_a_data_set_links_to_working_galleries(dataset_page, view):
    viewer = view(PHONE)
    page = viewer.open(dataset_page)
    assert "FAILED: share_of_invalid on data/val" in page.locator(".banner").inner_text()
    assert page.evaluate(ALL_LOADED) > 10
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name="Duplicates").click()
    assert page.locator("article").count() == 5
    assert page.evaluate(ALL_LOADED) == 20
    assert viewer.troubles == []


def test_every_picture_and_chart_has_words_and_every_id_is_unique(dataset_page, view):
    page = view().open(dataset_page)
    assert page.evaluate("[...document.images].every((i) => i.hasAttribute('alt'))")
    assert page.evaluate("[...document.querySelectorAll('svg[role=img]')].every((s) => s.getAttribute('aria-label'))")
    ids = pl.Series(page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)"))
    assert ids.n_unique() == ids.len()
