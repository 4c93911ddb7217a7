"""Materialises the splits of a data set in this process and gathers what came out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from fastdup_dagster.assets.check_history import outcome_of
from fastdup_dagster.assets.jobs import WITH_CAPTIONS
from fastdup_dagster.assets.observed import current_versions, observe, settings_versions
from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.command_line.display import Display, display_logger
from fastdup_dagster.command_line.runs import close_dead_runs, owner_tags
from fastdup_dagster.datasets import DatasetEntry, partition_key
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.home import ensure_home
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.resources.pages import REPORT, PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.sources.locations import is_remote
from fastdup_dagster.stages.dataset_report import COUNTED_IMAGES, dataset_report, read_split
from fastdup_dagster.stages.published import MixedTablesError
from fastdup_dagster.stages.report import CheckOutcome, DatasetReport, SplitTables
from fastdup_dagster.storage import TableStore, open_store


@dataclass
class PartitionRun:
    """What one partition's run left behind."""

    partition: str
    success: bool
    run_id: str
    seconds: float
    checks: list[CheckOutcome]
    errors: list[str]
    features: dict[str, Any] = field(default_factory=dict)
    captions: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    published: frozenset[str] = frozenset()


@dataclass
class Analysis:
    """What a data set's runs left behind.

    Attributes:
        name: of the data set.
        splits: the run of each split.
        leakage: the run that compared them; None if there was nothing to compare.
        report: what report.html is made from.
        page: where report.html is.
        link: a signed URL of it, if it is in a bucket.
        pages: where the pages of each split are.
    """

    name: str
    splits: dict[str, PartitionRun]
    leakage: PartitionRun | None
    report: DatasetReport
    page: str
    link: str | None
    pages: dict[str, str]

    @property
    def runs(self) -> list[PartitionRun]:
        """All runs, that of the leakage last."""
        return [*self.splits.values(), *([self.leakage] if self.leakage else [])]

    @property
    def success(self) -> bool:
        """Whether every gate is open and nothing else failed."""
        return all(run.success for run in self.runs)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of this home, with runs of dead processes closed."""
    ensure_home()
    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
        yield instance


def analyse(
    instance: dg.DagsterInstance,
    name: str,
    entry: DatasetEntry,
    splits: Sequence[str],
    display: Display,
    overrides: Mapping[str, Any],
    recompute: bool = False,
    verbose: bool = False,
    notes: Sequence[str] = (),
    captions: bool = False,
) -> Analysis:
    """Runs the splits one after another, then compares them, then writes report.html.

    A split that a gate stops does not keep the others from running.

    Args:
        instance: where the runs are recorded.
        name: of the data set, as registered.
        entry: its entry.
        splits: which of its splits to run.
        display: shows progress.
        overrides: settings of this process alone.
        recompute: reuse no published row.
        verbose: Dagster's own log, too.
        notes: of the plan, for the report.
        captions: caption the images, too.
    """
    datasets = DatasetsResource(overrides=dict(overrides))
    loggers = {"live": display_logger(display), "console": dg.colored_console_logger}
    defs = build_definitions(datasets, display, loggers)
    add_partitions(instance, name, list(entry.splits))
    observe_data_set(instance, name, list(entry.splits), datasets)
    anew = {"config": {"recompute": recompute}}
    later = {"config": {"report": False}}  # one for all runs, below
    reading = {
        "ops": {"image_manifest": anew, "features": anew, "galleries": later} | ({"captions": anew} if captions else {})
    }
    tables = WITH_CAPTIONS if captions else None
    runs = {}
    for split in splits:
        key = partition_key(name, split)
        runs[split] = run_partition(defs, instance, key, log_config(key, verbose) | reading, tables)
    leakage = None
    if len(entry.splits) > 1:
        leakage = run_partition(defs, instance, name, log_config(name, verbose) | {"ops": {"split_leakage": later}})
    report = _report(name, entry, datasets, runs, leakage, notes)
    pages = PagesResource(store=StoreResource(datasets=datasets))
    return Analysis(
        name=name,
        splits=runs,
        leakage=leakage,
        report=report,
        page=pages.publish_report(name, report),
        link=pages.link(name, REPORT).url if is_remote(str(entry.store_root())) else None,
        pages={split: pages.place(partition_key(name, split)) for split in report.galleries},
    )


def log_config(partition: str, verbose: bool) -> dict[str, Any]:
    """Run configuration that chooses the loggers: the live display, and Dagster's own if asked for."""
    loggers: dict[str, Any] = {"live": {"config": {"partition": partition}}}
    return {"loggers": loggers | ({"console": {"config": {"log_level": "INFO"}}} if verbose else {})}


