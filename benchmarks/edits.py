"""The 15 edits that copy detection is measured with, and JPEG sets made by them. Needs numpy and OpenCV alone.

Every run makes the same edits: the random ones are seeded by photo and edit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# uint8 [height, width, 3], RGB, in and out.
Edit = Callable[[Array, np.random.Generator], Array]

SEED = 20261122
ORIGINAL = "original"
_JPEG_QUALITIES = (75, 95)


def _shrink(image: Array, _: np.random.Generator) -> Array:
    return cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)


def _compress(image: Array, _: np.random.Generator) -> Array:
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    return _rgb(cv2.imdecode(encoded, cv2.IMREAD_COLOR), "the JPEG of an edit")


def _crop(side: float) -> Edit:
    """Keep `side` of the width and of the height, at a random place."""

    def edit(image: Array, random: np.random.Generator) -> Array:
        height, width = (round(length * side) for length in image.shape[:2])
        top = int(random.integers(0, image.shape[0] - height + 1))
        left = int(random.integers(0, image.shape[1] - width + 1))
        return image[top : top + height, left : left + width]

    return edit


def _flip(image: Array, _: np.random.Generator) -> Array:
    return cv2.flip(image, 1)


def _brighten(image: Array, _: np.random.Generator) -> Array:
    return cv2.convertScaleAbs(image, alpha=1.5, beta=20)


def _darken(image: Array, _: np.random.Generator) -> Array:
    return cv2.convertScaleAbs(image, alpha=0.5)


def _blur(image: Array, _: np.random.Generator) -> Array:
    return cv2.GaussianBlur(image, (0, 0), 3)


def _tilt(image: Array, _: np.random.Generator) -> Array:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 15, 1.0)
    return cv2.warpAffine(image, matrix, (width, height))


def _turn(image: Array, _: np.random.Generator) -> Array:
    return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)


def _write_text(image: Array, _: np.random.Generator) -> Array:
    """White letters across the whole width, in the middle."""
    text, font = "SAMPLE TEXT", cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _baseline = cv2.getTextSize(text, font, 1.0, 2)
    scale = image.shape[1] / width
    origin = (0, int((image.shape[0] + height * scale) / 2))
    return cv2.putText(image.copy(), text, origin, font, scale, (255, 255, 255), max(2, round(3 * scale)))


def _grey(image: Array, _: np.random.Generator) -> Array:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _saturate(image: Array, _: np.random.Generator) -> Array:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = cv2.convertScaleAbs(hsv[..., 1], alpha=2.0).reshape(hsv.shape[:2])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _border(image: Array, _: np.random.Generator) -> Array:
    return cv2.copyMakeBorder(image, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def _widen(image: Array, _: np.random.Generator) -> Array:
    return cv2.resize(image, None, fx=1.5, fy=1.0, interpolation=cv2.INTER_LINEAR)


EDITS: dict[str, Edit] = {
    "resize 0.4": _shrink,
    "JPEG quality 20": _compress,
    "crop 80 %": _crop(0.8),
    "crop 50 %": _crop(0.5),
    "horizontal flip": _flip,
    "x1.5 + 20": _brighten,
    "x0.5": _darken,
    "blur sigma 3": _blur,
    "rotate 15": _tilt,
    "rotate 90": _turn,
    "text": _write_text,
    "grey": _grey,
    "saturation x2": _saturate,
    "border 60 px": _border,
    "width x1.5": _widen,
}


def edited(image: Array, number: int, edit: str) -> Array:
    """One edit of photo `number`: uint8 [height, width, 3]; the same on every run."""
    random = np.random.default_rng([SEED, number, list(EDITS).index(edit)])
    return EDITS[edit](image, random)


def read_rgb(path: Path) -> Array:
    """Decode at full size: uint8 [height, width, 3]. Raises ValueError for a file that is not an image."""
    return _rgb(cv2.imread(str(path), cv2.IMREAD_COLOR), path.name)


def _rgb(image: Array | None, name: str) -> Array:
    if image is None:
        raise ValueError(f"not a readable image: {name}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_rgb(path: Path, image: Array, *options: int) -> None:
    """Encode as the suffix says. Raises OSError if it cannot be written."""
    if not cv2.imwrite(str(path), cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), options):
        raise OSError(f"could not write {path}")


def make_jpegs(photos: Sequence[Path], folder: Path, count: int) -> None:
    """Write `count` JPEGs: every photo in turn, untouched the first time round, then by a random edit and quality.

    Raises:
        FileExistsError: `folder` holds files already.
        ValueError: there are no photos.
    """
    if not photos:
        raise ValueError("no photos to make JPEGs from")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: leave out --make-from to measure on what is there")
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    for place in range(count):
        turn, number = divmod(place, len(photos))
        edit = ORIGINAL if turn == 0 else str(random.choice(list(EDITS)))
        quality = int(random.integers(*_JPEG_QUALITIES, endpoint=True))
        image = read_rgb(photos[number])
        image = image if edit == ORIGINAL else EDITS[edit](image, random)
        name = f"{place:05d}_{edit.replace(' ', '_').replace('%', 'percent')}.jpg"
        write_rgb(folder / name, image, cv2.IMWRITE_JPEG_QUALITY, quality)
