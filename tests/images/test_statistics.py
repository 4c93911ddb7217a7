"""Statistics equal an independent computation in numpy, straight from the formulas of the contract."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastdup_dagster.images.statistics import ADVANCED_NAMES, BASIC_NAMES, BLUR_SCALE, blur, statistics

images = hnp.arrays(
    np.uint8, st.tuples(st.integers(10, 24), st.integers(10, 24), st.just(3)), elements=st.integers(0, 255)
)


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 luma, rounded."""
    return np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.int64)


def laplacian_variance(grey: np.ndarray) -> float:
    """Population variance of the 4-neighbour Laplacian; the border mirrors without repeating its pixel."""
    padded = np.pad(grey.astype(np.int64), 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float((around - 4 * grey.astype(np.int64)).var())


def hsv_means(pixels: np.ndarray) -> tuple[float, float, float]:
    """Means of H (0 to 179), S and V (0 to 255) from their textbook definition."""
    rgb = pixels.reshape(-1, 3).astype(float)
    high, low = rgb.max(axis=1), rgb.min(axis=1)
    spread = np.where(high > low, high - low, 1.0)
    r, g, b = rgb.T
    sector = np.where(high == r, (g - b) / spread, np.where(high == g, 2 + (b - r) / spread, 4 + (r - g) / spread))
    hue = np.where(high > low, (sector * 60) % 360, 0) / 2
    saturation = np.where(high > 0, 255 * (high - low) / np.maximum(high, 1), 0)
    return float(hue.mean()), float(saturation.mean()), float(high.mean())


@given(images)
def test_the_basic_statistics_are_those_of_the_formulas(pixels: np.ndarray) -> None:
    found = statistics(pixels)
    flat = pixels.reshape(-1, 3).astype(float)
    assert found["mean"] == pytest.approx(flat.mean(axis=0).mean())
    assert found["stdv"] == pytest.approx(flat.std(axis=0).mean(), abs=1e-9)
    assert (found["min"], found["max"]) == (pixels.min(), pixels.max())
    assert found["unique"] == len(np.unique(pixels))
    low, high = int(pixels.min()), int(pixels.max())
    assert found["contrast"] == pytest.approx((high - low) / (high + low) if high + low else 0)
    assert set(found) == set(BASIC_NAMES)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(10, 24), st.integers(10, 24)), elements=st.integers(0, 255)))
def test_blur_is_the_variance_of_the_laplacian_times_its_scale(grey: np.ndarray) -> None:
    assert blur(grey) == pytest.approx(laplacian_variance(grey) * BLUR_SCALE, rel=1e-9, abs=1e-6)


@given(images)
def test_blur_looks_at_the_grey_image_not_at_one_channel(pixels: np.ndarray) -> None:
    expected = laplacian_variance(grey_of(pixels)) * BLUR_SCALE
    assert statistics(pixels)["blur"] == pytest.approx(expected, rel=0.02, abs=20)


def test_the_scale_of_blur_takes_v1s_threshold_of_150_to_79_and_is_documented() -> None:
    assert pytest.approx(150 / 79) == BLUR_SCALE
    source = Path(sys.modules[blur.__module__].__file__).read_text(encoding="utf-8")
    assert "150" in source[: source.index("BLUR_SCALE =")]


@given(images)
def test_the_advanced_statistics_are_those_of_the_formulas(pixels: np.ndarray) -> None:
    found = statistics(pixels, advanced=True)
    means, deviations = pixels.reshape(-1, 3).mean(axis=0), pixels.reshape(-1, 3).std(axis=0)
    assert [found[f"mean_{c}"] for c in "rgb"] == pytest.approx(means)
    assert [found[f"mean_rel_intensity_{c}"] for c in "rgb"] == pytest.approx(
        means / means.sum() if means.sum() else [0] * 3
    )
    ratios = [d / m if m else 0 for d, m in zip(deviations, means, strict=True)]
    assert found["rms_contrast"] == pytest.approx(np.sqrt(np.mean(np.square(ratios))))
    hue, saturation, value = hsv_means(pixels)
    assert found["mean_hue"] == pytest.approx(hue, abs=0.6)
    assert found["mean_saturation"] == pytest.approx(saturation, abs=0.6)
    assert found["mean_val"] == pytest.approx(value)
    assert 0 <= found["edge_density"] <= 1
    assert set(found) == {*BASIC_NAMES, *ADVANCED_NAMES}


def test_red_is_red_and_blue_is_blue() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:, :, 0] = 200
    found = statistics(pixels, advanced=True)
    assert (found["mean_r"], found["mean_g"], found["mean_b"]) == (200, 0, 0)
    assert (found["mean_rel_intensity_r"], found["mean_hue"], found["mean_saturation"]) == (1, 0, 255)


def test_a_black_image_has_no_contrast_and_no_division_by_zero() -> None:
    found = statistics(np.zeros((12, 12, 3), np.uint8), advanced=True)
    assert found["unique"] == 1
    assert all(np.isfinite(value) for value in found.values())
    assert all(value == 0 for name, value in found.items() if name != "unique")


def test_an_edge_is_counted_and_a_flat_image_has_none() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    assert statistics(pixels, advanced=True)["edge_density"] == pytest.approx(1 / 40, abs=1 / 40)
    assert statistics(np.full((40, 40, 3), 9, np.uint8), advanced=True)["edge_density"] == 0


def test_a_sharp_image_scores_higher_than_its_blurred_copy() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    soft = (noise[:-1, :-1].astype(int) + noise[1:, :-1] + noise[:-1, 1:] + noise[1:, 1:]) // 4
    assert statistics(noise)["blur"] > 3 * statistics(soft.astype(np.uint8))["blur"]


def test_statistics_do_not_mind_how_the_pixels_lie_in_memory() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    view = np.asfortranarray(pixels)
    assert statistics(view, advanced=True) == statistics(pixels, advanced=True)
