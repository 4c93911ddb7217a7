"""Boxes of a YOLOv5 are those of a decode written anew here, whatever the image's shape and the numbers' type."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdup_dagster.models.detectors.yolo import Letterbox, YoloDetector
from tests.models.detectors.conftest import Write, raw_boxes

SIDE = 96
NAMES = ["person", "cat", "tree"]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)]
    return shared / (sum(areas) - shared)


def decoded_anew(raw: np.ndarray, height: int, width: int, objectness: float) -> list[tuple[np.ndarray, int, float]]:
    """YOLOv5's rules one box at a time: score, order, suppress within a class, undo the letterbox."""
    ratio = min(SIDE / height, SIDE / width)
    wide, high = round(width * ratio), round(height * ratio)
    left, top = (SIDE - wide) // 2, (SIDE - high) // 2
    candidates = []
    for x, y, w, h, sure, *classes in raw.tolist():
        best = int(np.argmax(classes))
        score = sure * objectness * classes[best]
        if sure * objectness > 0.25 and score > 0.25:
            candidates.append((score, best, np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])))
    kept: list[tuple[np.ndarray, int, float]] = []
    for score, best, box in sorted(candidates, key=lambda item: -item[0]):
        if all(best != other or overlap(box, there) <= 0.45 for there, other, _ in kept):
            kept.append((box, best, score))
    limits = np.array([width, height] * 2)
    scale = np.array([width / wide, height / high] * 2)
    inside = [(np.clip((box - [left, top] * 2) * scale, 0, limits), best, score) for box, best, score in kept]
    return [item for item in inside if item[0][2] > item[0][0] and item[0][3] > item[0][1]]


@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (200, 333), (401, 150), (40, 31)])
def test_boxes_labels_and_scores_are_those_of_an_independent_decode(
    write_yolo: Write, height: int, width: int, fp16: bool
) -> None:
    raw = raw_boxes(height, SIDE, len(NAMES)).astype(np.float16 if fp16 else np.float32)
    detector = YoloDetector(write_yolo(raw, SIDE, fp16, NAMES))
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    # the corner of the square is image where it is square, else the grey around it
    objectness = 1.0 if height == width else 114 / 255
    found = detector.detect(image)
    if fp16:
        raw[:, 4] = raw[:, 4] * np.float16(objectness)
        objectness = 1.0
    expected = decoded_anew(raw.astype(np.float64), height, width, objectness)
    assert len(found) == len(expected) > 3
    for detection, (box, number, score) in zip(found, expected, strict=True):
        x, y, w, h = detection.box
        assert np.abs(np.array([x, y, x + w, y + h]) - box).max() < 0.01 * max(height, width) * 0.1
        assert detection.label == NAMES[number]
        assert detection.confidence == pytest.approx(score, abs=2e-3 if fp16 else 1e-5)


@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_openvino_finds_the_same_under_the_same_names(write_yolo: Write, fp16: bool) -> None:
    raw = raw_boxes(1, SIDE, len(NAMES)).astype(np.float16 if fp16 else np.float32)
    path = write_yolo(raw, SIDE, fp16, NAMES)
    image = np.full((96, 96, 3), 255, dtype=np.uint8)
    expected, found = (YoloDetector(path, (provider,), 2).detect(image) for provider in ("cpu", "openvino"))
    assert [detection.label for detection in found] == [detection.label for detection in expected]
    assert np.allclose([d.box for d in found], [d.box for d in expected], atol=0.05)


def test_the_square_is_the_image_in_the_middle_of_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 101, 3), dtype=np.uint8)
    made = Letterbox.of(image, 64, 64)
    resized = cv2.resize(image, (64, 32), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(made.pixels[16:48], resized)
    assert (made.pixels[:16] == 114).all() and (made.pixels[48:] == 114).all()
    assert (made.left, made.top, made.across, made.down) == (0, 16, 64 / 101, 32 / 50)
    corners = np.array([[0.0, 16.0, 64.0, 48.0]])
    assert np.allclose(made.back(corners), [[0, 0, 101, 50]])


def test_a_model_of_any_side_gets_640(write_yolo: Write) -> None:
    detector = YoloDetector(write_yolo(raw_boxes(1, 640, 2), "side"))
    assert detector.detect(np.full((640, 640, 3), 255, np.uint8))[0].label in ("class 0", "class 1")


def test_another_family_of_models_is_refused_with_its_shape(write_yolo: Write) -> None:
    with pytest.raises(ValueError, match=r"output \[1, 7, 400\]; expected \[n, boxes, 5 \+ classes\]"):
        YoloDetector(write_yolo(raw_boxes(1, SIDE, 2).T.copy(), SIDE))
    with pytest.raises(ValueError, match=r"output \[1, 400, 5\]; expected"):
        YoloDetector(write_yolo(raw_boxes(1, SIDE, 0), SIDE))


def test_a_name_that_is_no_list_of_names_does_no_harm(write_yolo: Write) -> None:
    import onnx
    from onnx import helper

    path = write_yolo(raw_boxes(1, SIDE, 2), SIDE)
    model = onnx.load(str(path))
    for text in ("__import__('os').abort()", "{0: ", "7"):
        helper.set_model_props(model, {"names": text})
        onnx.save(model, str(path))
        found = YoloDetector(path).detect(np.full((SIDE, SIDE, 3), 255, np.uint8))
        assert found[0].label.startswith("class ")


def test_the_id_changes_with_the_file(write_yolo: Write, tmp_path: Path) -> None:
    ids = {YoloDetector(write_yolo(raw_boxes(seed, SIDE, 2, 300 + seed), SIDE)).id for seed in (1, 2)}
    assert len(ids) == 2
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx"):
        YoloDetector(tmp_path / "gone.onnx")
