"""Which defects the demo has, how many, and where. The strengths are such that an untrained eye sees the pair."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import polars as pl

from fastdup_dagster.demo import drawings, edits
from fastdup_dagster.demo.photos import Image

TRAIN, TEST = SPLITS = ("train", "test")

KINDS: dict[str, str] = {
    "exact_copy": "the same bytes under another name",
    "near_copy": "the same picture cropped, compressed, resized, mirrored, or at another brightness",
    "leak": "a picture of train that also stands in test, as it is or edited",
    "blurry": "Gaussian blur of sigma 3 to 6 pixels",
    "dark": "underexposed: mean under 4 of 255",
    "bright": "overexposed: mean over 253 of 255",
    "truncated": "the first half of a JPEG's bytes",
    "broken": "no image at all, named .jpg",
    "outlier": "a picture unlike any of the others",
}

PLANTED_SCHEMA = pl.Schema(
    dict.fromkeys(("kind", "split", "filename", "other_split", "other_filename", "edit"), pl.String)
)

COPY = "copy"

# Quality 20 and half the size only for images that are large enough: on the small tiles they leave so little that
# the model's cosine falls under the default threshold.
NEAR_EDITS: dict[str, tuple[str, Callable[[Image, Random], bytes]]] = {
    "crop": ("crop to 0.9 of each side", lambda pixels, rng: edits.encode(edits.crop(pixels, 0.9, rng))),
    "jpeg": ("JPEG quality 20", lambda pixels, rng: edits.encode(pixels, 20)),
    "jpeg30": ("JPEG quality 30", lambda pixels, rng: edits.encode(pixels, 30)),
    "halved": ("resize by 0.5", lambda pixels, rng: edits.encode(edits.resize(pixels, 0.5))),
    "resize": ("resize by 0.7", lambda pixels, rng: edits.encode(edits.resize(pixels, 0.7))),
    "flip": ("mirrored", lambda pixels, rng: edits.encode(edits.flip(pixels))),
    "brighter": ("brightness times 1.25 plus 15", lambda pixels, rng: edits.encode(edits.gain(pixels, 1.25, 15))),
    "darker": ("brightness times 0.6", lambda pixels, rng: edits.encode(edits.gain(pixels, 0.6))),
}

# Photos of one or two tiles have no relatives, so they would be outliers themselves: they stay in train, where
# their near copies keep them company.
NEAR_OF_SMALL_FAMILIES = (
    ("galaxies-01", "halved"),
    ("galaxies-01", "jpeg"),
    ("retina-01", "jpeg"),
    ("retina-01", "halved"),
    ("chelsea-01", "jpeg"),
    ("chelsea-02", "crop"),
    ("text-01", "halved"),
    ("text-02", "jpeg30"),
)
# Kind, split of the original, split of the edited copy, edit. Crops come first, because the fewest tiles stand them.
EDITED = (
    ("near_copy", TRAIN, TRAIN, "crop"),
    ("near_copy", TEST, TEST, "crop"),
    ("leak", TRAIN, TEST, "crop"),
    ("near_copy", TRAIN, TRAIN, "resize"),
    ("leak", TRAIN, TEST, "resize"),
    ("near_copy", TRAIN, TRAIN, "darker"),
    ("leak", TRAIN, TEST, "darker"),
    ("near_copy", TRAIN, TRAIN, "flip"),
    ("near_copy", TEST, TEST, "flip"),
    ("leak", TRAIN, TEST, "flip"),
    ("near_copy", TRAIN, TRAIN, "brighter"),
    ("near_copy", TEST, TEST, "brighter"),
)
TRUNCATED = {TRAIN: 2, TEST: 1}
BLURRY = {TRAIN: 3, TEST: 2}
WRONGLY_EXPOSED = {TRAIN: 3, TEST: 2}
TEST_IMAGES = 10

# One list per image that is copied: the names of its copies, made of its own.
EXACT = {
    TRAIN: (("{}'s copy, 100% #2.jpg", "{} (1).jpg"), ("Copy of {}.jpg",), ("{}_final.jpg",)),
    TEST: (("{}_v2.jpg",),),
}
EXACT_LEAK = "{}_again.jpg"

BROKEN: dict[str, dict[str, tuple[str, bytes]]] = {
    TRAIN: {
        "notes.jpg": ("a text file", b"Remember to ask for the missing photos.\n" * 40),
        "upload failed.jpg": ("no bytes", b""),
    },
    TEST: {"readme.jpg": ("a text file", b"These images are not for training.\n" * 40)},
}

OUTLIERS: dict[str, dict[str, Callable[[Random], Image]]] = {
    TRAIN: {
        "zone plate.jpg": drawings.zone_plate,
        "circuit board.jpg": drawings.circuit_board,
        "honeycomb.jpg": drawings.honeycomb,
    },
    TEST: {"mosaic.jpg": drawings.mosaic},
}
