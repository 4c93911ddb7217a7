"""The code location that Dagster loads: assets, checks, jobs and the resources they run with."""

from __future__ import annotations

import warnings
from typing import Any

import dagster as dg

# Partitioned checks and partition mappings are marked preview or beta in Dagster 1.13; tests pin what we use of them.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from fastdup_dagster.assets import (  # noqa: E402
    caption_model,
    captions,
    components,
    embedding_model,
    features,
    galleries,
    image_manifest,
    jobs,
    knn_graph,
    outliers,
    similarity,
    split_leakage,
)
from fastdup_dagster.resources.captioner import CaptionerResource  # noqa: E402
from fastdup_dagster.resources.datasets import DatasetsResource  # noqa: E402
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource  # noqa: E402
from fastdup_dagster.resources.io_manager import ParquetIOManager  # noqa: E402
from fastdup_dagster.resources.model import ModelResource  # noqa: E402
from fastdup_dagster.resources.pages import PagesResource  # noqa: E402
from fastdup_dagster.resources.progress import LogProgress, Progress  # noqa: E402
from fastdup_dagster.resources.store import StoreResource  # noqa: E402

ASSET_MODULES = (
    embedding_model,
    caption_model,
    image_manifest,
    features,
    knn_graph,
    similarity,
    outliers,
    components,
    captions,
    galleries,
    split_leakage,
)


def build_definitions(
    datasets: DatasetsResource | None = None,
    progress: Progress | None = None,
    loggers: dict[str, dg.LoggerDefinition] | None = None,
) -> dg.Definitions:
    """The same graph with the resources of one's choice.

    Args:
        datasets: which datasets.yaml, and what overrides its settings in this process.
        progress: what long steps report to; by default the run's log.
        loggers: loggers that a run may choose by name.
    """
    datasets = datasets or DatasetsResource()
    store = StoreResource(datasets=datasets)
    resources: dict[str, Any] = {
        "datasets": datasets,
        "store": store,
        "io_manager": ParquetIOManager(store=store),
        "model": ModelResource(),
        "captioner": CaptionerResource(),
        "gx": GreatExpectationsResource(),
        "pages": PagesResource(store=store),
        "progress": progress or LogProgress(),
    }
    return dg.Definitions(
        assets=dg.load_assets_from_modules(ASSET_MODULES),
        jobs=[jobs.analyse_split, jobs.analyse_dataset, jobs.caption_split],
        resources=resources,
        executor=dg.in_process_executor,
        loggers=loggers or {},
    )


defs = build_definitions()
