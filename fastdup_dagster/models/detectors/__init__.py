"""What finds things in images: faces, text, the objects of a YOLOv5."""

from fastdup_dagster.models.detectors.base import Detection, Detector
from fastdup_dagster.models.detectors.opening import detector_id, open_detector

__all__ = ["Detection", "Detector", "detector_id", "open_detector"]
