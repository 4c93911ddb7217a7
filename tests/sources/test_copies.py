"""Copies of remote files stay in their folder, whatever the keys are."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources.copies import Copies
from fastdup_dagster.sources.locations import Location

PARTS = st.sampled_from(["..", ".", "", "a", "a.jpg", "..\\x", "~", "C:", "x" * 300, "é.jpg", "new\nline.png", "\0"])
KEYS = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(bool)


@given(KEYS, KEYS)
def test_no_key_leads_out_of_the_folder_and_no_two_to_one_file(key: str, other: str) -> None:
    copies = Copies(Path("/folder"))
    one, two = (copies.place(Location("", "some-bucket", k).uri) for k in (key, other))
    assert one.is_relative_to("/folder/some-bucket")
    assert ".." not in one.parts and all(len(part.encode()) < 255 for part in one.parts)
    assert (one == two) == (key == other)


def test_keys_that_are_fine_keep_their_names() -> None:
    place = Copies(Path("/folder")).place(Location("host:9000", "some-bucket", "a b/c (1).jpg").uri)
    assert place.parts[3:] == ("some-bucket", "a b", "c (1).jpg")
