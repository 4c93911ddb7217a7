"""One working square for statistics, thumbnail and model: area averages, aspect lost, small images as they are."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastdup_dagster.images import WORKING_SIDE, Decoded, decode, statistics, thumbnail, to_square, working_image
from fastdup_dagster.stages.decode_worker import DECODE_SIDE


def block_means(pixels: np.ndarray, side: int) -> np.ndarray:
    """Area averaging by an integer ratio: the mean of each block."""
    height, width = pixels.shape[0] // side, pixels.shape[1] // side
    return pixels.reshape(side, height, side, width, 3).mean(axis=(1, 3))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo_like(height: int, width: int) -> np.ndarray:
    """Detail at every scale, less of it the finer it is, as photos have it."""
    total = np.zeros((height, width, 3))
    for level in range(1, 9):
        coarse = np.random.default_rng(level).normal(0, 60 / level, (2**level, 2**level, 3))
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_the_square_is_the_area_average_at_integer_ratios(down: int, across: int, seed: int) -> None:
    side = 16
    pixels = noise(side * down, side * across, seed)
    assert np.abs(to_square(pixels, side) - block_means(pixels, side)).max() <= 0.51


@given(st.integers(10, 500), st.integers(10, 500))
def test_the_square_is_always_224_and_keeps_the_mean(height: int, width: int) -> None:
    pixels = noise(height, width)
    square = to_square(pixels)
    assert square.shape == (WORKING_SIDE, WORKING_SIDE, 3)
    assert square.dtype == np.uint8
    assert abs(square.mean() - pixels.mean()) < 6


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("shape", [(10, 10), (20, 9000), (300, 300), (100, 500), (225, 223)])
def test_a_flat_image_stays_flat(value: int, shape: tuple[int, int]) -> None:
    square = to_square(np.full((*shape, 3), value, np.uint8))
    assert np.unique(square).tolist() == [value]
    assert np.unique(thumbnail(square)).tolist() == [value]


@pytest.mark.parametrize(
    ("width", "height", "is_square"), [(224, 224, False), (225, 10, True), (10, 225, True), (30, 40, False)]
)
def test_statistics_see_the_square_if_either_true_side_is_over_224_else_the_image(
    width: int, height: int, is_square: bool
) -> None:
    pixels = noise(height, width)
    expected = to_square(pixels) if is_square else pixels
    assert np.array_equal(working_image(Decoded(pixels, width, height, "png")), expected)


def test_a_large_jpeg_that_was_decoded_at_a_smaller_scale_still_counts_as_large() -> None:
    pixels = noise(200, 200)
    assert np.array_equal(working_image(Decoded(pixels, 1600, 1600, "jpeg")), to_square(pixels))


def test_the_thumbnail_is_the_mean_of_blocks_of_14_by_14() -> None:
    square = noise(224, 224)
    assert thumbnail(square).shape == (16, 16, 3)
    assert np.abs(thumbnail(square) - block_means(square, 16)).max() <= 0.51


def test_the_statistics_of_a_large_image_are_those_of_its_area_average() -> None:
    pixels = photo_like(672, 896)
    found = statistics(working_image(Decoded(pixels, 896, 672, "png")))
    averaged = block_means(pixels, 224)
    assert found["mean"] == pytest.approx(averaged.mean(), abs=0.1)
    assert found["stdv"] == pytest.approx(averaged.reshape(-1, 3).std(axis=0).mean(), abs=0.1)


def test_statistics_of_a_jpeg_at_a_smaller_scale_are_near_those_at_full_size() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo_like(1500, 2000)).save(buffer, "JPEG", quality=92)
    full, reduced = (decode(buffer.getvalue(), min_side=side) for side in (0, DECODE_SIDE))
    assert reduced.pixels.size < full.pixels.size / 3
    first, second = (statistics(working_image(image)) for image in (full, reduced))
    assert second["mean"] == pytest.approx(first["mean"], abs=0.5)
    assert second["stdv"] == pytest.approx(first["stdv"], rel=0.01)
    assert second["blur"] == pytest.approx(first["blur"], rel=0.1)
    assert abs(second["min"] - first["min"]) <= 6
    assert abs(second["max"] - first["max"]) <= 6
