"""The model that the captions are made with: observed, so that another model makes them stale."""

import dagster as dg

from fastdup_dagster.assets.observed import versions_of
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.captioner import CaptionerResource
from fastdup_dagster.resources.datasets import DatasetsResource


@dg.observable_source_asset(
    partitions_def=SPLITS,
    group_name="text",
    description="The captioner that each split's settings name; its data version is `name@sha256`, with its options.",
    metadata={"without a download": "tags of the bundled classifier"},
    tags={"dagster/kind/onnx": ""},
)
def caption_model(
    context: dg.AssetExecutionContext, datasets: DatasetsResource, captioner: CaptionerResource
) -> dg.DataVersionsByPartition:
    """The captioner that each split's settings name; its data version is `name@sha256`, with prompt and options."""
    return versions_of(context, SPLITS, "captioner", lambda key: captioner.id(datasets.settings(key)))
