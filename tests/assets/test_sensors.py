"""The sensors register and launch what was uploaded, and the schedule looks at all of it again."""

from __future__ import annotations

import datetime
import errno
import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fastdup_dagster.assets import observed, schedules, sensors
from fastdup_dagster.datasets import DatasetEntry, DatasetsError, Uploads, add_split, load_dataset, register
from fastdup_dagster.definitions import build_definitions, refresh_all
from fastdup_dagster.resources.datasets import DatasetsResource


@pytest.fixture
def root(home: Path, tmp_path: Path, monkeypatch) -> Path:
    """The root of the data set `pets`, with a finished upload of train."""
    monkeypatch.setattr("fastdup_dagster.uploads.watch._YOUNG", -10.0)
    folder = tmp_path / "root"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "_SUCCESS").touch()
    register("pets", DatasetEntry(root=str(folder), splits={"train": "train"}))
    return folder


def tick(name: str, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    sensor = build_definitions().resolve_sensor_def(name)
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"datasets": DatasetsResource()}
    ) as context:
        return sensor(context)  # type: ignore[no-any-return]


def test_an_upload_is_registered_and_launched_in_one_look_and_never_again(root: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = tick("new_uploads", instance)
        [request] = result.run_requests
        assert request.partition_key == "pets/train"
        assert [list(add.partition_keys) for add in result.dynamic_partitions_requests] == [["pets/train"], ["pets"]]
        again = tick("new_uploads", instance, result.cursor)
        assert not again.run_requests
        assert "no finished upload" in again.skip_reason.skip_message


def test_a_new_split_is_added_to_the_data_set_and_the_rest_of_the_file_stays_as_it_was_written(
    root: Path, home: Path
) -> None:
    file = home / "datasets.yaml"
    file.write_text(f"# ours\ndatasets:\n  pets:\n    root: {root}  # here\n    splits: {{train: train}}\n")
    (root / "val").mkdir()
    (root / "val" / "_SUCCESS").touch()
    with dg.DagsterInstance.ephemeral() as instance:
        assert [r.partition_key for r in tick("new_uploads", instance).run_requests] == ["pets/train", "pets/val"]
    assert load_dataset("pets").splits == {"train": "train", "val": "val"}
    assert "# ours" in file.read_text()
    assert "# here" in file.read_text()
    add_split("pets", "val", "elsewhere")
    assert load_dataset("pets").splits["val"] == "val"
    with pytest.raises(DatasetsError, match="no data set 'cats'"):
        add_split("cats", "val", "val")


def test_what_a_listing_is_made_with_is_recorded_before_it_is_launched_or_the_daemon_would_ask_for_it_twice(
    root: Path,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        tick("new_uploads", instance)
        observed.observe_listing(instance, "pets/train", DatasetsResource())  # as the listing does: nothing new
        [record] = instance.fetch_observations(observed.settings_key("image_manifest"), limit=10).records
    assert record.partition_key == "pets/train"


def test_a_mistake_in_one_entry_does_not_keep_the_others_from_being_watched(root: Path, home: Path) -> None:
    with (home / "datasets.yaml").open("a") as file:
        file.write("  broken: {root: /x, splitz: {}}\n")
    with dg.DagsterInstance.ephemeral() as instance:
        assert [r.partition_key for r in tick("new_uploads", instance).run_requests] == ["pets/train"]


def test_what_is_launched_and_whether_sensors_run_from_the_start_is_a_setting(home: Path, monkeypatch) -> None:
    def made() -> tuple[str, ...]:
        [sensor, _] = sensors.upload_sensors()
        defs = build_definitions()
        schedule, reruns = defs.resolve_schedule_def("nightly"), defs.resolve_sensor_def("lineage_aware_reruns")
        status = [made.default_status.value for made in (sensor, schedule, reruns)]
        return sensor.job_name, schedule.job_name, *status

    for name in (sensors.LAUNCHES, sensors.RUNNING, "FASTDUP_AUTOMATIC"):
        monkeypatch.delenv(name, raising=False)
    assert made() == ("list_split", "list_split", "STOPPED", "STOPPED", "STOPPED")
    monkeypatch.setenv(sensors.RUNNING, "on")  # what is listed is carried on, too
    assert made() == ("list_split", "list_split", "RUNNING", "RUNNING", "RUNNING")
    monkeypatch.setenv("FASTDUP_AUTOMATIC", "0")
    assert made() == ("list_split", "list_split", "RUNNING", "RUNNING", "STOPPED")
    monkeypatch.delenv("FASTDUP_AUTOMATIC")
    monkeypatch.setenv(sensors.LAUNCHES, "split")
    assert made() == ("analyse_split", "refresh", "RUNNING", "RUNNING", "STOPPED")
    monkeypatch.setenv(sensors.RUNNING, "yes")
    with pytest.raises(ValueError, match="FASTDUP_SENSORS='yes': expected on or off"):
        made()
    monkeypatch.setenv(sensors.LAUNCHES, "everything")
    with pytest.raises(ValueError, match="expected image_manifest or split"):
        made()


def test_the_nightly_schedule_lists_every_split_once_a_night_or_refreshes(home: Path, monkeypatch) -> None:
    at = datetime.datetime(2026, 11, 24, 2, tzinfo=datetime.UTC)
    called: list[dg.DagsterInstance] = []
    job = schedules.refresh_job(lambda instance: called.append(instance) or [])  # type: ignore[func-returns-value]
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("split", ["pets/train", "pets/val"])
        with dg.build_schedule_context(instance=instance, scheduled_execution_time=at) as context:
            monkeypatch.setenv(sensors.LAUNCHES, "image_manifest")
            requests = schedules.nightly(job)(context)
            assert [request.partition_key for request in requests] == ["pets/train", "pets/val"]
            assert len({request.run_key for request in requests}) == 2
            monkeypatch.setenv(sensors.LAUNCHES, "split")
            [request] = schedules.nightly(job)(context)
            assert request.run_key == at.isoformat()
        assert job.execute_in_process(instance=instance).success
        assert len(called) == 1
        failing = schedules.refresh_job(lambda _: ["pets/val"])
        result = failing.execute_in_process(instance=instance, raise_on_error=False)
        [event] = result.get_step_failure_events()
        assert "not refreshed: pets/val" in str(event.step_failure_data.error)


def test_a_refresh_of_everything_computes_nothing_anew_where_nothing_changed(project) -> None:
    from fastdup_dagster.assets.partitions import add_partitions

    add_partitions(project.instance, "pets", ["test", "train"])
    assert refresh_all(project.instance) == []
    record = project.instance.get_latest_materialization_event(dg.AssetKey("embeddings"))
    assert record.asset_materialization.metadata["computed now"].value == 0
    (project.images / "test" / "gone").mkdir()
    for picture in (project.images / "test").glob("*.jpg"):
        picture.write_bytes(b"")
    assert refresh_all(project.instance) == ["pets/test"]


def test_uploads_of_an_entry_are_checked(home: Path) -> None:
    file = home / "datasets.yaml"
    file.write_text("datasets:\n  pets:\n    root: /x\n    splits: {a: a}\n    uploads: {settled_minutes: 5}\n")
    assert load_dataset("pets").uploads == Uploads(settled_minutes=5)
    for wrong, said in (("{settled: 5}", "known are marker, settled_minutes"), ("{settled_minutes: 0}", "0.05")):
        file.write_text(f"datasets:\n  pets:\n    root: /x\n    splits: {{a: a}}\n    uploads: {wrong}\n")
        with pytest.raises(DatasetsError, match=rf"line 5, datasets.pets.uploads.*{said}"):
            load_dataset("pets")


def queue(s3_server: Any, monkeypatch) -> tuple[Any, str]:
    import boto3

    client = boto3.client("sqs")
    url = client.create_queue(QueueName=f"q{s3_server.buckets}", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    monkeypatch.setenv(sensors.QUEUE, url)
    return client, url


def test_notifications_of_a_bucket_launch_a_split_once_and_leave_the_queue_only_when_the_state_is_stored(
    s3_server, home: Path, monkeypatch
) -> None:
    bucket = s3_server.bucket()
    register("pets", DatasetEntry(root=f"s3://{bucket}/ro ot", splits={"train": "train"}))
    client, url = queue(s3_server, monkeypatch)

    def tell(key: str, event: str = "ObjectCreated:Put") -> None:
        record = {"eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
        client.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": [record]}))

    client.send_message(QueueUrl=url, MessageBody=json.dumps({"Event": "s3:TestEvent"}))
    client.send_message(QueueUrl=url, MessageBody="no json")
    tell("ro+ot/train/1.jpg")
    tell("ro+ot/train/_SUCCESS")
    tell("ro+ot/val/_SUCCESS")
    tell("elsewhere/train/_SUCCESS")
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick("upload_notifications", instance)
        lost = tick("upload_notifications", instance)  # as if the first look had ended before its state was stored
        for result in (first, lost):
            assert [request.partition_key for request in result.run_requests] == ["pets/train", "pets/val"]
        assert load_dataset("pets").splits == {"train": "train", "val": "val"}
        again = tick("upload_notifications", instance, first.cursor)
        assert not again.run_requests
        left = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert left["Attributes"]["ApproximateNumberOfMessages"] == "0"
        tell("ro+ot/train/_SUCCESS")
        more = tick("upload_notifications", instance, again.cursor)
        assert [request.partition_key for request in more.run_requests] == ["pets/train"]
        assert more.run_requests[0].run_key != first.run_requests[0].run_key


def test_without_a_queue_the_sensor_of_notifications_says_what_is_missing(home: Path, monkeypatch) -> None:
    monkeypatch.delenv(sensors.QUEUE, raising=False)
    with dg.DagsterInstance.ephemeral() as instance:
        result = tick("upload_notifications", instance)
    assert "FASTDUP_UPLOADS_QUEUE" in result.skip_message


def test_a_new_split_that_cannot_be_written_down_waits_and_does_not_hold_up_the_others(root: Path, monkeypatch) -> None:
    def read_only(path: Path, data: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    (root / "val").mkdir()
    (root / "val" / "_SUCCESS").touch()
    with dg.DagsterInstance.ephemeral() as instance:
        with monkeypatch.context() as patch:
            patch.setattr("fastdup_dagster.datasets.write_atomically", read_only)  # as a mounted ConfigMap is
            first = tick("new_uploads", instance)
            assert [request.partition_key for request in first.run_requests] == ["pets/train"]
            second = tick("new_uploads", instance, first.cursor)
            assert "pets/val is new and not launched" in second.skip_reason.skip_message
            assert "datasets.yaml cannot be written (Read-only file system): put it on a writable volume" in (
                second.skip_reason.skip_message
            )
        third = tick("new_uploads", instance, second.cursor)
        assert [request.partition_key for request in third.run_requests] == ["pets/val"]
