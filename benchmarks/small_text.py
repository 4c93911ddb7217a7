"""How much text is read in small and faint images: this project's text detector against RapidOCR as it comes.

  python benchmarks/small_text.py [IMAGE ...]

Words are drawn on grey with noise, in several sizes, contrasts and tilts; a word counts if it stands in what is read.
Of each IMAGE, what both read is printed.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

from fastdup_dagster.images import decode
from fastdup_dagster.models.detectors.text import TextDetector

Pixels = npt.NDArray[np.uint8]
_WORDS = (
    "harbour window market silver planet engine orange kitchen doctor garden bottle simple number station yellow winter"
)
_LETTERS, _CONTRASTS, _TILTS = (10, 14, 20, 36, 64), (15, 30, 60, 120), (0, 20)
_SIZES = ((100, 300), (172, 448), (300, 400))


def samples() -> Iterator[tuple[dict[str, int], Pixels, list[str]]]:
    """What was drawn how, the picture, and its words."""
    rng = np.random.default_rng(0)
    for letters, contrast, tilt, (height, width) in itertools.product(_LETTERS, _CONTRASTS, _TILTS, _SIZES):
        font = ImageFont.load_default(letters)
        words = list(rng.choice(_WORDS.split(), 2, replace=False))
        page = Image.new("L", (width, height), 0)
        draw = ImageDraw.Draw(page)
        if draw.textlength(" ".join(words), font=font) > width - 10:
            words = words[:1]
        long = draw.textlength(" ".join(words), font=font)
        if long > width - 8:
            continue
        draw.text(((width - long) / 2, (height - letters) / 2), " ".join(words), fill=255, font=font)
        ink = np.asarray(page, dtype=np.float32) / 255
        if tilt:
            ink = cv2.warpAffine(ink, cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1), (width, height))
        light = np.linspace(-8, 8, height)[:, None]
        grey = 150 + light - contrast * ink + rng.normal(0, 3, (height, width))
        pixels = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        yield {"letters": letters, "contrast": contrast, "tilt": tilt}, pixels, words


def as_it_comes() -> Callable[[Pixels], list[str]]:
    """RapidOCR with its own settings, on one thread."""
    threads = ("intra_op_num_threads", "inter_op_num_threads")
    given = {f"EngineConfig.onnxruntime.{name}": 1 for name in threads} | {"Global.log_level": "critical"}
    reader = RapidOCR(params=given)
    return lambda pixels: list(reader(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)).txts or ())


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="*")
    given = parser.parse_args()
    detector = TextDetector()
    readers = {"RapidOCR": as_it_comes(), "this": lambda pixels: [found.label for found in detector.detect(pixels)]}
    drawn = list(samples())
    for name, read in readers.items():
        found: Counter[tuple[str, int]] = Counter()
        there: Counter[tuple[str, int]] = Counter()
        begun = time.perf_counter()
        for how, pixels, words in drawn:
            text = " ".join(read(pixels)).lower().replace(" ", "")
            for word, place in itertools.product(words, [("all", 0), *how.items()]):
                there[place] += 1
                found[place] += word in text
        seconds = time.perf_counter() - begun
        print(f"{name}: {found['all', 0]} of {there['all', 0]} words, {len(drawn)} images, {seconds:.0f} s")
        for part in ("letters", "contrast", "tilt"):
            shares = (f"{value}: {found[part, value]}/{there[part, value]}" for p, value in there if p == part)
            print(f"  {part} {', '.join(shares)}")
    for path in given.images:
        pixels = decode(path.read_bytes()).pixels
        for name, read in readers.items():
            print(f"{path.name}, {name}: {read(pixels)}")


if __name__ == "__main__":
    main()
