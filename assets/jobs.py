"""What is launched by name: everything of one split, and everything across the splits of a data set."""

from __future__ import annotations

import dagster as dg

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

WITH_CAPTIONS = (*SPLIT_ASSETS, "captions")

list_split = dg.define_asset_job(
    "list_split",
    selection=dg.AssetSelection.assets("image_manifest"),
    description="Lists one split; what is made from it follows if its content changed.",
)

analyse_split = dg.define_asset_job(
    "analyse_split",
    selection=dg.AssetSelection.assets(*SPLIT_ASSETS),
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
