"""A gzip file is read from any place, at a bounded cost in memory and in bytes unpacked."""

from __future__ import annotations

import gzip
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources import gzip_stream
from fastdup_dagster.sources.archive import BrokenArchiveError
from fastdup_dagster.sources.gzip_stream import GzipIndex, GzipReader

PLAIN = random.Random(0).randbytes(700_000) + bytes(300_000)
PACKED = gzip.compress(PLAIN[:500_000], 1) + gzip.compress(PLAIN[500_000:], 1)


@pytest.fixture
def close_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """States every few bytes, and few of them."""
    monkeypatch.setattr(gzip_stream, "_OUTPUT", 4096)
    monkeypatch.setattr(gzip_stream, "_INPUT", 2048)
    monkeypatch.setattr(gzip_stream, "_MAX_STATES", 8)


def index(step: int) -> GzipIndex:
    made = GzipIndex()
    made._step = step
    return made


@pytest.mark.usefixtures("close_states")
@pytest.mark.parametrize("step", [1, 20_000, 2**21])
def test_every_place_gives_its_bytes_in_any_order(step: int) -> None:
    shared = index(step)
    readers = [GzipReader(io.BytesIO(PACKED), shared) for _ in range(2)]
    rng = random.Random(step)
    for _ in range(150):
        at, size = rng.randrange(len(PLAIN)), rng.randrange(1, 9000)
        reader = rng.choice(readers)
        assert reader.seek(at) == at == reader.at
        assert reader.read(size) == PLAIN[at : at + size]
    assert readers[0].seek(2**40) == len(PLAIN) and readers[0].read(1) == b""


@pytest.mark.usefixtures("close_states")
def test_states_are_thinned_out_and_never_more_than_the_limit() -> None:
    shared = index(5000)
    GzipReader(io.BytesIO(PACKED), shared).seek(len(PLAIN))
    assert 3 <= len(shared._states) <= 8
    assert shared._step >= len(PLAIN) / 16


@given(cut=st.integers(0, len(PACKED) - 1))
def test_of_a_file_that_is_cut_off_nothing_but_true_bytes_come(cut: int) -> None:
    reader, got = GzipReader(io.BytesIO(PACKED[:cut]), GzipIndex()), b""
    try:
        while piece := reader.read(50_000):
            got += piece
    except BrokenArchiveError as error:
        assert "ends early" in str(error)
    assert PLAIN.startswith(got) and len(got) < len(PLAIN)
