"""A lock in a bucket: one holder at a time, whatever is lost on the way, and none for ever."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from fastdup_dagster.s3.lock import ObjectLock, TakenError
from fastdup_dagster.sources.locations import Location


@pytest.fixture
def place(bucket: str) -> Location:
    return Location("", bucket, "_staging/_locks/features/pets/train.lock")


def test_one_holds_it_and_another_gets_it_afterwards(s3_server, objects, place) -> None:
    taken = pytest.raises(TakenError, match="held by")
    with ObjectLock(objects, place).held(0), taken, ObjectLock(objects, place).held(0):
        pass
    assert objects.head(place) is None
    with ObjectLock(objects, place).held(0):
        pass


def test_a_lock_that_is_renewed_does_not_expire(objects, place) -> None:
    with ObjectLock(objects, place, expiry=1.0).held(0):
        time.sleep(2.5)  # the server's clock counts whole seconds
        with pytest.raises(TakenError), ObjectLock(objects, place, expiry=1.0).held(0):
            pass


def test_the_lock_of_a_killed_holder_is_taken_over_once_it_has_expired(objects, place) -> None:
    objects.put(place, json.dumps({"holder": "a machine that is gone"}).encode())
    with pytest.raises(TakenError, match="a machine that is gone"), ObjectLock(objects, place).held(0):
        pass
    with ObjectLock(objects, place, expiry=1.0).held(4):
        assert objects.head(place) is not None
    assert objects.head(place) is None


def test_whoever_lost_its_lock_does_not_remove_the_one_of_the_new_holder(objects, place) -> None:
    with ObjectLock(objects, place).held(0):
        objects.put(place, b'{"holder": "another"}')
    assert objects.head(place) is not None


def test_a_run_whose_lock_was_taken_over_meanwhile_ends_with_that_error(objects, place) -> None:
    with (
        pytest.raises(TakenError, match="taken over by another"),
        ObjectLock(objects, place, expiry=1.0).held(0),
    ):
        objects.put(place, b'{"holder": "another"}')
        time.sleep(0.6)  # longer than a renewal takes to come


def test_a_write_whose_answer_was_lost_is_recognised(objects, place, monkeypatch) -> None:
    put = objects.put

    def twice(*given: Any, **condition: Any) -> str:
        put(*given, **condition)
        return put(*given, **condition)

    monkeypatch.setattr(objects, "put", twice)
    lock = ObjectLock(objects, place)
    with lock.held(0):
        assert objects.head(place)["ETag"] == lock._etag  # type: ignore[index]
    assert objects.head(place) is None
