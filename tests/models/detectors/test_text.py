"""Lines of text: what stands on the page of scikit-image is read where it stands."""

from __future__ import annotations

import importlib.util
import sys

import cv2
import numpy as np
import pytest
import skimage.data

from fastdup_dagster.models.detectors.base import Detection
from fastdup_dagster.models.detectors.text import TextDetector

needs_rapidocr = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None, reason="RapidOCR is not installed: pip install 'fastdup-dagster[ocr]'"
)


@pytest.fixture(scope="module")
def reader() -> TextDetector:
    return TextDetector()


@needs_rapidocr
def test_the_words_of_a_page_are_found_where_they_are(reader: TextDetector) -> None:
    page = np.stack([skimage.data.page()] * 3, axis=2)
    found = reader.detect(page)
    text = " ".join(detection.label for detection in found).lower()
    for word in ("region-based", "segmentation", "markers", "coins", "background", "histogram", "grey values"):
        assert word in text
    title = next(detection for detection in found if "Region-based" in detection.label)
    x, y, width, height = title.box
    assert x < 10 and y < 20 and 280 < width < 310 and 20 < height < 35
    assert all(0 < detection.confidence <= 1 for detection in found)
    assert [d.confidence for d in found] == sorted((d.confidence for d in found), reverse=True)


@needs_rapidocr
def test_a_tilted_line_has_four_corners_and_an_empty_page_nothing(reader: TextDetector) -> None:
    page = np.full((240, 420, 3), 255, np.uint8)
    assert reader.detect(page) == []
    cv2.putText(page, "tilted words", (40, 120), cv2.FONT_HERSHEY_DUPLEX, 1.4, (0, 0, 0), 2)
    turn = cv2.getRotationMatrix2D((210, 120), 15, 1)
    turned = cv2.warpAffine(page, turn, (420, 240), borderValue=(255, 255, 255))
    (found,) = reader.detect(turned)
    assert "tilted" in found.label
    assert len(found.box) == 8


def test_without_the_extra_the_error_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ImportError, match=r"bounding_box='ocr' needs RapidOCR: pip install 'fastdup-dagster\[ocr\]'"):
        TextDetector()


@needs_rapidocr
def test_faint_letters_that_are_large_in_a_small_image_are_read(reader: TextDetector) -> None:
    page = np.random.default_rng(0).normal(150, 3, (100, 300, 3)).clip(0, 255).astype(np.uint8)
    assert reader.detect(page) == []
    cv2.putText(page, "harbour", (40, 65), cv2.FONT_HERSHEY_DUPLEX, 1.4, (132, 132, 132), 2)
    (found,) = reader.detect(page)
    assert found.label == "harbour"
    x, y, width, height = found.box
    assert 30 < x < 50 and 20 < y < 45 and 150 < width < 260 and 25 < height < 60


@needs_rapidocr
def test_what_is_read_unsurely_is_no_box_and_what_is_there_is_found_with_the_lighting_evened(
    reader: TextDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    formula = np.stack([skimage.data.text()] * 3, axis=2)  # by hand, seen aslant: (s) = 1 ∫ t, (t-x) …, no word
    found = reader.detect(formula)
    assert [detection.label for detection in found] == ["=1"]
    assert all(detection.confidence >= 0.75 for detection in reader.detect(np.stack([skimage.data.page()] * 3, axis=2)))
    unsure = [Detection((0.0, 0.0, 9.0, 9.0), "=1", 0.7)]
    looks: list[int] = []
    monkeypatch.setattr(reader, "_read", lambda pixels: looks.append(1) or unsure[: len(looks)])
    assert reader.detect(formula) == [] and len(looks) == 3
    unsure.clear()
    assert reader.detect(formula) == [] and len(looks) == 5
