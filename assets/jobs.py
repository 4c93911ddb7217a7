"""What is launched by name: everything of one split, and everything across the splits of a data set."""

from __future__ import annotations

import dagster as dg

# What every split has; `detections` only where a detector is asked for.
SPLIT_ASSETS = (
    "image_manifest",
    "embeddings",
    "img_stats",
    "knn_graph",
    "similarity",
    "outliers",
    "components",
    "galleries",
)
_LISTED = ("detections", "image_manifest")
# All that can be made of one.
WITH_CAPTIONS = ("detections", *SPLIT_ASSETS, "captions")

list_split = dg.define_asset_job(
    "list_split",
    selection=dg.AssetSelection.assets(*_LISTED),
    description="Lists one split, finds boxes if a detector is asked for; what is made from it follows if it changed.",
)

analyse_split = dg.define_asset_job(
    "analyse_split",
    selection=dg.AssetSelection.assets(*_LISTED, *SPLIT_ASSETS),
    description="Lists, reads and analyses one split, and writes its pages.",
)

analyse_and_caption = dg.define_asset_job(
    "analyse_and_caption",
    selection=dg.AssetSelection.assets(*WITH_CAPTIONS),
    description="The same, and captions its images.",
)

analyse_dataset = dg.define_asset_job(
    "analyse_dataset",
    selection=dg.AssetSelection.assets("split_leakage"),
    description="Compares the published splits of one data set.",
)

caption_split = dg.define_asset_job(
    "caption_split",
    selection=dg.AssetSelection.assets("captions"),
    description="Captions the images of one split once it is listed; no part of an analysis, which it may outlast.",
)
