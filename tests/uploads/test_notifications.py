"""Notifications of a bucket, as S3, SNS and EventBridge spell them, say which split an object belongs to."""

from __future__ import annotations

import json

import pytest

from fastdup_dagster.datasets import DatasetEntry, Uploads
from fastdup_dagster.uploads.notifications import Event, Inbox, Message, events_of, split_of

RECORD = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "bb"}, "object": {"key": "ro+ot/a%2Bb.jpg"}}}
DIRECT = {"Records": [RECORD]}
BRIDGE = {"detail-type": "Object Created", "detail": {"bucket": {"name": "bb"}, "object": {"key": "ro ot/a+b.jpg"}}}


def entry(**more: object) -> DatasetEntry:
    return DatasetEntry(
        **{"root": "s3://bb/ro ot", "splits": {"train": "train"}, "store": "s3://bb/ro ot/out", **more}  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "body", [DIRECT, {"Type": "Notification", "Message": json.dumps(DIRECT)}, BRIDGE], ids=["s3", "sns", "eventbridge"]
)
def test_every_spelling_of_an_event_is_read(body) -> None:
    assert list(events_of(json.dumps(body))) == [Event("bb", "ro ot/a+b.jpg", created=True)]


def test_deletions_are_told_apart_and_test_events_are_none() -> None:
    removed = {"Records": [{**RECORD, "eventName": "ObjectRemoved:Delete"}]}
    assert [event.created for event in events_of(json.dumps(removed))] == [False]
    assert list(events_of('{"Event": "s3:TestEvent"}')) == []


@pytest.mark.parametrize(
    "key, expected",
    [
        ("ro ot/train/x/1.jpg", ("train", "train", "x/1.jpg")),
        ("ro ot/Val/_SUCCESS", ("val", "Val", "_SUCCESS")),
        ("ro ot/_SUCCESS", None),
        ("ro ot/_staging/x", None),
        ("ro ot/out/pages/x.html", None),
        ("elsewhere/train/1.jpg", None),
        ("ro ot2/train/1.jpg", None),
    ],
)
def test_an_object_belongs_to_the_split_whose_folder_it_is_in(key: str, expected: object) -> None:
    assert split_of(Event("bb", key, created=True), entry()) == expected
    assert split_of(Event("another", key, created=True), entry()) is None


def test_a_local_data_set_has_no_notifications_and_a_whole_one_takes_all() -> None:
    assert split_of(Event("bb", "train/x", created=True), entry(root="/x", store=None)) is None
    whole = entry(splits={"all": "."})
    assert split_of(Event("bb", "ro ot/val/x", created=True), whole) == ("all", ".", "val/x")


def message(number: int, key: str) -> Message:
    record = {**RECORD, "s3": {"bucket": {"name": "bb"}, "object": {"key": key}}}
    return Message(str(number), f"receipt {number}", json.dumps({"Records": [record]}))


def test_a_message_that_comes_twice_counts_once_and_survives_storing() -> None:
    inbox = Inbox()
    assert inbox.take([message(1, "ro+ot/train/_SUCCESS")], {"pets": entry()}, 0) == []
    inbox = Inbox.from_text(inbox.to_text())
    assert inbox.handled == {"1": "receipt 1"}
    [first] = inbox.launch(0, 10)
    inbox.take([message(1, "ro+ot/train/_SUCCESS")], {"pets": entry()}, 0)
    assert inbox.launch(0, 10) == []
    assert (first.partition, first.place) == ("pets/train", None)


def test_by_a_settled_listing_a_split_is_due_so_long_after_its_last_event() -> None:
    inbox, datasets = Inbox(), {"pets": entry(uploads=Uploads(settled_minutes=10))}
    inbox.take([message(1, "ro+ot/train/1.jpg")], datasets, 0)
    inbox.take([message(2, "ro+ot/train/2.jpg")], datasets, 300)
    assert inbox.launch(899, 10) == []
    assert [found.partition for found in inbox.launch(900, 10)] == ["pets/train"]
    assert inbox.launch(10_000, 10) == []


def test_what_is_over_the_number_of_launches_stays_due() -> None:
    inbox = Inbox()
    inbox.take([message(n, f"ro+ot/part{n}/_SUCCESS") for n in range(5)], {"pets": entry()}, 0)
    assert [len(inbox.launch(0, 2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_launch_that_is_taken_back_is_due_again_as_another_one() -> None:
    inbox = Inbox()
    inbox.take([message(1, "ro+ot/new/_SUCCESS")], {"pets": entry()}, 0)
    [first] = inbox.launch(0, 10)
    inbox.take_back(first)
    [second] = Inbox.from_text(inbox.to_text()).launch(0, 10)
    assert (second.partition, second.place) == (first.partition, first.place) == ("pets/new", "new")
    assert second.run_key != first.run_key


def test_what_is_no_notification_is_named_and_taken_from_the_queue() -> None:
    inbox = Inbox()
    problems = inbox.take(
        [Message("1", "r", "no json"), Message("2", "r", '{"Records": [{}]}'), Message("3", "r", "[]")], {}, 0
    )
    assert len(problems) == 3
    assert set(inbox.handled) == {"1", "2", "3"}
