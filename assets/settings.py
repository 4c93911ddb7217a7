"""The settings of each split, observed per table: a changed one makes those tables stale that are made with it."""

import dagster as dg

from fastdup_dagster.assets.observed import partitions_of, settings_key, settings_versions, versions_of
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.stages.read_settings import READ_SETTINGS


def _observed_settings(table: str) -> dg.SourceAsset:
    key, partitions = settings_key(table), partitions_of(table)

    @dg.observable_source_asset(
        key=key,
        partitions_def=partitions,
        group_name="sources",
        description=f"The settings that {table} is made with; its data version is what they are, as JSON.",
    )
    def observed(context: dg.AssetExecutionContext, datasets: DatasetsResource) -> dg.DataVersionsByPartition:
        return versions_of(context, partitions, "settings", lambda at: settings_versions(at, datasets)[key])

    return observed


settings = [_observed_settings(table) for table in READ_SETTINGS]
