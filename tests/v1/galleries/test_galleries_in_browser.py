"""The V1 galleries in headless Chromium: pictures load from anywhere, numbers, labels as text, phone, 2,000 items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fastdup_dagster import schemas
from fastdup_dagster.fastdup_galleries import FastdupVisualizer, create_duplicates_gallery

pytestmark = pytest.mark.browser

GALLERIES = ["outliers", "duplicates", "similarity", "stats", "component"]
COUNTS = {"outliers": 3, "duplicates": 4, "similarity": 5, "stats": 10, "component": 2}
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1500, "height": 1000}
ALL_LOADED = """async () => {
  const images = [...document.querySelectorAll("img")];
  images.forEach((image) => { image.loading = "eager"; });
  await Promise.all(images.map((image) => image.decode().catch(() => null)));
  return images.every((image) => image.complete && image.naturalWidth > 0) && images.length;
}"""


class Viewer:
    """Opens pages and keeps what went wrong in them, and what they asked for."""

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


def gallery(double: Any, name: str, **more: Any) -> Path:
    return getattr(FastdupVisualizer(double), f"{name}_gallery")(**more)


def numbers(page: Any, selector: str) -> list[float]:
    return page.locator(selector).evaluate_all("all => all.map((one) => Number(one.value))")


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "inlined"])
@pytest.mark.parametrize("name", GALLERIES)
def test_items_are_there_pictures_load_and_nothing_goes_wrong(double, view, tmp_path, monkeypatch, name, lazy):
    path = gallery(double, name, save_path=tmp_path / "pages #1 %", lazy_load=lazy)
    monkeypatch.chdir("/")
    viewer = view()
    page = viewer.open(path)
    assert page.locator("article:visible").count() == COUNTS[name]
    assert page.evaluate(ALL_LOADED) > 0
    assert viewer.troubles == []
    assert all(url.startswith(("file:", "data:")) for url in viewer.requests)
    assert page.title().endswith("· work dir")


def test_the_numbers_that_are_seen_are_the_accessors(double, view):
    viewer = view()
    page = viewer.open(gallery(double, "outliers"))
    assert numbers(page, ".scores data") == [float(s) for s in double.outliers()["distance"]]
    page = viewer.open(gallery(double, "similarity"))
    frame = double.similarity().sort_values("distance", ascending=False, kind="stable")
    best = frame.groupby("from", sort=False)["distance"].apply(list)
    assert numbers(page, "data.similarity") == [float(s) for scores in best for s in scores]
    page = viewer.open(gallery(double, "stats", metric="blur"))
    assert numbers(page, ".scores data") == sorted(double.img_stats()["blur"])


def test_a_script_in_a_name_or_a_label_is_text(double, view):
    page = view().open(gallery(double, "outliers"))
    text = page.locator("main").inner_text()
    assert "<script>document.title='bad'<b>\"'&#% ?.png" in text
    assert "label <script>document.title='bad'</script>" in text
    assert page.title() == "Outliers · work dir"


@pytest.mark.parametrize("viewport", [PHONE, WIDE], ids=["phone", "wide"])
@pytest.mark.parametrize("name", GALLERIES)
def test_nothing_is_wider_than_the_window(double, view, name, viewport):
    page = view(viewport).open(gallery(double, name, lazy_load=True))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = "cards => cards.every((c) => [...c.children].every((e) => e.scrollWidth <= e.clientWidth + 1))"
    assert page.locator("article").evaluate_all(inside)


def test_the_page_follows_the_colour_scheme(double, view):
    path, ground = gallery(double, "similarity"), "getComputedStyle(document.body).backgroundColor"
    assert view(color_scheme="light").open(path).evaluate(ground) == "rgb(245, 246, 248)"
    assert view(color_scheme="dark").open(path).evaluate(ground) == "rgb(14, 18, 23)"


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "inlined"])
def test_the_larger_view_opens_by_keyboard_with_the_box(make_double, view, lazy):
    double = make_double(boxes=[[10, 8, 40, 20], *[None] * 9])
    page = view().open(gallery(double, "duplicates", lazy_load=lazy))
    page.locator(".shot").first.focus()
    page.keyboard.press("Enter")
    box = page.locator("dialog")
    assert box.is_visible() and box.locator("svg.outline polygon").count() == 2
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert box.locator(".stage.difference img").evaluate_all("all => all.map((i) => i.src.length > 20)") == [True, True]
    page.keyboard.press("Escape")
    assert not box.is_visible()


def test_equal_images_have_a_black_difference(double, view):
    page = view().open(gallery(double, "duplicates"))
    sources = page.locator(".difference").first.locator("img").evaluate_all("all => all.map((i) => i.src)")
    assert len(set(sources)) == 1 and sources[0].startswith("data:image/jpeg")


def test_search_results_open(double, view, tmp_path):
    df = double.similarity().head(3)
    files = double.annotations()["filename"]
    df = df.assign(**{end: df[end].map(files) for end in ("from", "to")})
    viewer = view()
    page = viewer.open(create_duplicates_gallery(df, tmp_path, lazy_load=True))
    assert page.locator("article").count() == 2 and page.evaluate(ALL_LOADED) == 8
    assert viewer.troubles == []


def test_the_report_links_to_working_galleries_and_back(double, view):
    viewer = view(PHONE)
    page = viewer.open(FastdupVisualizer(double).report())
    assert page.evaluate(ALL_LOADED) > 5
    page.get_by_role("link", name="Duplicates").click()
    assert page.locator("article").count() == 4
    page.get_by_role("link", name="All of the data set").click()
    assert page.locator("#thresholds").is_visible()
    assert viewer.troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 390, "height": 844}, {"width": 1600, "height": 1000}])
def test_the_report_fits_every_window_and_is_reached_by_keyboard(double, view, viewport, scheme):
    vis = FastdupVisualizer(double)
    report = vis.report()
    vis.duplicates_gallery(lazy_load=True)
    viewer = view(viewport, color_scheme=scheme)
    page = viewer.open(report)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(ALL_LOADED) > 5
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    assert page.locator("img:not([alt])").count() == 0
    assert page.get_by_role("heading", level=1).count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    sections = page.locator("main section")
    assert sections.evaluate_all("all => all.every((s) => document.getElementById(s.getAttribute('aria-labelledby')))")
    page.locator("#made a").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/duplicates.html")
    assert page.locator("article").count() == 4
    assert viewer.troubles == []


def test_two_thousand_items_are_paged_and_their_pictures_wait(double, view, tmp_path):
    n = 2000
    pairs = {"from": [i % 3 for i in range(n)], "to": [1000 + i for i in range(n)], "distance": [0.95] * n}
    many = schemas.SIMILARITY.frame(pl.DataFrame({**pairs, "kind": ["similar"] * n, "verified_score": [0.5] * n}))
    object.__setattr__(double.tables, "similarity", many)
    viewer = view()
    page = viewer.open(gallery(double, "duplicates", save_path=tmp_path, num_images=n, lazy_load=True))
    assert page.locator("article").count() == n
    assert page.locator("article:visible").count() == 60
    page.get_by_role("button", name="Next page").click()
    assert page.locator("[data-status]").inner_text() == "61–120 of 2000"
    assert len(list((tmp_path / "images").iterdir())) == 2
