"""The verified score tells one picture from two alike, whichever of the two comes first."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastdup_dagster.stages.verification import WEIGHT_OF_EDITS, thumbnail_match

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


@given(thumbnails, st.integers(0, 599))
def test_a_pair_has_the_same_bits_alone_and_among_many(pair: np.ndarray, place: int) -> None:
    many = np.random.default_rng(0).integers(0, 255, (600, 768), dtype=np.uint8)
    first, second = many.copy(), many[::-1].copy()
    first[place], second[place] = pair
    assert thumbnail_match(first, second)[place] == thumbnail_match(pair[:1], pair[1:])[0]


def _correlation(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    sizes = math.sqrt(sum((a * a).sum() for a in first) * sum((b * b).sum() for b in second))
    return sum((a * b).sum() for a, b in zip(first, second, strict=True)) / max(sizes, 1e-6)


def _reference(fixed: np.ndarray, moving: np.ndarray) -> float:
    """Best match of the centre of one with the nine windows of the other, window by window, in float64."""
    centre, best = fixed[1:15, 1:15].astype(float), -1.0
    for top, left in np.ndindex(3, 3):
        window = moving[top : top + 14, left : left + 14].astype(float)
        colours = _correlation([centre - centre.mean()], [window - window.mean()])
        a, b = ([np.diff(part, axis=1), np.diff(part, axis=0)] for part in (centre, window))
        smooth = all(math.sqrt(np.mean(np.concatenate([d.ravel() for d in edges]) ** 2)) < 1 for edges in (a, b))
        match = colours if smooth else (colours + _correlation(a, b)) / 2
        if max(centre.std(), window.std()) < 1:
            match = 1 - abs(centre.mean() - window.mean()) / 255
        best = max(best, match)
    return best


def _pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Thumbnails that match best as they lie, so that edits do not count: textures, shades, shifts, flat ones."""
    random = np.random.default_rng(5)
    pairs = []
    for seed in range(60):
        image = small(picture(seed)).reshape(16, 16, 3)
        noisy = np.clip(image + random.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        shifted = np.roll(image, (seed % 3 - 1, seed // 3 % 3 - 1), axis=(0, 1))
        steps = np.zeros((16, 16, 3)) + np.linspace(seed, seed + 9, 16)[:, None, None]
        shade, paler = steps.astype(np.uint8), (steps * 0.6).astype(np.uint8)  # whose steps lie elsewhere
        flat = np.full((16, 16, 3), seed, np.uint8)
        pairs += [(image, noisy), (image, shifted), (shade, paler), (flat, flat + np.uint8(9))]
    return pairs


def test_the_match_is_that_of_windows_taken_one_by_one() -> None:
    pairs = [pair for pair in _pairs() for _ in range(3)]  # more than a block of them
    found = thumbnail_match(*(np.stack([pair[side].ravel() for pair in pairs]) for side in (0, 1)))
    expected = [max(_reference(a, b), _reference(b, a)) for a, b in pairs]
    decided = np.array(expected) >= WEIGHT_OF_EDITS
    assert decided.mean() > 0.8
    assert found[decided] == pytest.approx(np.array(expected)[decided], abs=1e-4)
    assert np.all(found >= np.array(expected) - 1e-4)


@pytest.mark.parametrize("bar", [0, 128, 254])
@pytest.mark.parametrize("colour", [(255, 240, 200), (200, 30, 30), (1, 2, 3)])
def test_a_colour_is_no_copy_of_a_white_page_with_a_bar_at_its_edge(bar: int, colour: tuple[int, int, int]) -> None:
    page = np.full((16, 16, 3), 255, np.uint8)
    page[:, 0] = bar
    flat = np.broadcast_to(np.uint8(colour), (16, 16, 3))
    for first, second in ((page, flat), (flat, page)):
        score = thumbnail_match(first.reshape(1, 768), np.ascontiguousarray(second).reshape(1, 768))[0]
        assert score < 0.6


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
