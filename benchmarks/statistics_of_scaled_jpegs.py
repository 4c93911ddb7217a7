"""How far the statistics of a JPEG that was decoded at a smaller DCT scale are from those of the full decode.

    python benchmarks/statistics_of_scaled_jpegs.py PHOTOS

Only photos large enough to be decoded at a smaller scale count. --enlarge 3 first makes larger ones of all (bicubic,
JPEG quality 90), where the folder has few. Prints the median and the largest difference per statistic: relative for
blur and stdv, in grey levels (or as a plain number) for the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from fastdup_dagster.images import BASIC_NAMES, Statistics, decode, statistics, to_square
from fastdup_dagster.images.decode import ImageError
from fastdup_dagster.stages.decode_worker import DECODE_SIDE

RELATIVE = ("blur", "stdv")


def enlarged(data: bytes, factor: float) -> bytes:
    """The JPEG, larger by a factor."""
    pixels = cv2.resize(decode(data).pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90))


def difference(data: bytes, side: int) -> dict[str, float] | None:
    """Scaled minus full, per statistic; None if the JPEG is not scaled at that side."""
    full, scaled = decode(data).pixels, decode(data, side).pixels
    if full.shape == scaled.shape:
        return None
    exact, found = (statistics(to_square(pixels)) for pixels in (full, scaled))
    return {name: _gap(name, exact, found) for name in BASIC_NAMES}


def _gap(name: str, exact: Statistics, found: Statistics) -> float:
    gap = float(found[name]) - float(exact[name])
    return gap / max(float(exact[name]), 1e-9) if name in RELATIVE else gap


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--enlarge", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=DECODE_SIDE, help="shortest side that a scaled decode keeps")
    arguments = parser.parse_args()
    found = []
    for path in sorted(arguments.photos.iterdir()):
        try:
            data = path.read_bytes()
            data = enlarged(data, arguments.enlarge) if arguments.enlarge != 1 else data
            found.append(difference(data, arguments.side))
        except ImageError as error:
            print(f"left out: {path.name}: {error}")
    scaled = [gaps for gaps in found if gaps is not None]
    print(f"{len(scaled)} of {len(found)} JPEGs decoded at a smaller scale, both sides at least {arguments.side}")
    for name in BASIC_NAMES if scaled else ():
        gaps = np.array([gap[name] for gap in scaled])
        unit = " (relative)" if name in RELATIVE else ""
        print(f"{name:9} median {np.median(gaps):+.4f}  largest {np.abs(gaps).max():.4f}{unit}")


if __name__ == "__main__":
    main()
