"""Views of the calibration images: windows of each, and copies of every window as people and programs make them.

What differs between the copies of one window should not count when images are compared; what differs between windows
should. The projection is made from the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from lite0_network import Array

# uint8 [height, width, 3], RGB, in and out; every draw from the generator gives another copy.
RandomEdit = Callable[[Array, np.random.Generator], Array]

# Windows of an image, the whole first, and views of each: the window itself, then its copies.
WINDOWS = 4
VIEWS = 24
WINDOW_SIDES = (0.35, 0.7)
SEED = 0
_TWO_EDITS = 0.25


def view_groups(images: Sequence[Path], side: int) -> Iterator[Array]:
    """For each window of each image its views, uint8 [VIEWS, side, side, 3], resized by area."""
    for number, path in enumerate(images):
        random = np.random.default_rng([SEED, number])
        pixels = read_pixels(path)
        for window in range(WINDOWS):
            part = pixels if window == 0 else _window(pixels, random, random.uniform(*WINDOW_SIDES))
            copies = [_edited(part, random) for _ in range(VIEWS - 1)]
            yield np.stack([square(view, side) for view in (part, *copies)])


def read_pixels(path: Path) -> Array:
    """Decode an image at full size: uint8 [height, width, 3], RGB.

    Raises:
        ValueError: the file is not an image that OpenCV can decode.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"not a readable image: {path.name}")
    pixels: Array = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return pixels


def square(pixels: Array, side: int) -> Array:
    """`side` x `side` x 3, resized by area."""
    resized: Array = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return resized


def _edited(pixels: Array, random: np.random.Generator) -> Array:
    for edit in random.choice(len(_EDITS), 2 if random.random() < _TWO_EDITS else 1, replace=False):
        pixels = np.ascontiguousarray(_EDITS[edit](pixels, random))
    return pixels


def _window(pixels: Array, random: np.random.Generator, share: float) -> Array:
    """A part at a random place, `share` of each side."""
    height, width = (max(8, int(side * share)) for side in pixels.shape[:2])
    top = random.integers(0, pixels.shape[0] - height + 1)
    left = random.integers(0, pixels.shape[1] - width + 1)
    return pixels[top : top + height, left : left + width]


def _crop(pixels: Array, random: np.random.Generator) -> Array:
    return _window(pixels, random, random.uniform(0.45, 1.0))


def _mirror(pixels: Array, _: np.random.Generator) -> Array:
    return pixels[:, ::-1]


def _expose(pixels: Array, random: np.random.Generator) -> Array:
    return cv2.convertScaleAbs(pixels, alpha=random.uniform(0.4, 1.7), beta=random.uniform(-20, 30))


def _soften(pixels: Array, random: np.random.Generator) -> Array:
    return cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.8, 4.0))


def _tilt(pixels: Array, random: np.random.Generator) -> Array:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-25, 25), 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height))


def _turn(pixels: Array, random: np.random.Generator) -> Array:
    return np.rot90(pixels, int(random.integers(1, 4)))


def _grey(pixels: Array, _: np.random.Generator) -> Array:
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _saturate(pixels: Array, random: np.random.Generator) -> Array:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = cv2.convertScaleAbs(hsv[..., 1], alpha=random.uniform(0.3, 2.2)).reshape(hsv.shape[:2])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _frame(pixels: Array, random: np.random.Generator) -> Array:
    widths = [int(share * min(pixels.shape[:2])) for share in random.uniform(0, 0.25, 4)]
    value = int(random.choice([0, 128, 255]))
    return cv2.copyMakeBorder(pixels, *widths, cv2.BORDER_CONSTANT, value=(value, value, value))


def _compress(pixels: Array, random: np.random.Generator) -> Array:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(10, 60))]
    # Channels in the wrong order and back: the codec's loss on them is of the same kind.
    return cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR)


def _shrink(pixels: Array, random: np.random.Generator) -> Array:
    share = random.uniform(0.2, 0.6)
    return cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def _write(pixels: Array, random: np.random.Generator) -> Array:
    """A word of random letters in black, white or a strong colour."""
    word = "".join(chr(ord("A") + letter) for letter in random.integers(0, 26, int(random.integers(3, 14))))
    font, (height, width) = int(random.integers(0, 8)), pixels.shape[:2]
    scale = width / cv2.getTextSize(word, font, 1.0, 2)[0][0] * random.uniform(0.4, 1.0)
    grey = [int(random.choice([0, 255]))] * 3
    colour = [int(value) for value in random.choice([0, 255], 3)] if random.random() < 0.3 else grey
    place = int(random.uniform(0, 0.3) * width), int(random.uniform(0.2, 0.9) * height)
    return cv2.putText(pixels.copy(), word, place, font, scale, colour, max(1, int(3 * scale)))


# Windows are the copies that differ most: they are drawn twice as often.
_EDITS: tuple[RandomEdit, ...] = (
    _crop,
    _crop,
    _mirror,
    _expose,
    _soften,
    _tilt,
    _turn,
    _grey,
    _saturate,
    _frame,
    _compress,
    _shrink,
    _write,
)
