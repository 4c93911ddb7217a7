"""What the checks of a partition said last, as the reports show it."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import polars as pl
from dagster import AssetCheckEvaluation
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.gates import DATA_DOCS
from fastdup_dagster.stages.report import CheckOutcome

_ENDED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def outcome_of(evaluation: dg.AssetCheckEvaluation, partition: str) -> CheckOutcome:
    """A check's result as the report knows it: the inverse of `gates.check_result`."""
    metadata = evaluation.metadata
    table = metadata.get("bad rows")
    rows = [dict(record.data) for record in table.records] if isinstance(table, dg.TableMetadataValue) else None
    observed, limit, docs = (
        metadata[name].value if name in metadata else None for name in ("observed", "limit", DATA_DOCS)
    )
    asset = evaluation.asset_key.to_user_string()
    return CheckOutcome(
        asset=asset,
        check=evaluation.check_name,
        partition=partition,
        passed=evaluation.passed,
        blocking=evaluation.severity is dg.AssetCheckSeverity.ERROR,
        observed=observed,
        limit=limit,
        data_docs=str(docs) if docs else None,
        description=CHECKS[asset][evaluation.check_name],
        bad_rows=None if rows is None else pl.DataFrame(rows, infer_schema_length=None),
    )


def latest_outcomes(instance: dg.DagsterInstance, partition: str, tables: Sequence[str]) -> list[CheckOutcome]:
    """The last result of each check of these tables, for one partition; a check that never ended is left out.

    Dagster's public methods know no partition, so the storage is asked; tests/assets/test_dataset_report.py holds it.
    """
    found = []
    for table in tables:
        for check in CHECKS[table]:
            records = instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey(table), check),
                limit=1,
                status=_ENDED,
                partition_filter=PartitionKeyFilter(key=partition),
            )
            event = records[0].event.dagster_event if records and records[0].event else None
            evaluation = event.event_specific_data if event else None
            if isinstance(evaluation, AssetCheckEvaluation):
                found.append(outcome_of(evaluation, partition))
    return found
