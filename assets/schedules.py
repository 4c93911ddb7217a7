"""What is done every night: sources, models and settings are looked at again, and what is stale is made anew.

https://docs.dagster.io/guides/automate/schedules
"""

import os
from collections.abc import Callable, Sequence

import dagster as dg

from fastdup_dagster.assets.jobs import list_split
from fastdup_dagster.assets.sensors import follows_by_itself, running

CRON = "FASTDUP_NIGHTLY"

Refresh = Callable[[dg.DagsterInstance], Sequence[str]]


def refresh_job(refresh: Refresh) -> dg.JobDefinition:
    """A job that calls a function on the instance, and fails with what it returns."""

    @dg.op(name="refresh_stale", description="Looks at sources, models and settings again, and makes what is stale.")
    def refresh_stale(context: dg.OpExecutionContext) -> None:
        if failed := refresh(context.instance):
            raise dg.Failure(f"not refreshed: {', '.join(failed)}", allow_retries=False)

    @dg.job(name="refresh", description="Makes anew what is stale, of all data sets, in one process.")
    def job() -> None:
        refresh_stale()

    return job


def nightly(refresh: dg.JobDefinition) -> dg.ScheduleDefinition:
    """The schedule: by default at 2 at night, else when FASTDUP_NIGHTLY says (cron, UTC).

    Where changes are carried downstream by automation, every split is only listed again: that reads no image, and where
    nothing changed, nothing follows. Elsewhere the job is launched.

    Args:
        refresh: the job that makes anew what is stale.
    """
    listing = follows_by_itself()

    @dg.schedule(
        name="nightly",
        job=list_split if listing else refresh,
        cron_schedule=os.environ.get(CRON, "0 2 * * *"),
        default_status=dg.DefaultScheduleStatus.RUNNING if running() else dg.DefaultScheduleStatus.STOPPED,
        description="Looks at sources, models and settings again; what changed is made anew.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        at = context.scheduled_execution_time.isoformat()
        if not listing:
            return [dg.RunRequest(run_key=at)]
        keys = sorted(context.instance.get_dynamic_partitions("split"))
        return [dg.RunRequest(run_key=f"{key}@{at}", partition_key=key) for key in keys]

    return schedule
