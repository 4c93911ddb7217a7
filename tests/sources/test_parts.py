"""A URI says all that is needed to read a member or frame, whatever its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources.parts import Part, container_of, part_of, path_of
from fastdup_dagster.sources.paths import to_uri


@given(
    container=st.binary(min_size=1),
    kind=st.sampled_from(["tar", "tgz", "zip", "video"]),
    name=st.binary(min_size=1),
    numbers=st.lists(st.integers(0, 2**64), min_size=5, max_size=5),
    seconds=st.floats(0, 1e6),
)
def test_a_part_comes_back_from_its_uri(
    container: bytes, kind: str, name: bytes, numbers: list[int], seconds: float
) -> None:
    part = Part(to_uri(b"/" + container), kind, name, *numbers, seconds)
    assert part_of(part.uri) == part and part.uri.isascii()
    assert container_of(part.uri) == part.container
    assert path_of(part.uri) == b"/" + container + b"/" + name


def test_the_uri_of_a_file_is_no_part() -> None:
    uri = to_uri(b"/a#b.jpg")
    assert part_of(uri) is None and container_of(uri) == uri and path_of(uri) == b"/a#b.jpg"


def test_a_fragment_that_no_listing_wrote_is_an_error() -> None:
    with pytest.raises(ValueError, match="not the URI of a member or frame"):
        part_of("file:///a.tar#page=3")
