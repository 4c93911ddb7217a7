"""Names of any bytes: lossless for the machine, readable and different for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources import display_name, local_path, to_uri
from fastdup_dagster.sources.paths import extension

names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)
# Names that are easy to confuse: escapes as text beside the bytes that they stand for.
tricky = st.lists(st.sampled_from([b"\\", b"x", b"f", b"\xff", b"\\xff", b"\xc3\xa9", b"\xc3", b"/"]), max_size=6).map(
    b"".join
)


@given(names)
def test_a_path_survives_its_uri_and_the_uri_is_plain_ascii(name: bytes) -> None:
    assert local_path(to_uri(b"/" + name)) == b"/" + name
    assert to_uri(b"/" + name).isascii()
    assert not set(to_uri(b"/" + name)) & set(" #?\"'<>\n\t")


@given(names | tricky, names | tricky)
def test_different_paths_have_different_names_that_are_valid_text(first: bytes, second: bytes) -> None:
    assert (display_name(first) == display_name(second)) == (first == second)
    display_name(first).encode("utf-8")


def test_utf8_is_shown_as_it_is_and_other_bytes_as_escapes() -> None:
    assert display_name("caf\u00e9 \U0001f600.jpg".encode()) == "caf\u00e9 \U0001f600.jpg"
    assert display_name(b"caf\xe9.jpg") == "caf\\xe9.jpg"
    assert display_name(b"caf\\xe9.jpg") == "caf\\\\xe9.jpg"


@pytest.mark.parametrize("uri", ["s3://a/b", "http://a/b", "/a/b", "file://host/a", ""])
def test_what_is_no_local_file_is_refused_by_name(uri: str) -> None:
    with pytest.raises(ValueError, match="not the URI of a local file"):
        local_path(uri)


def test_extensions() -> None:
    found = [extension(name) for name in (b"a.JPG", b"a.tar.gz", b".hidden", b"a", b"a.", b"\xff.j\xff")]
    assert found == ["jpg", "gz", "", "", "", "j\ufffd"]
