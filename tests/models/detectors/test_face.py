"""Faces: what the net finds at one of two sizes comes back in pixels of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastdup_dagster.models.detectors.face import FaceDetector
from tests.models.detectors.conftest import Write


def white_at(height: int, width: int, x: int, y: int, size: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + size, x : x + size] = 255
    return image


def test_a_face_comes_back_in_pixels_of_the_image(write_yunet: Write) -> None:
    detector = FaceDetector(write_yunet())
    # a white cell of stride 32: the model's box has its centre in the cell's corner
    (found,) = detector.detect(white_at(256, 320, 96, 64, 32))
    assert found.box == pytest.approx((80, 48, 32, 32), abs=1)
    assert (found.label, found.confidence) == ("face", pytest.approx(1))


def test_a_face_that_fills_a_large_image_is_seen_in_a_smaller_copy(write_yunet: Write) -> None:
    detector = FaceDetector(write_yunet())
    image = white_at(2560, 2560, 768, 512, 256)  # 32 pixels when 2560 are 320
    found = detector.detect(image)
    assert any(detection.box == pytest.approx((640, 384, 256, 256), abs=8) for detection in found)


def test_boxes_are_cut_off_at_the_edge(write_yunet: Write) -> None:
    (found,) = FaceDetector(write_yunet()).detect(white_at(256, 320, 0, 0, 32))
    assert found.box == pytest.approx((0, 0, 16, 16), abs=1)


def test_an_image_without_a_face_has_none(write_yunet: Write) -> None:
    assert FaceDetector(write_yunet()).detect(np.zeros((200, 100, 3), np.uint8)) == []


def test_another_model_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"other\.onnx: not a YuNet face detector"):
        FaceDetector(tmp_path / "other.onnx")
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx"):
        FaceDetector(tmp_path / "gone.onnx")
