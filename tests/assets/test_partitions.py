"""Partition keys, and the mapping of a data set to its splits: exact in this process, safe on Dagster's side."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._serdes import deserialize_value, serialize_value

from fastdup_dagster.assets.partitions import DATASETS, SPLITS, SplitsOfDataset, add_partitions
from fastdup_dagster.datasets import DatasetsError, parse_key, partition_key


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        add_partitions(made, "cats", ["train", "test"])
        add_partitions(made, "dogs", ["train"])
        add_partitions(made, "cats2", ["all"])
        yield made


def test_a_data_set_depends_on_its_own_splits_alone(instance):
    with partition_loading_context(dynamic_partitions_store=instance):
        found = SplitsOfDataset().get_upstream_mapped_partitions_result_for_partitions(
            DATASETS.empty_subset().with_partition_keys(["cats"]), DATASETS, SPLITS
        )
    assert set(found.partitions_subset.get_partition_keys()) == {"cats/train", "cats/test"}
    assert not found.required_but_nonexistent_partition_keys


def test_a_split_concerns_its_own_data_set_alone(instance):
    with partition_loading_context(dynamic_partitions_store=instance):
        found = SplitsOfDataset().get_downstream_partitions_for_partitions(
            SPLITS.empty_subset().with_partition_keys(["cats2/all"]), SPLITS, DATASETS
        )
    assert set(found.get_partition_keys()) == {"cats2"}


def test_the_web_server_and_the_daemon_take_it_for_all_partitions():
    """They know built-in mappings alone; for any other they refuse a backfill of split_leakage."""
    there = deserialize_value(serialize_value(SplitsOfDataset()))
    assert type(there) is dg.AllPartitionMapping


def test_what_dagster_serves_holds_the_mapping():
    from dagster._core.remote_representation.external_data import RepositorySnap

    from fastdup_dagster.definitions import defs

    snap = RepositorySnap.from_def(defs.get_repository_def())
    node = next(node for node in snap.asset_nodes if node.asset_key == dg.AssetKey("split_leakage"))
    tables = [edge for edge in node.parent_edges if len(edge.parent_asset_key.path) == 1]
    assert {type(edge.partition_mapping).__name__ for edge in tables} == {"AllPartitionMapping"}


@pytest.mark.parametrize(
    "name", ["", "a/b", "a|b", "c[d]", "a,b", "*", "..", ".hidden", "-x", "_leaks", "ä", "x\n", "a" * 101]
)
def test_a_name_that_cannot_be_part_of_a_key_is_refused(name):
    with pytest.raises(DatasetsError):
        partition_key("cats", name)
    with pytest.raises(DatasetsError):
        partition_key(name, "train")


def test_keys_are_made_and_read_back():
    assert parse_key(partition_key("cats-2.1_x", "train")) == ("cats-2.1_x", "train")
    with pytest.raises(DatasetsError, match="expected <dataset>/<split>"):
        parse_key("cats")
