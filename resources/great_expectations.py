"""Great Expectations as a Dagster resource: one ephemeral context a process, imported on first use."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import dagster as dg
import polars as pl

from fastdup_dagster.stages.report import CheckOutcome

MAX_BAD_ROWS = 20
"""How many offending rows a result carries along."""

Observed = str | int | float | bool | None


def imported() -> Any:
    """The package. To import it costs seconds and hundreds of MB, so it waits for the first check."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # no telemetry: must be set before the import
    import great_expectations as gx

    return gx


@functools.cache
def _context() -> Any:
    """The process's one context."""
    gx = imported()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


class GreatExpectationsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Validates flat tables against suites of expectations; see `fastdup_dagster.assets.expectations`."""

    def check(self, frame: pl.DataFrame, asset: str, partition: str, suite: Sequence[Any]) -> list[CheckOutcome]:
        """Validates a table; only the columns that the suite names go to pandas.

        Args:
            frame: the table.
            asset: whose table it is.
            partition: its partition key.
            suite: GX expectations. `meta["check"]` says which check an expectation belongs to, `description`
                what it accepts, severity "critical" (the default) that it blocks.

        Returns:
            One outcome per check, in order of the suite. An expectation that raised counts as failed.
        """
        gx = imported()
        table = frame.select(_columns(suite) or frame.columns[:1]).to_pandas()
        source = _context().data_sources.add_or_update_pandas(asset)
        whole = source.add_dataframe_asset(asset).add_batch_definition_whole_dataframe("all")
        results = whole.get_batch({"dataframe": table}).validate(
            gx.ExpectationSuite(name=asset, expectations=list(suite)),
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": MAX_BAD_ROWS},
        )
        order = {check: i for i, check in enumerate(dict.fromkeys(e.meta["check"] for e in suite))}
        ranked = sorted(results.results, key=lambda r: order[_check(r)])
        return [_outcome(asset, partition, list(found), frame) for _, found in groupby(ranked, key=_check)]


def _check(result: Any) -> str:
    return str(result.expectation_config.meta["check"])


def _columns(suite: Iterable[Any]) -> list[str]:
    named: dict[str, None] = {}
    for expectation in suite:
        given = [getattr(expectation, name, None) for name in ("column", "column_A", "column_B")]
        named.update(dict.fromkeys(column for column in given if column))
        named.update(dict.fromkeys(getattr(expectation, "column_list", None) or []))
    return list(named)


def _outcome(asset: str, partition: str, results: list[Any], frame: pl.DataFrame) -> CheckOutcome:
    failed = [result for result in results if not result.success]
    rows = sorted({i for result in failed for i in result.result.get("partial_unexpected_index_list") or []})
    told = failed or results
    observed = list(dict.fromkeys(text for result in told if (text := _observed(result)) is not None))
    return CheckOutcome(
        asset=asset,
        check=_check(results[0]),
        partition=partition,
        passed=not failed,
        observed=observed[0] if len(observed) == 1 else "; ".join(str(o) for o in observed),
        limit="; ".join(dict.fromkeys(str(result.expectation_config.description) for result in told)),
        bad_rows=flat(frame[rows]) if rows else None,
        evidence=tuple(results),
        blocking=any(str(getattr(r.expectation_config.severity, "value", "critical")) == "critical" for r in told),
    )


def _observed(result: Any) -> Observed:
    """The value an expectation saw, or how many rows are against it, or why it could not be evaluated."""
    raised = _raised(result.exception_info)
    if raised:
        return f"could not be evaluated: {raised}"
    if "observed_value" in result.result:
        return _plain(result.result["observed_value"])
    bad, rows = result.result.get("unexpected_count", 0), result.result.get("element_count", 0)
    return f"{bad:,} of {rows:,} rows" + (f" ({bad / rows:.1%})" if bad else "")


def _raised(info: dict[str, Any]) -> str | None:
    for item in (info, *(value for value in info.values() if isinstance(value, dict))):
        if item.get("raised_exception"):
            return str(item.get("exception_message"))
    return None


def _plain(value: Any) -> Observed:
    """Numpy scalars as Python's, NaN as None: metadata is JSON."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def flat(rows: pl.DataFrame) -> pl.DataFrame:
    """The first `MAX_BAD_ROWS` rows without nested columns (vectors, thumbnails, boxes)."""
    kept = [name for name, dtype in rows.schema.items() if not dtype.is_nested()]
    return rows.select(kept).head(MAX_BAD_ROWS)
