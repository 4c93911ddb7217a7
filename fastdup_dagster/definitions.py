"""The code location that Dagster loads: assets, checks, jobs and the resources they run with."""

from __future__ import annotations

import os
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
    detector_model,
    embedding_model,
    features,
    galleries,
    image_manifest,
    jobs,
    knn_graph,
    outliers,
    schedules,
    sensors,
    settings,
    similarity,
    split_leakage,
)
from fastdup_dagster.assets.automation import rerun_sensor  # noqa: E402
from fastdup_dagster.assets.policies import with_policies  # noqa: E402
from fastdup_dagster.datasets import dataset_names  # noqa: E402
from fastdup_dagster.resources.captioner import CaptionerResource  # noqa: E402
from fastdup_dagster.resources.datasets import DatasetsResource  # noqa: E402
from fastdup_dagster.resources.embedding_backend import EmbeddingBackendResource  # noqa: E402
from fastdup_dagster.resources.executors import chosen_executor  # noqa: E402
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource  # noqa: E402
from fastdup_dagster.resources.io_manager import ParquetIOManager  # noqa: E402
from fastdup_dagster.resources.model import ModelResource  # noqa: E402
from fastdup_dagster.resources.pages import PagesResource  # noqa: E402
from fastdup_dagster.resources.progress import LogProgress, Progress  # noqa: E402
from fastdup_dagster.resources.store import StoreResource  # noqa: E402
from fastdup_dagster.variables import VariableError  # noqa: E402

AUTOMATIC = "FASTDUP_AUTOMATIC"
ASSET_MODULES = (
    embedding_model,
    caption_model,
    detector_model,
    settings,
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
    automatic: bool | None = None,
    embedding_backend: EmbeddingBackendResource | None = None,
) -> dg.Definitions:
    """The same graph with the resources of one's choice, and the executor that FASTDUP_EXECUTOR names.

    Args:
        datasets: which datasets.yaml, and what overrides its settings in this process.
        progress: what long steps report to; by default the run's log.
        loggers: loggers that a run may choose by name.
        automatic: whether the sensor of lineage-aware reruns is on from the start; by default what FASTDUP_AUTOMATIC
            says (1 for on), else it is on where the sensors of uploads are and launch listings. One that is off is
            turned on in the UI.
        embedding_backend: who reads and embeds images; by default what FASTDUP_BACKEND and FASTDUP_RAY_… say.
    """
    datasets = datasets or DatasetsResource()
    store = StoreResource(datasets=datasets)
    resources: dict[str, Any] = {
        "datasets": datasets,
        "store": store,
        "io_manager": ParquetIOManager(store=store),
        "model": ModelResource(),
        "embedding_backend": embedding_backend or EmbeddingBackendResource.from_environment(),
        "captioner": CaptionerResource(),
        "gx": GreatExpectationsResource(),
        "pages": PagesResource(store=store),
        "progress": progress or LogProgress(),
    }
    refresh = schedules.refresh_job(refresh_all)
    return dg.Definitions(
        assets=with_policies(dg.load_assets_from_modules(ASSET_MODULES)),
        jobs=[
            jobs.list_split,
            jobs.analyse_split,
            jobs.analyse_and_caption,
            jobs.analyse_dataset,
            jobs.caption_split,
            refresh,
        ],
        sensors=[rerun_sensor(_is_automatic() if automatic is None else automatic), *sensors.upload_sensors()],
        schedules=[schedules.nightly(refresh)],
        resources=resources,
        executor=chosen_executor(),
        loggers=loggers or {},
    )


def refresh_all(instance: dg.DagsterInstance) -> list[str]:
    """Makes again what is out of date, of all registered data sets; returns the partitions that failed."""
    from fastdup_dagster.command_line.display import PlainDisplay  # here, because the command line imports this module
    from fastdup_dagster.command_line.refresh import Refresh
    from fastdup_dagster.command_line.selection import choose

    if not dataset_names():
        return []
    done = Refresh(instance, PlainDisplay(dg.get_dagster_logger().info), {}).run(choose((), ()))
    return sorted({run.partition for run in done.runs if not run.success})


def _is_automatic() -> bool:
    """What FASTDUP_AUTOMATIC says; without it, whether sensors run and launch listings, which somebody must carry on.

    Raises:
        VariableError: if that is neither 0 nor 1.
    """
    said = os.environ.get(AUTOMATIC) or ("1" if sensors.running() and sensors.follows_by_itself() else "0")
    if said not in ("0", "1"):
        raise VariableError(f"{AUTOMATIC}={said!r}: write 1 to turn the sensor on from the start, or 0")
    return said == "1"


defs = build_definitions()
