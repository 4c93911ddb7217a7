"""Pages in a bucket need nothing but themselves: pictures inside, links signed, and only the latest set there."""

from __future__ import annotations

import re
import urllib.request
from html import unescape
from pathlib import Path

import pytest

from fastdup_dagster.s3.pages import with_pictures, with_plain_links, with_signed_links
from fastdup_dagster.stages.pages import data_uri

PICTURE = b"\xff\xd8 a picture"
PAGE = (
    '<nav><a href="../report.html">all</a><a href="outliers.html#top" aria-current="page">outliers</a></nav>'
    '<a class="shot" href="images/0-1.jpg" data-view="a · 3 x 3"><img src="images/0-1.jpg" alt="a"></a>'
    '<a href="#content">skip</a><a href="https://example.com/x.html">out</a>'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0-1.jpg").write_bytes(PICTURE)
    return tmp_path


def fill(store, key: str, *names: str) -> None:
    pages = store.pages(key)
    (pages / "images").mkdir(parents=True, exist_ok=True)
    (pages / "images" / "0-1.jpg").write_bytes(PICTURE)
    for name in names:
        (pages / f"{name}.html").write_text(PAGE)


def test_pictures_go_into_the_page_and_what_showed_them_becomes_a_button(folder: Path) -> None:
    html = with_pictures(PAGE, folder)
    assert html.count(data_uri(PICTURE)) == 1
    assert '<button type="button" class="shot" data-view="a · 3 x 3"><img src="data:image/jpeg;base64,' in html
    assert "images/" not in html
    assert with_pictures('<img src="images/gone.jpg">', folder) == '<img src="images/gone.jpg">'


def test_links_to_pages_are_signed_by_their_key_and_undone_for_a_server_of_pages() -> None:
    signed = with_signed_links(
        PAGE, "p/pages/pets/train/x.html", lambda key: f"http://s3/b/{key}?X-Amz-Signature=1&x=2"
    )
    assert 'href="http://s3/b/p/pages/pets/report.html?X-Amz-Signature=1&amp;x=2"' in signed
    assert 'href="http://s3/b/p/pages/pets/train/outliers.html?X-Amz-Signature=1&amp;x=2#top"' in signed
    assert 'href="#content"' in signed
    assert 'href="https://example.com/x.html"' in signed
    plain = with_plain_links(signed, "/b/p/pages")
    assert 'href="/pets/report.html"' in plain
    assert 'href="/pets/train/outliers.html#top"' in plain
    assert with_plain_links(PAGE, "/b/p/pages") == PAGE


def test_a_signed_url_opens_the_page_and_its_links_and_dies(store) -> None:
    fill(store, "pets/train", "report", "outliers")
    fill(store, "pets", "report")
    store.publish_page("pets", "report.html", 60)
    store.publish_pages("pets/train", 60)
    url = store.page_url("pets/train", "report.html", 60)
    assert "X-Amz-Expires=60" in url
    html = urllib.request.urlopen(url).read().decode()
    links = [unescape(link) for link in re.findall(r'href="(http://127[^"]+)"', html)]
    assert len(links) == 2
    for link in links:
        answer = urllib.request.urlopen(link)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert data_uri(PICTURE) in answer.read().decode()
    assert store.page_url("pets/train", "report.html", 0) is None


def test_pages_that_are_no_longer_made_go_and_those_of_others_stay(s3_server, bucket, store) -> None:
    for key, *names in (("pets/train", "report", "outliers", "gate_galleries"), ("pets/training", "report")):
        fill(store, key, *names)
        store.publish_pages(key)
    fill(store, "pets", "report")
    store.publish_page("pets", "report.html")
    fill(store, "pets/train", "report")
    store.publish_pages("pets/train")
    found = [item["Key"] for item in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    before = "re sults+1/é/pages/pets"
    assert found == [f"{before}/report.html", f"{before}/train/report.html", f"{before}/training/report.html"]
    store.remove_page("pets/train", "report.html")
    store.remove_page("pets/train", "report.html")
    with pytest.raises(FileNotFoundError):
        store.page_bytes("pets/train/report.html")
    assert not list((store.root / "pages").rglob("*.html"))


def test_pages_of_a_data_set_replace_none_of_its_splits(s3_server, bucket, store) -> None:
    fill(store, "pets/train", "report")
    store.publish_pages("pets/train")
    fill(store, "pets/val", "report")  # made, and not published yet
    for names in (("report", "old"), ("report",)):
        fill(store, "pets", *names)
        store.publish_pages("pets")
    found = [item["Key"] for item in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    before = "re sults+1/é/pages/pets"
    assert found == [f"{before}/report.html", f"{before}/train/report.html"]
    assert sorted(p.name for p in store.pages("pets").rglob("*")) == ["0-1.jpg", "images", "report.html", "val"]


def test_a_server_of_pages_gives_out_links_to_itself(store) -> None:
    fill(store, "pets/train", "report")
    store.publish_pages("pets/train", 60)
    html = store.page_bytes("pets/train/report.html").decode()
    assert 'href="/pets/report.html"' in html
    assert "X-Amz" not in html


def test_a_link_that_cannot_be_signed_that_long_is_refused(monkeypatch) -> None:
    from fastdup_dagster.resources.pages import link_seconds

    monkeypatch.delenv("FASTDUP_LINK_SECONDS", raising=False)
    assert link_seconds() == 604_800
    for text in ("604801", "-1", "a day"):
        monkeypatch.setenv("FASTDUP_LINK_SECONDS", text)
        with pytest.raises(ValueError, match=r"FASTDUP_LINK_SECONDS=.*0 to 604800"):
            link_seconds()
    monkeypatch.setenv("FASTDUP_LINK_SECONDS", "0")
    assert link_seconds() == 0