def observe_data_set(
    instance: dg.DagsterInstance, name: str, splits: Sequence[str], datasets: DatasetsResource
) -> None:
    """Records the model and the settings of a data set, so that a later change of them makes stale what used them."""
    model = ModelResource()
    for key in (name, *(partition_key(name, split) for split in splits)):
        try:
            versions = current_versions(key, datasets, model)
        except (OSError, ValueError):  # the step that needs the model says so
            versions = settings_versions(key, datasets)
        observe(instance, key, versions)


def run_partition(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    partition: str,
    config: Mapping[str, Any],
    tables: Sequence[str] | None = None,
) -> PartitionRun:
    """Materialises a split or a data set in this process.

    Args:
        defs: the code location.
        instance: where the run is recorded.
        partition: key of the split, or name of the data set.
        config: run configuration.
        tables: which of its tables; by default all that an analysis makes.

    Raises:
        KeyboardInterrupt: if a signal ended it.
    """
    begun = time.monotonic()
    of_split = "analyse_and_caption" if "captions" in (tables or ()) else "analyse_split"
    job = defs.resolve_job_def(of_split if "/" in partition else "analyse_dataset")
    result = job.execute_in_process(
        run_config=dict(config),
        instance=instance,
        partition_key=partition,
        asset_selection=None if tables is None else [dg.AssetKey(table) for table in tables],
        raise_on_error=False,
        tags=owner_tags(),
    )
    if any(_interrupted(event.step_failure_data.error) for event in result.get_step_failure_events()):
        raise KeyboardInterrupt
    checks = [outcome_of(evaluation, partition) for evaluation in result.get_asset_check_evaluations()]
    gated = any(check.outcome == "failed" for check in checks)
    metadata = _metadata(result)
    return PartitionRun(
        partition=partition,
        success=result.success,
        run_id=result.run_id,
        seconds=time.monotonic() - begun,
        checks=checks,
        errors=[] if gated else _errors(result),
        features={name: value for name, value in metadata.get("embeddings", {}).items() if name in _COUNTED},
        captions={name: value for name, value in metadata.get("captions", {}).items() if name in _CAPTIONED},
        notes=str(metadata.get("image_manifest", metadata.get("split_leakage", {})).get("notes", "")),
        published=frozenset(metadata),
    )


_COUNTED = ("computed now", "inferred now", "reused", "seconds")
_CAPTIONED = ("captioned now", "reused", "without a caption", "model")


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Plain metadata of what was materialised, by asset."""
    found: dict[str, dict[str, Any]] = {}
    for event in result.get_asset_materialization_events():
        if event.asset_key is not None:
            metadata = event.step_materialization_data.materialization.metadata
            found[event.asset_key.to_user_string()] = {name: value.value for name, value in metadata.items()}
    return found


def _interrupted(error: SerializableErrorInfo | None) -> bool:
    """Whether a step was ended by a signal, which Dagster takes for a failure of the step."""
    names = set()
    while error is not None:
        names.add(error.cls_name)
        error = error.cause
    return bool(names & {"KeyboardInterrupt", "DagsterExecutionInterruptedError"})


def _errors(result: dg.ExecuteInProcessResult) -> list[str]:
    """What steps failed of, in words: the innermost cause of each."""
    found = []
    for event in result.get_step_failure_events():
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        found.append(f"{event.step_key}: {error.message.strip() if error else 'failed'}")
    return found


def _report(
    name: str,
    entry: DatasetEntry,
    datasets: DatasetsResource,
    runs: Mapping[str, PartitionRun],
    leakage: PartitionRun | None,
    notes: Sequence[str],
) -> DatasetReport:
    settings = datasets.settings(name)
    store = open_store(entry.store_root())
    tables = {split: _tables(store, run) for split, run in runs.items()}
    every = [*runs.values(), *([leakage] if leakage else [])]
    return dataset_report(
        store,
        name,
        tables,
        settings,
        model=ModelResource().load(settings).id,
        checks=[check for run in every for check in run.checks],
        paged=[split for split, run in runs.items() if "galleries" in run.published],
        captioned=[split for split, run in runs.items() if "captions" in run.published],
        with_leaks=leakage is not None and leakage.success,
        notes=[*notes, *(f"{run.partition}: {run.notes}" for run in every if run.notes), *_compared(name, entry, runs)],
        errors=[f"{run.partition}: {error}" for run in every for error in run.errors],
    )


def _tables(store: TableStore, run: PartitionRun) -> SplitTables | None:
    if not run.published >= COUNTED_IMAGES:
        return None
    try:
        return read_split(store, run.partition, run.published)
    except MixedTablesError as error:  # another run published meanwhile
        run.success = False
        run.errors.append(str(error))
        return None


def _compared(name: str, entry: DatasetEntry, runs: Mapping[str, PartitionRun]) -> list[str]:
    """Leaks are the data set's, whichever splits are run: said where they are not all."""
    others = [split for split in entry.splits if split not in runs]
    if not others:
        return []
    return [
        f"Leaks are looked for among all splits of {name}, as they were published last: also {', '.join(others)}, "
        "not part of this run"
    ]
