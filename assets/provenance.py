"""What a materialisation was made from, by the event log: its code version, and what each of its inputs was by then."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dagster as dg

from fastdup_dagster.assets.observed import DATA_VERSION, SOURCES, observed_version

_POINTER = "dagster/input_event_pointer/"
_CODE_VERSION = "dagster/code_version"


class Provenance:
    """Reads the materialisations of an instance.

    Args:
        instance: holds the events.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def latest(self, key: dg.AssetKey, partition: str, before: int | None = None) -> dg.EventLogRecord | None:
        """The last materialisation of a partition, or the last one before a storage id; None if there is none."""
        wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition], before_storage_id=before)
        return next(iter(self._instance.fetch_materializations(wanted, limit=1).records), None)

    def moved_on(self, parent: dg.AssetKey, partition: str, at: int) -> bool:
        """Whether a table has other content now than it had at a storage id."""
        latest = self.latest(parent, partition)
        if latest is None or latest.storage_id <= at:
            return False
        before = self.latest(parent, partition, at + 1)
        then, now = (tags_of(record).get(DATA_VERSION) for record in (before, latest))
        return now is None or then != now  # reported by hand, without a version: nobody knows

    def is_out_of_date(
        self, key: dg.AssetKey, partition: str, code_version: str | None, parents: Mapping[dg.AssetKey, Collection[str]]
    ) -> bool:
        """Whether a partition was never made, or by other code or from other content than there is now.

        Args:
            key: of the table.
            partition: its key.
            code_version: of the table now.
            parents: the partitions of each input that it is made from. One that was never observed, or never made, is
                no reason.
        """
        made = self.latest(key, partition)
        if made is None or made_by(made) != code_version:
            return True
        for parent, partitions in parents.items():
            at = made_from(made, parent)
            if parent in SOURCES:
                now = {part: observed_version(self._instance, parent, part) for part in partitions}
                if any(observed_version(self._instance, parent, part, at) != seen for part, seen in now.items()):
                    return True
            elif any(self.moved_on(parent, part, at) for part in partitions):
                return True
        return False


def tags_of(record: dg.EventLogRecord | None) -> dict[str, str]:
    """The tags of a materialisation; none of what is none."""
    materialization = record.asset_materialization if record else None
    return dict(materialization.tags or {}) if materialization else {}


def made_by(record: dg.EventLogRecord) -> str | None:
    """The code version of a materialisation."""
    return tags_of(record).get(_CODE_VERSION)


def made_from(record: dg.EventLogRecord, parent: dg.AssetKey) -> int:
    """Storage id of the event of an input that a materialisation was made from; 0 if there was none."""
    pointer = tags_of(record).get(_POINTER + parent.to_user_string(), "")
    return int(pointer) if pointer.isdigit() else 0
