"""What is out of date and why, by what the event log says each table was made from.

Dagster's own verdict (`Unsynced` in the UI) comes from a private class, leaves out inputs of 100 partitions and more,
and says no more than that an input changed. This one compares the same records: the code version of a
materialisation, and what each of its inputs was by then and is now. tests/command_line/test_refresh.py holds both
against each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import dagster as dg
import polars as pl

from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.observed import (
    CAPTION_MODEL,
    DATA_VERSION,
    DETECTOR_MODEL,
    EMBEDDING_MODEL,
    Versions,
    caption_version,
    current_versions,
    detector_of,
    observed_version,
    partitions_of,
    settings_versions,
)
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.assets.provenance import Provenance, made_by, made_from, tags_of
from fastdup_dagster.datasets import partition_key
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.model import ModelResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.settings import is_detector
from fastdup_dagster.stages.detections import Published
from fastdup_dagster.stages.features import FEATURE_TABLES
from fastdup_dagster.stages.image_manifest import listing_changes, manifest_version
from fastdup_dagster.stages.read_settings import changed_settings

Problems = dict[dg.AssetKey, str]

_NEVER_MADE = "never made"

# No part of an analysis: kept up to date once somebody made them, never made for the first time.
_ON_DEMAND = ("captions",)


@dataclass(frozen=True)
class Stale:
    """A table of a partition that is out of date, or will be if one above it changes.

    Attributes:
        partition: its key.
        table: name of the table.
        why: the reasons, in words.
        certain: whether it is made again in any case.
    """

    partition: str
    table: str
    why: str
    certain: bool = True


class Lineage:
    """Compares what the tables of a home were made from with what there is now.

    Args:
        instance: holds the events.
        defs: the code location, for dependencies and code versions.
        datasets: which datasets.yaml.
    """

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions, datasets: DatasetsResource) -> None:
        self._instance, self._datasets, self._events = instance, datasets, Provenance(instance)
        self._model, self._store = ModelResource(), StoreResource(datasets=datasets)
        specs = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
        self._code = {key.path[-1]: spec.code_version for key, spec in specs.items() if _is_table(key)}
        self._parents = {table: sorted(dep.asset_key for dep in specs[dg.AssetKey(table)].deps) for table in CHECKS}
        above = {table: [key.path[-1] for key in keys if _is_table(key)] for table, keys in self._parents.items()}
        self._order = list(TopologicalSorter(above).static_order())
        self._above = {table: _ancestors(table, above) for table in self._order}

    def stale(self, partition: str, pending: Collection[Stale] = ()) -> list[Stale]:
        """The tables of a partition that are out of date, each after those that it is made from.

        Args:
            partition: a split, or a data set.
            pending: what is out of date in the splits of that data set.

        Raises:
            DatasetsError: if datasets.yaml does not know the data set, or is wrong.
        """
        of_split = "/" in partition
        now, problems = self._sources(partition)
        found: list[Stale] = []
        for table in self._tables(partition):
            reasons = self._reasons(table, partition, now, problems)
            if reasons:
                found.append(Stale(partition, table, "; ".join(reasons)))
                continue
            parents = {key.path[-1] for key in self._parents[table] if _is_table(key)}
            moved = [stale for stale in (*found, *pending) if stale.table in parents]
            if moved:
                names = dict.fromkeys(
                    stale.table if of_split else f"{stale.table} of {stale.partition}" for stale in moved
                )
                found.append(Stale(partition, table, f"if {' or '.join(names)} changes", certain=False))
        return found

    def next_batch(self, stale: Sequence[Stale]) -> list[str]:
        """The tables that can be made next in one run: surely out of date, and nothing above them is in doubt.

        Both tables of the decode pass are decided before either is made: images are read once.
        """
        doubtful = {entry.table for entry in stale if not entry.certain}
        if doubtful & set(FEATURE_TABLES):
            doubtful |= set(FEATURE_TABLES)
        return [
            entry.table
            for entry in stale
            if entry.certain and entry.table not in doubtful and not self._above[entry.table] & doubtful
        ]

    def is_missing(self, partition: str, captions: bool = False) -> bool:
        """Whether a table of the partition was never made, or is gone; with `captions`, also that of the captions."""
        tables = [*self._tables(partition), *(_ON_DEMAND if captions and "/" in partition else ())]
        return any(self._absent(table, partition) for table in tables)

    def _tables(self, partition: str) -> list[str]:
        """The tables that the partition should have, each after those that it is made from."""
        return [
            table
            for table in self._order
            if (partitions_of(table) is SPLITS) == ("/" in partition)
            and (table not in _ON_DEMAND or self._events.latest(dg.AssetKey(table), partition))
            and (table != "detections" or self._has_detector(partition))
        ]

    def _has_detector(self, partition: str) -> bool:
        return is_detector(self._datasets.settings(partition).bounding_box)

    def _sources(self, partition: str) -> tuple[Versions, Problems]:
        """What the sources are now, and why a model is not among them if it cannot be told which it is."""
        try:
            now, problems = current_versions(partition, self._datasets, self._model), {}
        except (OSError, ValueError) as error:
            now, problems = settings_versions(partition, self._datasets), {EMBEDDING_MODEL: str(error)}
        if "/" in partition:
            try:
                now |= caption_version(partition, self._datasets)
            except (OSError, TypeError, ValueError) as error:
                problems[CAPTION_MODEL] = str(error)
        return now, problems

    def _reasons(self, table: str, partition: str, now: Versions, problems: Problems) -> list[str]:
        made, absent = self._events.latest(dg.AssetKey(table), partition), self._absent(table, partition)
        if made is None or absent:
            return [absent or _NEVER_MADE]
        found = [] if made_by(made) == self._code[table] else [f"its code: version {self._code[table]}"]
        for parent in self._parents[table]:
            at = made_from(made, parent)
            if _is_table(parent):
                found += self._changed_tables(table, parent, partition, at)
            elif parent in now:
                found += self._changed_source(parent, partition, now[parent], at)
            elif parent in problems:
                found.append(problems[parent])
        if table == "detections" and not found:
            found += self._changed_images(partition)
        if table == "image_manifest":
            found += self._changed_files(partition, tags_of(made).get(DATA_VERSION))
        return found

    def _absent(self, table: str, partition: str) -> str | None:
        if self._events.latest(dg.AssetKey(table), partition) is None:
            return _NEVER_MADE
        return None if self._store.of(partition).exists(table, partition) else "its table is gone"

    def _changed_tables(self, table: str, parent: dg.AssetKey, partition: str, at: int) -> list[str]:
        """The partitions of a table above that have other content than they had by then."""
        same = partitions_of(table) is partitions_of(parent.path[-1])
        keys = [partition] if same else self._splits(partition)
        changed = [key for key in keys if self._events.moved_on(parent, key, at)]
        return [f"{parent.path[-1]} changed" if same else f"{parent.path[-1]} of {key} changed" for key in changed]

    def _splits(self, dataset: str) -> list[str]:
        return [partition_key(dataset, split) for split in self._datasets.entry(dataset).splits]

    def _changed_source(self, source: dg.AssetKey, partition: str, now: str, at: int) -> list[str]:
        before = observed_version(self._instance, source, partition, at)
        if before is None or before == now:
            return []
        if source in (EMBEDDING_MODEL, CAPTION_MODEL, DETECTOR_MODEL):
            return [f"the model: {_short(before)} → {_short(now)}"]
        return [f"settings: {changed_settings(before, now)}"]

    def _changed_files(self, partition: str, recorded: str | None) -> list[str]:
        """How the files differ from the listing; what keeps them from being listed is a reason too.

        Boxes are those that were found: where there are images that no detector has looked at, `detections` says so,
        and the listing is compared once that is made.
        """
        try:
            boxes = self._published_boxes(partition)
            listing = self._datasets.listing(partition, boxes).frame
        except (ImportError, NotImplementedError, OSError, ValueError) as error:
            return [str(error)]
        if (boxes and boxes.unknown) or manifest_version(listing) == recorded:
            return []
        published: pl.DataFrame = self._store.of(partition).read("image_manifest", partition)
        return [f"files: {listing_changes(published, listing)}"]

    def _changed_images(self, partition: str) -> list[str]:
        """How many images the detector has not looked at, or not as they are now."""
        try:
            boxes = self._published_boxes(partition)
            self._datasets.listing(partition, boxes)
        except (ImportError, NotImplementedError, OSError, ValueError) as error:
            return [str(error)]
        return [f"files: {boxes.unknown:,} added, removed or changed"] if boxes and boxes.unknown else []

    def _published_boxes(self, partition: str) -> Published | None:
        """The boxes of a partition with a detector as they were found last; nothing is looked at anew."""
        settings, store = self._datasets.settings(partition), self._store.of(partition)
        detector = detector_of(settings)
        return None if detector is None else Published(settings, store, partition, detector)


def _is_table(key: dg.AssetKey) -> bool:
    return len(key.path) == 1 and key.path[0] in CHECKS


def _ancestors(table: str, above: dict[str, list[str]]) -> set[str]:
    return set(above[table]).union(*(_ancestors(parent, above) for parent in above[table]))


def _short(model: str) -> str:
    """`name@sha256` with twelve digits of the hash."""
    name, at, digest = model.partition("@")
    return f"{name}{at}{digest[:12]}"
