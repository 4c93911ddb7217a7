"""What tables are made with besides each other: observed, so that a change of a model or a setting makes them stale.

An observation says what a source is now, for one partition. It is recorded when a listing is made, before every run of
the command line, and whenever the sources are observed from the UI or on a schedule.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import dagster as dg

from fastdup_dagster.assets.partitions import DATASETS, SPLITS
from fastdup_dagster.datasets import parse_key
from fastdup_dagster.models.detectors import detector_id
from fastdup_dagster.resources.captioner import CaptionerResource
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.settings import Settings, is_detector
from fastdup_dagster.stages.read_settings import READ_SETTINGS, settings_version

EMBEDDING_MODEL = dg.AssetKey("embedding_model")
CAPTION_MODEL = dg.AssetKey("caption_model")
DETECTOR_MODEL = dg.AssetKey("detector_model")
DATA_VERSION = "dagster/data_version"
_PER_DATASET = ("split_leakage",)

Versions = dict[dg.AssetKey, str]


def settings_key(table: str) -> dg.AssetKey:
    """Key of the settings that a table is made with."""
    return dg.AssetKey(["settings", table])


SOURCES = (EMBEDDING_MODEL, CAPTION_MODEL, DETECTOR_MODEL, *(settings_key(table) for table in READ_SETTINGS))


def versions_of(
    context: dg.AssetExecutionContext,
    partitions: dg.DynamicPartitionsDefinition,
    what: str,
    version: Callable[[str], str | None],
) -> dg.DataVersionsByPartition:
    """What a source is now, per partition; one of which that cannot be told is left out, with a warning.

    Args:
        context: of the observation.
        partitions: of the source.
        what: the source, in words.
        version: of a partition; None where it has no such source.
    """
    found = {}
    for key in partitions.get_partition_keys(dynamic_partitions_store=context.instance):
        try:
            if (seen := version(key)) is not None:
                found[key] = seen
        except (OSError, TypeError, ValueError) as error:
            context.log.warning(f"{key}: its {what} cannot be observed: {error}")
    return dg.DataVersionsByPartition(found)


def partitions_of(table: str) -> dg.DynamicPartitionsDefinition:
    """How a table is cut, and its settings with it."""
    return DATASETS if table in _PER_DATASET else SPLITS


def settings_versions(key: str, datasets: DatasetsResource) -> Versions:
    """The settings of a partition `<dataset>/<split>`, or of a data set, as the tables are made with them now.

    Raises:
        DatasetsError: if datasets.yaml does not know the data set, or is wrong.
    """
    settings, of_split = datasets.settings(key), "/" in key
    more = {} if of_split else {"splits": sorted(datasets.entry(key).splits)}
    tables = [table for table in READ_SETTINGS if (partitions_of(table) is SPLITS) == of_split]
    return {settings_key(table): settings_version(table, settings, **more) for table in tables}


def detector_of(settings: Settings) -> str | None:
    """Id of the detector that finds the boxes; None if there is none.

    Raises:
        ImportError: if its extra is not installed.
        OSError: if its model is not there.
        ValueError: if its model was changed.
    """
    return detector_id(settings) if is_detector(settings.bounding_box) else None


def current_versions(key: str, datasets: DatasetsResource, model: ModelResource) -> Versions:
    """What all sources of a partition are now.

    Raises:
        DatasetsError: if datasets.yaml does not know the data set, or is wrong.
        OSError: if the model's file is not there.
        ValueError: if the model does not fit the settings.
    """
    found = settings_versions(key, datasets)
    if "/" not in key:
        return found
    # Most analyses have no captions: a captioner that is not there is told by who is asked for some.
    with contextlib.suppress(OSError, TypeError, ValueError):
        found |= caption_version(key, datasets)
    settings = datasets.settings(key)
    with contextlib.suppress(ImportError, OSError, ValueError):  # the step that needs it says so
        if (detector := detector_of(settings)) is not None:
            found[DETECTOR_MODEL] = detector
    return found | {EMBEDDING_MODEL: model.load(settings).id}


def caption_version(key: str, datasets: DatasetsResource) -> Versions:
    """What the captioner of a split is now.

    Raises:
        FileNotFoundError: if it is not there, with the command that gets it.
        TypeError: if its name is none.
        ValueError: if it is a file.
    """
    return {CAPTION_MODEL: CaptionerResource().id(datasets.settings(key))}


def observe(instance: dg.DagsterInstance, key: str, versions: Versions) -> None:
    """Records what the sources of a partition are now; what is recorded already is not repeated."""
    for source, version in versions.items():
        if observed_version(instance, source, key) != version:
            observation = dg.AssetObservation(source, partition=key, tags={DATA_VERSION: version})
            instance.report_runless_asset_event(observation)


def observe_for(context: dg.AssetExecutionContext, key: str, datasets: DatasetsResource, model: ModelResource) -> None:
    """Records the sources of a split and of its data set; a model that cannot be opened is for its own step to say."""
    dataset = parse_key(key)[0]
    observe(context.instance, dataset, settings_versions(dataset, datasets))
    try:
        observe(context.instance, key, current_versions(key, datasets, model))
    except (OSError, ValueError) as error:
        context.log.warning(f"{key}: its model cannot be observed: {error}")
        observe(context.instance, key, settings_versions(key, datasets))


def observe_listing(instance: dg.DagsterInstance, key: str, datasets: DatasetsResource) -> None:
    """Records the settings that a split is listed with, for whoever launches a listing.

    Recorded while it runs, they would be a change beside the listing that was made with them: the daemon, which looks
    at the two one after the other, would ask for it a second time.
    """
    table = "image_manifest"
    observe(instance, key, {settings_key(table): settings_version(table, datasets.settings(key))})


def observed_version(instance: dg.DagsterInstance, source: dg.AssetKey, key: str, at: int | None = None) -> str | None:
    """What a source was when it was observed last; None if it never was.

    Args:
        instance: holds the observations.
        source: key of the source.
        key: of the partition.
        at: storage id to look back from, that event included. What was not observed by then is taken for what it was
            when it was observed first.
    """
    wanted = dg.AssetRecordsFilter(source, asset_partitions=[key], before_storage_id=None if at is None else at + 1)
    found = instance.fetch_observations(wanted, limit=1).records
    if at is not None and not found:
        ever = dg.AssetRecordsFilter(source, asset_partitions=[key])
        found = instance.fetch_observations(ever, limit=1, ascending=True).records
    observation = found[0].event_log_entry.asset_observation if found else None
    return observation.tags[DATA_VERSION] if observation else None
