"""Which detector a `bounding_box` means."""

from __future__ import annotations

from pathlib import Path

from fastdup_dagster import constants as FD
from fastdup_dagster.models.detectors.base import Detector
from fastdup_dagster.models.store import ModelStore
from fastdup_dagster.settings import Settings

_YUNET = "yunet"


def open_detector(settings: Settings) -> Detector:
    """Opens the detector that `bounding_box` names: `face`, `ocr`, `yolov5s`, or the path of a YOLOv5 in ONNX.

    Raises:
        FileNotFoundError: if its model is not there, with the command that brings it.
        ImportError: if its extra is not installed, with the command.
        ValueError: if the file is no such model, or was changed.
    """
    name = settings.bounding_box or ""
    if name == "ocr":
        from fastdup_dagster.models.detectors.text import TextDetector

        return TextDetector()
    if name == "face":
        from fastdup_dagster.models.detectors.face import FaceDetector

        return FaceDetector(_stored(_YUNET, name))
    from fastdup_dagster.models.detectors.yolo import YoloDetector

    return YoloDetector(_yolo_path(name), settings.providers, settings.threads)


def detector_id(settings: Settings) -> str:
    """The `id` of the detector that `open_detector` gives, by its files alone: no model is opened.

    Raises:
        FileNotFoundError: if its model is not there, with the command that brings it.
        ImportError: if its extra is not installed, with the command.
        ValueError: if a model of the store was changed.
    """
    name = settings.bounding_box or ""
    if name == "ocr":
        from fastdup_dagster.models.detectors.text import text_id

        return text_id()
    if name == "face":
        from fastdup_dagster.models.detectors.face import face_id

        return face_id(_stored(_YUNET, name))
    from fastdup_dagster.models.detectors.yolo import yolo_id

    return yolo_id(_yolo_path(name))


def _yolo_path(name: str) -> Path:
    return _stored(name, name) if name == FD.YOLOV5S_MODEL else Path(name).expanduser()


def _stored(model: str, name: str) -> Path:
    stored = ModelStore().require(model, f"bounding_box={name!r}")
    stored.check()
    return stored.graph
