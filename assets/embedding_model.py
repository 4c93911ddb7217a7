"""The model that the embeddings are made with: observed, so that another model makes them stale."""

import dagster as dg

from fastdup_dagster.assets.observed import versions_of
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.model import ModelResource


@dg.observable_source_asset(
    partitions_def=SPLITS,
    group_name="sources",
    description="The ONNX model that each split's settings name; its data version is `name@sha256`.",
    metadata={"bundled": "EfficientNet-Lite0, int8, Apache-2.0"},
    tags={"dagster/kind/onnx": ""},
)
def embedding_model(
    context: dg.AssetExecutionContext, datasets: DatasetsResource, model: ModelResource
) -> dg.DataVersionsByPartition:
    """The ONNX model that each split's settings name; its data version is `name@sha256`."""
    return versions_of(context, SPLITS, "model", lambda key: model.load(datasets.settings(key)).id)
