"""Great Expectations' own pages: made by its renderers, linked, and without anything that a browser would fetch."""

from __future__ import annotations

import re

import great_expectations.expectations as gxe
import polars as pl
import pytest

from fastdup_dagster.assets.check_history import outcome_of
from fastdup_dagster.resources.data_docs import DATA_DOCS, render, wanted
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource


def test_a_page_has_every_expectation_and_loads_nothing():
    frame = pl.DataFrame({"index": [0, 1], "label": ["cat", "<script>alert(1)</script>"]})
    about = {"meta": {"check": "labels"}}
    suite = [
        gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=["cat"], severity="warning", description="cat only", **about
        ),
        gxe.ExpectColumnValuesToBeUnique(column="index", description="each once", **about),
    ]
    outcomes = GreatExpectationsResource().check(frame, "image_manifest", "pets/train", suite)
    html = render("image_manifest", "pets/train", outcomes)
    assert "image_manifest [pets/train]" in html
    assert html.count("cat only") == html.count("each once") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "default-src 'none'" in html
    assert not re.findall(r"<script|<img|<link|<iframe|@import|url\(.?https?:|\bsrc=|href=.https?:", html)


@pytest.mark.parametrize(("said", "means"), [("1", True), ("0", False), ("", False)])
def test_they_are_asked_for_by_a_variable(monkeypatch, said: str, means: bool):
    monkeypatch.setenv(DATA_DOCS, said)
    assert wanted() is means
    monkeypatch.setenv(DATA_DOCS, "docs")
    with pytest.raises(ValueError, match="write 1 for"):
        wanted()


def test_checks_lead_to_the_page_of_their_table_and_other_pages_do_not_remove_it(project, monkeypatch):
    page = project.store.root / "pages" / "pets" / "_data_docs" / "train" / "outliers.html"
    assert project.run("pets/train", "outliers").success
    assert not page.exists()
    monkeypatch.setenv(DATA_DOCS, "1")
    run = project.run("pets/train", "outliers", "galleries")
    assert run.success
    assert "known" in page.read_text()
    checks = [outcome_of(evaluation, "pets/train") for evaluation in run.get_asset_check_evaluations()]
    assert {check.data_docs for check in checks if check.asset == "outliers"} == {
        "http://127.0.0.1:3010/pets/_data_docs/train/outliers.html"
    }
