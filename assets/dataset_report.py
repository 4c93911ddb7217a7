"""The report of a data set, written by whatever changes what it says: a split's pages, or the comparison of the splits.

The command line writes it itself, once for all that it ran.
"""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from fastdup_dagster.assets.check_history import latest_outcomes
from fastdup_dagster.assets.jobs import WITH_CAPTIONS
from fastdup_dagster.datasets import partition_key
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.pages import PagesResource
from fastdup_dagster.settings import is_detector
from fastdup_dagster.stages.dataset_report import dataset_report, find_split, has_captions
from fastdup_dagster.stages.report import DatasetReport

_PATIENCE = 600.0


class ReportConfig(dg.Config):
    """What may be asked of one run."""

    report: bool = Field(True, description="write the report of the data set, too")


def publish_dataset_report(
    instance: dg.DagsterInstance, datasets: DatasetsResource, pages: PagesResource, dataset: str
) -> str:
    """Writes the report of a data set from what is published and what its checks said last; returns where it is.

    One at a time: whoever comes last has seen what the others published.
    """
    with pages.store.of(dataset).lock("report", dataset, patience=_PATIENCE):
        return pages.publish_report(dataset, published_report(instance, datasets, pages, dataset))


def published_report(
    instance: dg.DagsterInstance, datasets: DatasetsResource, pages: PagesResource, dataset: str
) -> DatasetReport:
    """What the report of a data set says by what is published, and by the last results of its checks."""
    store, splits = pages.store.of(dataset), sorted(datasets.entry(dataset).splits)
    keys = {split: partition_key(dataset, split) for split in splits}
    found = {split: find_split(store, key) for split, key in keys.items()}
    checked = [t for t in WITH_CAPTIONS if t != "detections" or is_detector(datasets.settings(dataset).bounding_box)]
    checks = [check for key in keys.values() for check in latest_outcomes(instance, key, checked)]
    stopped = {check.partition for check in checks if check.outcome == "failed"}
    models = [
        f.tables.embeddings["model"].drop_nulls()
        for f in found.values()
        if f.tables and f.tables.embeddings is not None
    ]
    listed = {split: _notes(instance, "image_manifest", key) for split, key in keys.items()}
    compared = _notes(instance, "split_leakage", dataset)
    return dataset_report(
        store,
        dataset,
        {split: f.tables for split, f in found.items()},
        datasets.settings(dataset),
        model=", ".join(dict.fromkeys(model[0] for model in models if len(model))) or "none",
        checks=[*checks, *latest_outcomes(instance, dataset, ["split_leakage"])],
        paged=[split for split, key in keys.items() if store.exists("galleries", key)],
        captioned=[split for split, key in keys.items() if has_captions(store, key)],
        notes=[
            f"{who}: {said}"
            for who, said in ({keys[s]: n for s, n in listed.items()} | {dataset: compared}).items()
            if said
        ],
        why={split: f.why for split, f in found.items() if f.why and keys[split] not in stopped},
    )


def _notes(instance: dg.DagsterInstance, table: str, partition: str) -> str:
    """The notes of the last materialisation of a partition."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(table), asset_partitions=[partition])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        made = record.asset_materialization
        return str(made.metadata["notes"].value) if made and "notes" in made.metadata else ""
    return ""
