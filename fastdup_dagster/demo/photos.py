"""The photos that the demo is cut from: which ones, where they come from, and the tiles.

Only files that the scikit-image wheel itself ships, and of these only the ones that scikit-image's documentation
(the docstrings of `skimage.data`, release 0.26) calls CC0 or released into the public domain. Left out although
they ship: those of no stated or no clear licence (moon, page, coins, ihc, the motorcycle pair, lfw_subset, logo,
color); textures, whose tiles resemble each other (brick, grass, gravel); pictures that are blurred or nearly
empty by nature (clock_motion, cell), too small (microaneurysms) or no photos (horse). Of the star field and the
retina there is one image each, the whole photo, because their parts resemble each other.

The tiles of a photo do not overlap. They were chosen by the bundled model, out of many random ways to cut, so that no
two are alike and none is blurred; `tests/test_demo_found.py` looks at that. `edits` names the changes after which a
tile is still clearly the same picture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Tile:
    """A part of a photo, in pixels, and the edits it stands (words of `plants.NEAR_EDITS`, and `half`)."""

    x: int
    y: int
    width: int
    height: int
    edits: frozenset[str]


@dataclass(frozen=True)
class Photo:
    """A picture of the wheel, with its source and licence as scikit-image states them."""

    name: str
    file: str
    sha256: str
    source: str
    licence: str
    tiles: tuple[Tile, ...] = ()


@dataclass(frozen=True)
class Base:
    """An image of the demo before anything is done to it; `pixels` are H x W x 3, uint8, RGB."""

    name: str
    photo: str
    pixels: Image
    edits: frozenset[str]


_LETTERS = {"c": "crop", "r": "resize", "f": "flip", "b": "brighter", "d": "darker", "h": "half"}


def _tiles(*rows: tuple[int, int, int, int, str]) -> tuple[Tile, ...]:
    return tuple(Tile(x, y, w, h, frozenset(_LETTERS[letter] for letter in edits)) for x, y, w, h, edits in rows)


PHOTOS: tuple[Photo, ...] = (
    Photo(
        "astronaut",
        "astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "NASA Great Images database, https://flic.kr/p/r9qvLn",
        "no known copyright restrictions, released into the public domain",
        _tiles(
            (0, 0, 212, 124, "rfbdh"),
            (212, 0, 150, 124, "crfbdh"),
            (0, 124, 137, 126, "rfbdh"),
            (137, 124, 131, 126, "fbdh"),
            (0, 250, 125, 128, "rfbh"),
            (125, 250, 126, 128, "fbdh"),
            (251, 250, 126, 131, "fbdh"),
            (377, 250, 135, 131, "fbdh"),
            (0, 378, 125, 134, "fbdh"),
            (125, 378, 126, 134, "h"),
            (251, 381, 135, 131, "dh"),
            (386, 381, 126, 131, "h"),
        ),
    ),
    Photo(
        "camera",
        "camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "Lav Varshney, https://github.com/scikit-image/scikit-image/issues/3927",
        "CC0 by the photographer",
        _tiles(
            (0, 0, 124, 183, "f"),
            (124, 0, 124, 133, "fh"),
            (248, 0, 125, 217, "fdh"),
            (373, 0, 139, 197, "f"),
            (124, 133, 124, 124, "rbdh"),
            (0, 183, 124, 205, "rfbh"),
            (373, 197, 139, 153, "fbh"),
            (248, 217, 125, 166, "rfbdh"),
            (124, 257, 124, 125, "bh"),
            (373, 350, 139, 162, "fbdh"),
            (124, 382, 124, 130, "bdh"),
            (248, 383, 125, 129, "fbdh"),
        ),
    ),
    Photo(
        "coffee",
        "coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar",
        "CC0 by the photographer",
        _tiles(
            (0, 0, 150, 248, "crfbdh"),
            (150, 0, 150, 248, "crfb"),
            (300, 0, 150, 159, "crfdh"),
            (450, 0, 150, 223, "rfb"),
            (300, 159, 150, 241, "rfbdh"),
            (450, 223, 150, 177, "rbh"),
            (0, 248, 150, 152, "crfbdh"),
            (150, 248, 150, 152, "rfbdh"),
        ),
    ),
    Photo(
        "rocket",
        "rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "SpaceX Photos, https://www.flickr.com/photos/spacexphotos/16511594820/in/photostream/",
        "released in the public domain by SpaceX",
        _tiles(
            (0, 0, 153, 223, "crfbdh"),
            (153, 0, 173, 223, "fb"),
            (470, 0, 170, 142, "fbh"),
            (326, 142, 171, 140, "fbdh"),
            (0, 223, 140, 204, "crfbdh"),
            (140, 223, 186, 204, "rfbdh"),
            (326, 282, 144, 145, "fbdh"),
            (470, 282, 170, 145, "fbdh"),
        ),
    ),
    Photo(
        "chelsea",
        "chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "Stefan van der Walt",
        "CC0 by the photographer",
        _tiles((0, 0, 203, 300, ""), (203, 0, 248, 300, "")),
    ),
    Photo(
        "text",
        "text.png",
        "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
        "Wikipedia, https://en.wikipedia.org/wiki/File:Corner.png",
        "no known copyright restrictions, released into the public domain",
        _tiles((0, 0, 251, 172, ""), (251, 0, 197, 172, "")),
    ),
    Photo(
        "galaxies",
        "hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "NASA, HubbleSite, http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
        "captured by NASA, may be freely used in the public domain",
        _tiles((0, 0, 1000, 872, "")),
    ),
    Photo(
        "retina",
        "retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        "Mikael Häggström, https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
        "CC0 1.0 Universal Public Domain Dedication",
        _tiles((0, 0, 1411, 1411, "")),
    ),
)


def read_photo(photo: Photo) -> Image:
    """The pixels of a picture of the installed scikit-image: H x W x 3, uint8, RGB. Nothing is downloaded.

    Raises:
        ModuleNotFoundError: if scikit-image is not installed.
        FileNotFoundError: if the installed release does not ship the file.
        ValueError: if the file is not the one whose licence is stated here.
    """
    path = _data_folder() / photo.file
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != photo.sha256:
        raise ValueError(f"{path}: sha256 {found} is not that of the picture known here, {photo.sha256}")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path}: OpenCV cannot decode it")
    return np.ascontiguousarray(pixels[:, :, ::-1], dtype=np.uint8)


def cut_tiles() -> list[Base]:
    """All tiles of all photos, in a fixed order."""
    bases = []
    for photo in PHOTOS:
        pixels = read_photo(photo)
        for number, tile in enumerate(photo.tiles, start=1):
            part = pixels[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
            bases.append(Base(f"{photo.name}-{number:02d}", photo.name, part, tile.edits))
    return bases


def _data_folder() -> Path:
    """Where scikit-image keeps its pictures; found without importing it, which takes a while."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the demo takes its photos from scikit-image: pip install scikit-image")
    return Path(spec.submodule_search_locations[0]) / "data"
