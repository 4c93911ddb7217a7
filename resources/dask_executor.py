"""The Dask executor of dagster-dask, for runs of a dynamic partition.

Dask looks into what it is given for a task. In such a run it meets a record of Dagster's that does not let itself be
looked into, and the run fails: so with dagster-dask 0.29.27 and dask 2024.8 and 2026.8. It is left out of what goes to
the workers; a step takes its partition from the run's tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster_dask import dask_executor as of_library
from dagster_dask.executor import DaskExecutor


class PartitionedDaskExecutor(DaskExecutor):
    """Sends runs to Dask without the record of their partition."""

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: Any) -> Iterator[Any]:
        """Runs the steps of a plan on the cluster, and gives their events."""
        plain = copy(plan_context)
        run = plan_context.dagster_run._replace(partitions_subset=None)
        plain._plan_data = plan_context.plan_data._replace(dagster_run=run)
        yield from super().execute(plain, execution_plan)


def _made(context: dg.InitExecutorContext) -> PartitionedDaskExecutor:
    cluster: Any = context.executor_config["cluster"]
    [(kind, options)] = cluster.items()
    return PartitionedDaskExecutor(kind, options)  # type: ignore[no-untyped-call]


dask_executor = dg.ExecutorDefinition(
    name="dask",
    config_schema=of_library.config_schema,  # type: ignore[arg-type]
    requirements=dg.multiple_process_executor_requirements(),
    executor_creation_fn=_made,
)
