"""The settings of each split, observed per table: a changed one makes those tables stale that are made with it."""

import dagster as dg

from fastdup_dagster.assets.observed import partitions_of, settings_key, settings_versions
from fastdup_dagster.datasets import DatasetsError
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
        versions = {}
        for partition in partitions.get_partition_keys(dynamic_partitions_store=context.instance):
            try:
                versions[partition] = settings_versions(partition, datasets)[key]
            except DatasetsError as error:
                context.log.warning(f"{partition}: its settings cannot be observed: {error}")
        return dg.DataVersionsByPartition(versions)

    return observed


settings = [_observed_settings(table) for table in READ_SETTINGS]
