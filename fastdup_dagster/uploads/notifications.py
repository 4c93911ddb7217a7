"""Notifications of a bucket that came through a queue: which object of which data set changed."""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from fastdup_dagster.datasets import DatasetEntry, DatasetsError, partition_key
from fastdup_dagster.sources.locations import is_remote, location
from fastdup_dagster.sources.splits import WHOLE
from fastdup_dagster.uploads.memory import Finished, Memory

_REMEMBERED = 2_000


@dataclass(frozen=True)
class Event:
    """An object that was written or deleted."""

    bucket: str
    key: str
    created: bool


@dataclass(frozen=True)
class Message:
    """A message of the queue: its id, what deletes it, and its text."""

    id: str
    receipt: str
    body: str


@dataclass
class Inbox(Memory):
    """What is known between two looks at the queue.

    Attributes:
        handled: receipts of messages that are in this state and can be deleted once it is stored, by message id.
        done: ids of messages that were handled lately: a queue may deliver one twice.
        due: time at which a partition is to be launched, and its place if it is a new split.
    """

    handled: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    due: dict[str, tuple[float, str | None]] = field(default_factory=dict)

    def take(self, messages: list[Message], datasets: Mapping[str, DatasetEntry], now: float) -> list[str]:
        """Notes what messages say; returns what cannot be made use of, and why."""
        problems = []
        for message in messages:
            self.handled[message.id] = message.receipt
            if message.id in self.done:
                continue
            self.done.append(message.id)
            try:
                events = list(events_of(message.body))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problems.append(f"message {message.id} is no notification of a bucket: {type(error).__name__} {error}")
                continue
            for event in events:
                self._note(event, datasets, now)
        del self.done[:-_REMEMBERED]
        return problems

    def _note(self, event: Event, datasets: Mapping[str, DatasetEntry], now: float) -> None:
        for name, entry in datasets.items():
            found = split_of(event, entry)
            if found is None:
                continue
            split, place, within = found
            minutes = entry.uploads.settled_minutes
            if minutes is not None or (event.created and within == entry.uploads.marker):
                due = now + 60 * (minutes or 0)
                self.due[partition_key(name, split)] = due, None if split in entry.splits else place

    def launch(self, now: float, most: int) -> list[Finished]:
        """What is due, the longest waiting first; what is over `most` stays for the next look."""
        ripe = sorted((when, partition) for partition, (when, _) in self.due.items() if when <= now)[:most]
        finished = []
        for _, partition in ripe:
            _, place = self.due.pop(partition)
            finished.append(self.launch_of(partition, place))
        return finished

    def take_back(self, upload: Finished) -> None:
        """Has an upload be due again."""
        self.due[upload.partition] = 0.0, upload.place


def events_of(body: str) -> Iterator[Event]:
    """The events of a message: of S3 itself, the same by way of SNS, or of EventBridge.

    Raises:
        KeyError, TypeError, ValueError: if it is none of these.
    """
    message: dict[str, Any] = json.loads(body)
    if message.get("Type") == "Notification":
        message = json.loads(message["Message"])
    if message.get("Event") == "s3:TestEvent":
        return
    if "detail-type" in message:
        detail = message["detail"]
        yield Event(detail["bucket"]["name"], detail["object"]["key"], message["detail-type"] == "Object Created")
        return
    for record in message["Records"]:
        s3 = record["s3"]
        created = str(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated")
        yield Event(s3["bucket"]["name"], unquote_plus(s3["object"]["key"]), created)


def split_of(event: Event, entry: DatasetEntry) -> tuple[str, str, str] | None:
    """Which split an object belongs to: its name, its place, and the object's name within; None if to none."""
    if not is_remote(entry.root):
        return None
    root = location(entry.root).folder
    if event.bucket != root.bucket or not event.key.startswith(root.key) or _is_result(event, entry):
        return None
    within = event.key.removeprefix(root.key)
    for split, place in entry.splits.items():
        folder = "" if place == "." else f"{place.strip('/')}/"
        if within.startswith(folder):
            return split, place, within.removeprefix(folder)
    parents = {posixpath.dirname(place) for place in entry.splits.values()}
    if WHOLE in entry.splits or len(parents) != 1:
        return None
    [parent] = parents
    folder, slash, name = within.removeprefix(f"{parent}/" if parent else "").partition("/")
    try:
        partition_key("x", folder.lower())
    except DatasetsError:
        return None
    return (
        (folder.lower(), posixpath.join(parent, folder), name) if slash and folder.lower() not in entry.splits else None
    )


def _is_result(event: Event, entry: DatasetEntry) -> bool:
    """Whether the object is one that runs wrote: they must not start runs."""
    store = str(entry.store_root())
    if not is_remote(store):
        return False
    place = location(store).folder
    return event.bucket == place.bucket and event.key.startswith(place.key)


class Queue:
    """An SQS queue.

    Args:
        url: of the queue.
    """

    def __init__(self, url: str) -> None:
        import boto3  # type: ignore[import-untyped]  # here, because it is slow to import and most runs are local
        from botocore.config import Config

        retries = Config(retries={"mode": "standard", "total_max_attempts": 6})
        self._url, self._client = url, boto3.client("sqs", config=retries)

    def receive(self, requests: int) -> list[Message]:
        """Messages, at most ten a request; they stay in the queue, unseen for its visibility timeout."""
        found = []
        for _ in range(requests):
            answer = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            some = answer.get("Messages", ())
            found += [Message(m["MessageId"], m["ReceiptHandle"], m["Body"]) for m in some]
            if not some:
                break
        return found

    def delete(self, handled: Mapping[str, str]) -> None:
        """Deletes messages; one whose receipt has run out comes again and is recognised."""
        receipts = list(handled.values())
        for start in range(0, len(receipts), 10):
            entries = [{"Id": str(n), "ReceiptHandle": r} for n, r in enumerate(receipts[start : start + 10])]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def look_at(
    queue: Queue,
    inbox: Inbox,
    datasets: Mapping[str, DatasetEntry],
    requests: int,
    launches: int,
    now: float | None = None,
) -> tuple[list[Finished], list[str]]:
    """One look: deletes what the last one has noted, notes what is new, and says what is due.

    A message is deleted only once the state that holds it is stored, that is, with the next look: what ends in between
    loses none.

    Args:
        queue: the queue.
        inbox: is changed.
        datasets: by name.
        requests: receives at most.
        launches: uploads to launch at most.
        now: seconds since the epoch.

    Returns:
        Uploads to launch, and what cannot be made use of.
    """
    now = time.time() if now is None else now
    queue.delete(inbox.handled)
    inbox.handled.clear()
    problems = inbox.take(queue.receive(requests), datasets, now)
    return inbox.launch(now, launches), problems
