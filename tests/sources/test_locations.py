"""Places in object stores: what people write, and what tables hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources import path_of
from fastdup_dagster.sources.locations import (
    Location,
    is_remote,
    joined,
    location,
    location_of,
    place_in,
    uri_in,
)

KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)


@given(KEYS, st.sampled_from(["", "host:9000", "shop"]))
def test_every_key_survives_in_a_uri_and_as_people_write_it(key: str, server: str) -> None:
    place = Location(server, "some-bucket", key)
    assert location_of(place.uri) == place
    assert location(place.text) == place
    assert place.uri.isascii() and place.uri.isprintable() and " " not in place.uri


@given(KEYS)
def test_a_place_has_one_spelling(key: str) -> None:
    base = "s3://some-bucket/folder"
    assert place_in(base, key) == path_of(uri_in(base, key)) if not is_remote(key) else True


def test_a_name_below_a_prefix_may_be_a_place_of_its_own() -> None:
    assert joined("s3://bucket/a/", "b.jpg") == "s3://bucket/a/b.jpg"
    assert joined("s3://bucket/a", ".") == "s3://bucket/a"
    assert joined(Path("/local"), "s3://bucket/b.jpg") == "s3://bucket/b.jpg"
    assert joined("/local", "b.jpg") == Path("/local/b.jpg")


@pytest.mark.parametrize(("text", "folder"), [("s3://bucket", ""), ("s3://bucket/a", "a/"), ("s3://bucket/a//", "a/")])
def test_a_folder_ends_with_a_slash(text: str, folder: str) -> None:
    assert location(text).folder.key == folder
