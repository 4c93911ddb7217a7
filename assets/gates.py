"""Gate before publishing: check results first, then a stop on a failed blocking one, only then the output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from fastdup_dagster.assets.checks import QUALITY, STRUCTURE
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.stages.report import CheckOutcome

DATA_DOCS = "data docs"
"""Metadata of a check: link to the page that Great Expectations makes of it."""


def check_specs(table: str, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """The checks of an asset, one result a partition.

    Those of quality are not declared as blocking: whether they are is a setting of the data set, and `gate` sees to it.
    """
    return [
        dg.AssetCheckSpec(name, asset=table, description=text, blocking=blocking, partitions_def=partitions)
        for checks, blocking in ((QUALITY, False), (STRUCTURE, True))
        for name, text in checks.get(table, {}).items()
    ]


def gate(
    context: dg.AssetExecutionContext, pages: PagesResource, outcomes: Sequence[CheckOutcome]
) -> Iterator[dg.AssetCheckResult]:
    """Yields the results of all checks, then stops the step if a blocking one failed.

    A stopped step publishes nothing and leaves a page that says why; the page of an earlier stop is removed
    when the gate passes.

    Args:
        context: of the step.
        pages: where the page goes.
        outcomes: for a step with several assets those of all of them, so that none is published alone.

    Raises:
        dagster.Failure: naming checks, observed values and limits; never retried, data do not mend themselves.
    """
    docs = pages.write_data_docs(context.partition_key, outcomes)
    for outcome in outcomes:
        yield check_result(outcome, docs.get(outcome.asset))
    key, step = context.partition_key, context.op_execution_context.op_def.name
    failed = [outcome for outcome in outcomes if outcome.outcome == "failed"]
    if not failed:
        pages.remove_failure(key, step)
        return
    page = pages.write_failure(key, step, failed)
    said = "; ".join(f"{o.asset} {o.check}: {o.observed}, accepted: {o.limit}" for o in failed)
    raise dg.Failure(
        f"{step} [{key}] is not published: {said}",
        metadata={"page": pages.link(key, page), "file": dg.MetadataValue.path(pages.place(key, page))},
        allow_retries=False,
    )


def check_result(outcome: CheckOutcome, docs: dg.UrlMetadataValue | None = None) -> dg.AssetCheckResult:
    """One outcome as Dagster shows it: observed, limit, the bad rows as a table, and a link to Data Docs, if any."""
    metadata: dict[str, Any] = {"observed": plain(outcome.observed), "limit": plain(outcome.limit)}
    if outcome.bad_rows is not None and outcome.bad_rows.height:
        metadata["bad rows"] = records(outcome.bad_rows)
    if docs is not None:
        metadata[DATA_DOCS] = docs
    return dg.AssetCheckResult(
        passed=outcome.passed,
        asset_key=outcome.asset,
        check_name=outcome.check,
        severity=dg.AssetCheckSeverity.ERROR if outcome.blocking else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def records(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """A flat frame as a metadata table."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: plain(value) for name, value in row.items()}) for row in rows.iter_rows(named=True)]
    )


def plain(value: object) -> str | int | float | bool:
    """A value as metadata can hold it: null is an empty text, what JSON does not know becomes text."""
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) else str(value)
