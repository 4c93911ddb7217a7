"""Lines of text, by RapidOCR with the models that its package carries (extra `ocr`)."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.detectors.base import Detection, PerThread
from fastdup_dagster.models.files import model_sha256

_MISSING = "bounding_box='ocr' needs RapidOCR: pip install 'fastdup-dagster[ocr]'"
_PARTS = {"Det": "det", "Cls": "cls", "Rec": "rec"}
# Corners that are nearer than this to those of an upright box are one, in pixels.
_UPRIGHT = 1.5


class TextDetector:
    """Finds lines of text and reads them.

    Raises:
        ImportError: if RapidOCR is not installed, with the command.
        FileNotFoundError: if its package does not carry its models.
    """

    def __init__(self) -> None:
        try:
            import rapidocr
        except ImportError as error:
            raise ImportError(_MISSING) from error
        folder = Path(rapidocr.__file__).parent / "models"
        self._models = {part: _only(folder, name) for part, name in _PARTS.items()}
        self._reader = PerThread(self._open)
        hashes = " ".join(model_sha256(path) for path in self._models.values())
        self.id = f"ocr rapidocr {importlib.metadata.version('rapidocr')} {hashes}"
        self._reader()  # what cannot be opened is said now

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The lines of text in an image H x W x 3, uint8, RGB; the surest first."""
        found = self._reader()(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if found.boxes is None or found.txts is None or found.scores is None:
            return []
        rows = zip(found.boxes, found.txts, found.scores, strict=True)
        detections = [Detection(_box(box, *pixels.shape[:2]), str(text), float(score)) for box, text, score in rows]
        return sorted((d for d in detections if d.box), key=lambda detection: -detection.confidence)

    def _open(self) -> Any:
        from rapidocr import RapidOCR

        # Paths that are given are never downloaded.
        paths = {f"{part}.model_path": str(path) for part, path in self._models.items()}
        return RapidOCR(
            params={
                **paths,
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"*_{name}_*.onnx"))
    if not found:
        raise FileNotFoundError(f"RapidOCR's package carries no {name} model in {folder}: pip install 'rapidocr>=3'")
    return found[0]


def _box(corners: Any, height: int, width: int) -> tuple[float, ...]:
    """An upright box as x, y, width, height, a tilted one as four corners; empty if nothing of it is in the image."""
    points = np.clip(np.asarray(corners, dtype=np.float64), 0, [width, height])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if right <= left or bottom <= top:
        return ()
    upright = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    if np.abs(points - upright).max() <= _UPRIGHT:
        return (float(left), float(top), float(right - left), float(bottom - top))
    return tuple(points.ravel().tolist())
