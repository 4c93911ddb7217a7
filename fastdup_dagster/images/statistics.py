"""Statistics of a working image. Formulas: the V1 columns, right where V1 samples the nearest pixel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.schemas import ADVANCED_STATISTICS

# One constant between our Laplacian variance (area-averaged working image) and V1's threshold of 150, which
# corresponds to 79 here.
BLUR_SCALE = 150.0 / 79.0

BASIC_NAMES = ("unique", "blur", "mean", "min", "max", "stdv", "contrast")
ADVANCED_NAMES = tuple(column.name for column in ADVANCED_STATISTICS)

Statistics = dict[str, float | int]

_VALUES = np.arange(256, dtype=np.float64)


def statistics(pixels: NDArray[np.uint8], advanced: bool = False) -> Statistics:
    """Statistics of an image.

    Args:
        pixels: H x W x 3, uint8, RGB: the working image.
        advanced: also the columns of `ADVANCED_NAMES`.

    Returns:
        One number per name of `BASIC_NAMES` (and of `ADVANCED_NAMES`).
    """
    # One histogram a channel gives all but the edges, exactly: bytes have 256 values.
    counts = np.stack([cv2.calcHist([pixels], [c], None, [256], [0, 256]).ravel() for c in range(3)]).astype(np.float64)
    present = np.flatnonzero(counts.any(axis=0))
    low, high = int(present[0]), int(present[-1])
    shares = counts / (pixels.shape[0] * pixels.shape[1])
    means = shares @ _VALUES
    deviations = np.sqrt(np.maximum(shares @ _VALUES**2 - means**2, 0))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    values: Statistics = {
        "unique": len(present),
        "blur": blur(grey),
        "mean": float(means.mean()),
        "min": low,
        "max": high,
        "stdv": float(deviations.mean()),
        "contrast": (high - low) / (high + low) if high + low else 0.0,
    }
    if advanced:
        values |= _advanced(pixels, grey, means, deviations)
    return values


def blur(grey: NDArray[np.uint8]) -> float:
    """Population variance of the 4-neighbour Laplacian of an H x W image, times `BLUR_SCALE`. Higher is sharper.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (ICPR 2000).
    """
    laplacian = cv2.Laplacian(grey, cv2.CV_16S, ksize=1)
    mean, mean_square = cv2.mean(laplacian)[0], cv2.norm(laplacian, cv2.NORM_L2SQR) / laplacian.size
    return float(max(mean_square - mean**2, 0.0) * BLUR_SCALE)


def _advanced(
    pixels: NDArray[np.uint8], grey: NDArray[np.uint8], means: NDArray[np.float64], deviations: NDArray[np.float64]
) -> Statistics:
    total = float(means.sum())
    relative = means / total if total else np.zeros(3)
    ratios = np.divide(deviations, means, out=np.zeros(3), where=means > 0)
    hue, saturation, value = cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))[:3]
    edges = cv2.Canny(grey, 50, 150)
    numbers = (
        float(np.sqrt(np.mean(ratios**2))),
        *(float(mean) for mean in means),
        *(float(share) for share in relative),
        float(hue),
        float(saturation),
        float(value),
        cv2.countNonZero(edges) / edges.size,
    )
    return dict(zip(ADVANCED_NAMES, numbers, strict=True))
