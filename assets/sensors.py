"""Sensors that register and launch splits when an upload into them is finished. Off until they are turned on.

https://docs.dagster.io/guides/automate/sensors
"""

import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from fastdup_dagster.assets.jobs import analyse_split, list_split
from fastdup_dagster.assets.observed import observe_listing
from fastdup_dagster.assets.partitions import DATASETS, SPLITS
from fastdup_dagster.datasets import (
    DatasetEntry,
    DatasetsError,
    add_split,
    dataset_names,
    load_dataset,
    parse_key,
)
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.uploads.memory import Finished, Memory
from fastdup_dagster.uploads.watch import Budget, Look, State
from fastdup_dagster.variables import VariableError

RUNNING = "FASTDUP_SENSORS"
LAUNCHES = "FASTDUP_UPLOADS_LAUNCH"
QUEUE = "FASTDUP_UPLOADS_QUEUE"
SECONDS = "FASTDUP_UPLOADS_SECONDS"
_LAUNCHED = ("image_manifest", "split")
_RECEIVES = 20


def running() -> bool:
    """Whether FASTDUP_SENSORS says `on`: sensors and schedules of a new code location run from the start.

    Raises:
        ValueError: if it says anything but `on` or `off`.
    """
    said = os.environ.get(RUNNING, "off")
    if said not in ("on", "off"):
        raise VariableError(f"{RUNNING}={said!r}: expected on or off")
    return said == "on"


def follows_by_itself() -> bool:
    """Whether FASTDUP_UPLOADS_LAUNCH says `image_manifest`: a listing is launched alone, automation carries it further.

    Raises:
        ValueError: if it says anything but `image_manifest` or `split`.
    """
    said = os.environ.get(LAUNCHES, "image_manifest")
    if said not in _LAUNCHED:
        raise VariableError(f"{LAUNCHES}={said!r}: expected {' or '.join(_LAUNCHED)}")
    return said == "image_manifest"


def _seconds_between() -> int:
    text = os.environ.get(SECONDS, "30")
    if not text.isdecimal() or not int(text):
        raise VariableError(f"{SECONDS}={text!r}: expected the seconds between two looks, 30 for example")
    return int(text)


def upload_sensors() -> list[dg.SensorDefinition]:
    """The sensors, with the job that the environment chooses.

    Raises:
        ValueError: if the environment asks for what there is not.
    """
    job = list_split if follows_by_itself() else analyse_split
    seconds = _seconds_between()
    status = dg.DefaultSensorStatus.RUNNING if running() else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="new_uploads",
        job=job,
        minimum_interval_seconds=seconds,
        default_status=status,
        description="Launches a split when an upload into its folder or prefix is finished: by a marker, or settled.",
    )
    def new_uploads(context: dg.SensorEvaluationContext, datasets: DatasetsResource) -> dg.SensorResult:
        state = State.from_text(context.cursor)
        look = Look(state, Budget())
        look.at(_known(context, datasets))
        return _result(context, datasets, look.finished, look.problems, state)

    @dg.sensor(
        name="upload_notifications",
        job=job,
        minimum_interval_seconds=seconds,
        default_status=status if os.environ.get(QUEUE) else dg.DefaultSensorStatus.STOPPED,
        description=f"The same by notifications of a bucket that come through the SQS queue that {QUEUE} names.",
    )
    def upload_notifications(
        context: dg.SensorEvaluationContext, datasets: DatasetsResource
    ) -> dg.SensorResult | dg.SkipReason:
        from fastdup_dagster.uploads.notifications import Inbox, Queue, look_at

        if not (url := os.environ.get(QUEUE)):
            return dg.SkipReason(f"no queue: set {QUEUE} to the URL of one")
        inbox = Inbox.from_text(context.cursor)
        finished, problems = look_at(Queue(url), inbox, _known(context, datasets), _RECEIVES, Budget().launches)
        return _result(context, datasets, finished, problems, inbox)

    return [new_uploads, upload_notifications]


def _known(context: dg.SensorEvaluationContext, datasets: DatasetsResource) -> dict[str, DatasetEntry]:
    """The data sets whose entries can be read; a mistake in one does not stop the others."""
    path = Path(datasets.path) if datasets.path else None
    found = {}
    for name in dataset_names(path):
        try:
            found[name] = load_dataset(name, path)
        except DatasetsError as error:
            context.log.warning(f"{name} is not watched: {error}")
    return found


def _result(
    context: dg.SensorEvaluationContext,
    datasets: DatasetsResource,
    finished: Sequence[Finished],
    problems: Sequence[str],
    memory: Memory,
) -> dg.SensorResult:
    """Registers what is new, and launches all of it."""
    for problem in problems:
        context.log.warning(problem)
    launched, refused = _registered(finished, Path(datasets.path) if datasets.path else None, memory)
    for reason in refused:
        context.log.warning(reason)
    keys = [upload.partition for upload in launched]
    for key in keys:
        observe_listing(context.instance, key, datasets)
    names = list(dict.fromkeys(parse_key(key)[0] for key in keys))
    nothing = "; ".join(refused) or "no finished upload since the last look"
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=upload.run_key, partition_key=upload.partition) for upload in launched],
        dynamic_partitions_requests=[SPLITS.build_add_request(keys), DATASETS.build_add_request(names)] if keys else [],
        skip_reason=None if keys else dg.SkipReason(nothing),
        cursor=memory.to_text(),
    )


def _registered(
    finished: Sequence[Finished], path: Path | None, memory: Memory
) -> tuple[Sequence[Finished], Sequence[str]]:
    """Writes new splits into datasets.yaml. Those that cannot be written wait for a later look, with the reason."""
    launched, refused = [], []
    for upload in finished:
        try:
            if upload.place is not None:
                add_split(*parse_key(upload.partition), upload.place, path)
            launched.append(upload)
        except DatasetsError as error:
            memory.take_back(upload)
            refused.append(f"{upload.partition} is new and not launched: {error}")
    return launched, refused
