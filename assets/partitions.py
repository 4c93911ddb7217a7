"""How the assets are cut: a partition per split, `<dataset>/<split>`; split_leakage has one per data set.

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.mapping import UpstreamPartitionsResult
from dagster._core.definitions.partitions.subset import PartitionsSubset
from dagster._core.instance import DynamicPartitionsStore

from fastdup_dagster.datasets import check_name, parse_key, partition_key

SPLITS = dg.DynamicPartitionsDefinition(name="split")
DATASETS = dg.DynamicPartitionsDefinition(name="dataset")


def add_partitions(instance: dg.DagsterInstance, dataset: str, splits: list[str]) -> None:
    """Makes the partitions of a data set known to the instance; those that are there already stay.

    Raises:
        DatasetsError: if a name cannot be part of a partition key.
    """
    keys = [partition_key(dataset, split) for split in splits]
    instance.add_dynamic_partitions(_name(SPLITS), keys)
    instance.add_dynamic_partitions(_name(DATASETS), [check_name("data set", dataset)])


def _name(partitions: dg.DynamicPartitionsDefinition) -> str:
    if partitions.name is None:
        raise ValueError("a dynamic partitions definition without a name")
    return partitions.name


class SplitsOfDataset(dg.AllPartitionMapping):
    """A data set's partition depends on all splits of that data set, and on no other's.

    Dagster's web server and daemon do not import this code; of a mapping that is not built in they keep
    nothing, assume equal keys on both sides and refuse a backfill from the UI. So it passes there for what it
    refines, `AllPartitionMapping`: they see every split as upstream, which is coarser but safe, while runs, the
    command line and conditions evaluated in the code server see exactly the splits. The serializer goes by the
    name of the class, hence the assignment below; tests/assets/test_partitions.py holds all of this.
    """

    def get_upstream_mapped_partitions_result_for_partitions(
        self,
        downstream_partitions_subset: PartitionsSubset | None,
        downstream_partitions_def: dg.PartitionsDefinition | None,
        upstream_partitions_def: dg.PartitionsDefinition,
        current_time: datetime | None = None,
        dynamic_partitions_store: DynamicPartitionsStore | None = None,
    ) -> UpstreamPartitionsResult:
        """The splits of the data sets in the given subset."""
        none = upstream_partitions_def.empty_subset()
        if downstream_partitions_subset is None:
            return UpstreamPartitionsResult(partitions_subset=none, required_but_nonexistent_subset=none)
        with partition_loading_context(current_time, dynamic_partitions_store):
            wanted = set(downstream_partitions_subset.get_partition_keys())
            keys = [key for key in upstream_partitions_def.get_partition_keys() if _dataset(key) in wanted]
        return UpstreamPartitionsResult(
            partitions_subset=none.with_partition_keys(keys), required_but_nonexistent_subset=none
        )

    def get_downstream_partitions_for_partitions(
        self,
        upstream_partitions_subset: PartitionsSubset,
        upstream_partitions_def: dg.PartitionsDefinition,
        downstream_partitions_def: dg.PartitionsDefinition,
        current_time: datetime | None = None,
        dynamic_partitions_store: DynamicPartitionsStore | None = None,
    ) -> PartitionsSubset:
        """The data sets of the given splits."""
        with partition_loading_context(current_time, dynamic_partitions_store):
            known = set(downstream_partitions_def.get_partition_keys())
            named = {_dataset(key) for key in upstream_partitions_subset.get_partition_keys()}
        return downstream_partitions_def.empty_subset().with_partition_keys(sorted(known & named))

    @property
    def description(self) -> str:
        """What the UI says about it."""
        return "A data set depends on all of its own splits."


SplitsOfDataset.__name__ = dg.AllPartitionMapping.__name__


def _dataset(key: str) -> str:
    return parse_key(key)[0]
