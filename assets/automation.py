"""When a partition is made again: when what it is made from has other content, not whenever something ran above it.

https://docs.dagster.io/guides/automate/declarative-automation
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from fastdup_dagster.assets.observed import SOURCES
from fastdup_dagster.assets.provenance import Provenance

SENSOR = "lineage_aware_reruns"
# A listing is launched by whoever registers the partition, captions by who wants them; both are kept up to date then.
FIRST_BY_HAND = ("image_manifest", "detections", "captions")
_IF = dg.AutomationCondition
# Not `all_deps_blocking_checks_passed`: Dagster counts a check as passed only if it came after the materialisation, and
# here a gate comes before it. What is published has passed; a check that failed since then is of what was not.
# A check of quality may have failed as a warning, which closes nothing: if it blocked, its step has failed.
_GATE_CLOSED = _IF.any_checks_match(_IF.check_failed(), blocking_only=True) | _IF.execution_failed()
# What need not be there: a source that was never observed, and boxes where nobody asks for a detector.
_OPTIONAL = dg.AssetSelection.assets(*SOURCES, "detections")


class OutOfDate(dg.AutomationCondition[dg.AssetKey]):
    """Whether a partition was never made, or by other code or from other content than there is now.

    The other conditions compare two looks. A look takes its time: what is made in the middle of one has ended for some
    of them and not yet happened for others, and would be asked for twice. The event log is asked here, last of all, and
    only about what is otherwise due.
    """

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """The partitions of the candidates that are out of date."""
        graph, key = context.asset_graph_view, context.key
        node, events = context.asset_graph.get(key), Provenance(graph.instance)
        found = set()
        for partition in context.candidate_subset.expensively_compute_partition_keys():
            one = context.candidate_subset.compute_intersection_with_partition_keys({partition})
            parents = {
                parent: graph.compute_parent_subset(parent, one).expensively_compute_partition_keys()
                for parent in node.parent_keys
            }
            if events.is_out_of_date(key, partition, node.code_version, parents):
                found.add(partition)
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys(found))


def lineage_aware(first: bool = True) -> dg.AutomationCondition[dg.AssetKey]:
    """Requests a partition when the data version of an input changed, its own code did, or it is missing.

    It waits until everything above is there and has ended, and while a gate above is closed. A rerun that leaves
    content as it was starts nothing. A source that was never observed holds nothing up. What was made from what there
    is now is not made again, however its events lie between two looks.

    Args:
        first: also request a partition that was never made; without it, none that is missing.
    """
    moved = _IF.any_deps_match(_IF.data_version_changed() | _IF.will_be_requested())
    due: Any = moved | _IF.code_version_changed()
    due = _IF.newly_missing() | due if first else due & ~_IF.missing()
    return (
        due.since_last_handled()
        & ~_IF.any_deps_missing().ignore(_OPTIONAL)
        & ~_IF.any_deps_in_progress()
        & ~_IF.in_progress()
        & ~_IF.any_deps_match(_GATE_CLOSED)
        & (_IF.any_deps_match(_IF.will_be_requested()) | OutOfDate())
    ).with_label("lineage_aware")


def rerun_sensor(running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions.

    Args:
        running: from the start; else it waits until somebody turns it on in the UI.
    """
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.all(),
        description="Makes again what is out of date: changed files, settings, models, or code.",
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        # The daemon does not know which splits a data set has: it would take those of all data sets (SplitsOfDataset).
        use_user_code_server=True,
    )
