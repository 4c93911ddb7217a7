"""The detector that finds the boxes of a split: observed, so that another one makes what it found stale."""

import dagster as dg

from fastdup_dagster.assets.observed import detector_of, versions_of
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.resources.datasets import DatasetsResource


@dg.observable_source_asset(
    partitions_def=SPLITS,
    group_name="sources",
    metadata={"asked for by": "bounding_box: face, ocr, yolov5s, or the path of a YOLOv5 in ONNX"},
    tags={"dagster/kind/onnx": ""},
)
def detector_model(context: dg.AssetExecutionContext, datasets: DatasetsResource) -> dg.DataVersionsByPartition:
    """The detector that each split's settings name, by the hash of its model; a split without one has no version."""
    return versions_of(context, SPLITS, "detector", lambda key: detector_of(datasets.settings(key)))
