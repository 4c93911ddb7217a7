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
# RapidOCR enlarges an image to 736 pixels on the shorter side, however small it is. With twice its size at most, more
# text is found, and sooner: benchmarks/small_text.py. Its detector takes multiples of 32.
_SHORTER, _ENLARGED, _STEP = 736, 2, 32
# Where nothing is found, once more with the contrast stretched between these percentiles of the values.
_FAINT = (1, 99)
_LEAST_CONTRAST = 8
# What is read less surely is wrong as a rule: of the drawn words of benchmarks/small_text.py nothing right is lost.
_SURE = 0.75
# Of the shorter side: the blur whose result is the lighting of the page, not what is written on it.
_LIGHTING = 1 / 12
_LIGHTING_SIDE = 256
_PAPER = 200


def text_id() -> str:
    """What decides which text is found: RapidOCR's version and the hashes of its models.

    Raises:
        ImportError: if RapidOCR is not installed, with the command.
        FileNotFoundError: if its package does not carry its models.
    """
    hashes = " ".join(model_sha256(path) for path in _models().values())
    rules = f"{_SHORTER} {_ENLARGED} {_FAINT} {_LEAST_CONTRAST} {_SURE} {_LIGHTING:.4f} {_LIGHTING_SIDE} {_PAPER}"
    return f"ocr rapidocr {importlib.metadata.version('rapidocr')} {hashes} {rules}"


class TextDetector:
    """Finds lines of text and reads them.

    Raises:
        ImportError: if RapidOCR is not installed, with the command.
        FileNotFoundError: if its package does not carry its models.
    """

    def __init__(self) -> None:
        self._models = _models()
        self._reader = PerThread(self._open)
        self.id = text_id()
        self._reader()  # what cannot be opened is said now

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The lines of text in an image H x W x 3, uint8, RGB; the surest first, none of less than `_SURE`."""
        found = self._read(pixels)
        if not _sure(found):
            found += self._read(_stretched(pixels))
        # Where nothing looks like text, a third look would cost much and find nothing.
        if found and not _sure(found):
            found = self._read(_stretched(_evened(pixels)))
        return _sure(found)

    def _read(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        if not pixels.size:
            return []
        reader = self._reader()
        reader.text_det.limit_side_len = _side(*pixels.shape[:2])
        found = reader(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if found.boxes is None or found.txts is None or found.scores is None:
            return []
        rows = zip(found.boxes, found.txts, found.scores, strict=True)
        detections = [Detection(_box(box, *pixels.shape[:2]), str(text), float(score)) for box, text, score in rows]
        said = (detection for detection in detections if detection.box and detection.label.strip())
        return sorted(said, key=lambda detection: -detection.confidence)

    def _open(self) -> Any:
        from rapidocr import RapidOCR

        # Paths that are given are never downloaded.
        paths = {f"{part}.model_path": str(path) for part, path in self._models.items()}
        reader = RapidOCR(
            params={
                **paths,
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        reader(np.full((64, 64, 3), 255, dtype=np.uint8))  # models are loaded by the first call
        return reader


def _side(height: int, width: int) -> int:
    """Pixels that the shorter side is enlarged to before text is looked for."""
    return max(_STEP, min(_SHORTER, _ENLARGED * min(height, width)) // _STEP * _STEP)


def _sure(found: list[Detection]) -> list[Detection]:
    return [detection for detection in found if detection.confidence >= _SURE]


def _evened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as if it were lit evenly: shadows and stains are gone, strokes stay."""
    height, width = pixels.shape[:2]
    # Light changes slowly: a small image shows it, and the blur of a large one costs seconds.
    smaller = min(1.0, _LIGHTING_SIDE / min(height, width))
    size = max(1, round(width * smaller)), max(1, round(height * smaller))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (0, 0), max(2.0, min(small.shape[:2]) * _LIGHTING))
    evened = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    np.divide(pixels, np.maximum(evened, 1, out=evened), out=evened)
    evened *= _PAPER
    return np.clip(evened, 0, 255, out=evened).astype(np.uint8)


def _stretched(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with faint differences made larger; empty if it has none, or they are as large as can be."""
    low, high = np.percentile(pixels, _FAINT)
    if high - low < _LEAST_CONTRAST or (low, high) == (0, 255):
        return np.empty((0, 0, 3), dtype=np.uint8)
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return table[pixels]


def _models() -> dict[str, Path]:
    try:
        import rapidocr
    except ImportError as error:
        raise ImportError(_MISSING) from error
    folder = Path(rapidocr.__file__).parent / "models"
    return {part: _only(folder, name) for part, name in _PARTS.items()}


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
