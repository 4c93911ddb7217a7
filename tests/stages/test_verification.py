"""The verified score tells one picture from two alike, whichever of the two comes first."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastdup_dagster.stages.verification import thumbnail_match

thumbnails = hnp.arrays(np.uint8, (2, 768), elements=st.integers(0, 255))


def picture(seed: int, side: int = 160) -> np.ndarray:
    patches = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(patches, (side, side), interpolation=cv2.INTER_CUBIC)


def small(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (16, 16), interpolation=cv2.INTER_AREA).reshape(1, 768)


def match(first: np.ndarray, second: np.ndarray) -> float:
    return float(thumbnail_match(small(first), small(second))[0])


@given(thumbnails)
def test_the_match_is_symmetric_bounded_and_1_to_itself(pair: np.ndarray) -> None:
    first, second = pair[:1], pair[1:]
    assert thumbnail_match(first, second)[0] == thumbnail_match(second, first)[0]
    assert -1 <= thumbnail_match(first, second)[0] <= 1
    assert thumbnail_match(first, first)[0] == pytest.approx(1, abs=1e-5)


@given(thumbnails, st.integers(0, 60))
def test_a_pair_is_judged_alike_alone_and_among_many(pair: np.ndarray, place: int) -> None:
    many = np.random.default_rng(0).integers(0, 255, (64, 768), dtype=np.uint8)
    first, second = many.copy(), many[::-1].copy()
    first[place], second[place] = pair
    alone = thumbnail_match(pair[:1], pair[1:])[0]
    assert thumbnail_match(first, second)[place] == pytest.approx(alone, abs=1e-5)


def test_two_flat_thumbnails_match_by_how_near_their_colours_are() -> None:
    def flat(value: int) -> np.ndarray:
        return np.full((20, 20, 3), value, np.uint8)

    assert match(flat(10), flat(10)) == pytest.approx(1)
    assert match(flat(0), flat(255)) == pytest.approx(0)
    assert match(flat(100), picture(1)) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_edits_of_a_picture_match_and_strangers_do_not(seed: int) -> None:
    original = picture(seed)
    edits = {
        "darker": (original * 0.6).astype(np.uint8),
        "blurred": cv2.GaussianBlur(original, (0, 0), 3),
        "smaller": cv2.resize(original, (70, 50), interpolation=cv2.INTER_AREA),
        "noisy": np.clip(original + np.random.default_rng(9).normal(0, 10, original.shape), 0, 255).astype(np.uint8),
        "mirrored": original[:, ::-1],
        "cropped": original[16:-16, 16:-16],
    }
    worst = min(match(original, edit) for edit in edits.values())
    strangers = max(match(original, picture(other)) for other in range(20, 40))
    assert worst > 0.8
    assert strangers < worst


def test_no_pairs_give_no_scores() -> None:
    assert thumbnail_match(np.zeros((0, 768), np.uint8), np.zeros((0, 768), np.uint8)).shape == (0,)
