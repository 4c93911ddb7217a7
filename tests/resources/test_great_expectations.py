"""The Great Expectations resource: one outcome a check, with what was observed, the limit and the bad rows."""

from __future__ import annotations

import great_expectations.expectations as gxe
import polars as pl
import pytest

from fastdup_dagster.resources import great_expectations as module
from fastdup_dagster.resources.great_expectations import MAX_BAD_ROWS, GreatExpectationsResource

FRAME = pl.DataFrame(
    {"index": [0, 1, 1], "score": [0.5, 1.5, None], "name": ["a", "b", "c"], "vector": [[1.0], [2.0], [3.0]]}
)


def about(check: str, limit: str = "…") -> dict:
    return {"meta": {"check": check}, "description": limit}


def check(frame: pl.DataFrame, *suite):
    return GreatExpectationsResource().check(frame, "knn_graph", "cats/one", list(suite))


def test_expectations_of_one_check_become_one_outcome_in_the_order_of_the_suite():
    found = check(
        FRAME,
        gxe.ExpectTableRowCountToEqual(value=3, **about("rows")),
        gxe.ExpectColumnValuesToBeUnique(column="index", **about("ids", "each index once")),
        gxe.ExpectColumnValuesToBeUnique(column="name", **about("ids", "each name once")),
    )
    assert [(o.check, o.passed, o.observed, o.limit) for o in found] == [
        ("rows", True, 3, "…"),
        ("ids", False, "2 of 3 rows (66.7%)", "each index once"),
    ]
    assert {(o.asset, o.partition) for o in found} == {("knn_graph", "cats/one")}


def test_bad_rows_are_whole_rows_without_nested_columns():
    [outcome] = check(FRAME, gxe.ExpectColumnValuesToBeBetween(column="score", max_value=1, **about("range")))
    assert outcome.bad_rows is not None
    assert outcome.bad_rows.to_dicts() == [{"index": 1, "score": 1.5, "name": "b"}]


def test_bad_rows_are_bounded():
    frame = pl.DataFrame({"index": range(1000)})
    [outcome] = check(frame, gxe.ExpectColumnValuesToBeInSet(column="index", value_set=[-1], **about("set")))
    assert outcome.observed == "1,000 of 1,000 rows (100.0%)"
    assert outcome.bad_rows is not None
    assert outcome.bad_rows.height == MAX_BAD_ROWS


def test_an_expectation_that_cannot_be_evaluated_is_a_failure():
    [outcome] = check(
        FRAME, gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="name", column_B="index", **about("odd"))
    )
    assert not outcome.passed
    assert "could not be evaluated" in str(outcome.observed)


def test_a_warning_does_not_block():
    [outcome] = check(FRAME, gxe.ExpectColumnValuesToBeUnique(column="index", severity="warning", **about("ids")))
    assert outcome.outcome == "warning"


def test_an_empty_table_passes_what_is_said_about_rows():
    [outcome] = check(FRAME.clear(), gxe.ExpectColumnValuesToBeUnique(column="index", **about("ids")))
    assert outcome.passed


def test_only_the_named_columns_go_to_pandas(monkeypatch):
    seen = []
    right = pl.DataFrame.to_pandas
    monkeypatch.setattr(pl.DataFrame, "to_pandas", lambda frame: seen.append(frame.columns) or right(frame))
    check(
        FRAME,
        gxe.ExpectColumnValuesToBeUnique(column="index", **about("ids")),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["index", "name"], **about("ids")),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="index", column_B="score", **about("pair")),
    )
    assert seen == [["index", "name", "score"]]


def test_one_context_a_process():
    assert module._context() is module._context()


@pytest.mark.parametrize("rows", [0, 5])
def test_checking_twice_does_not_add_up(rows):
    suite = gxe.ExpectTableRowCountToEqual(value=rows, **about("rows"))
    frame = pl.DataFrame({"index": range(rows)})
    assert [check(frame, suite)[0].passed for _ in range(2)] == [True, True]
