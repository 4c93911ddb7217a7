"""Scores of rankings: average precision, recall at 1, recall at a precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def average_precision(scores: Array, relevant: Array, wanted: int) -> float:
    """Area under precision over recall of a ranking, highest score first; ties in the order given.

    Args:
        scores: n, float.
        relevant: n, bool.
        wanted: how many relevant ones there are; those that are not ranked at all count as missed.
    """
    hits, precision = _curve(scores, relevant)
    return float(precision[hits].sum() / wanted)


def recall_at_precision(scores: Array, relevant: Array, wanted: int, precision: float) -> float:
    """The largest recall at which precision is still `precision`; arguments as of `average_precision`."""
    hits, reached = _curve(scores, relevant)
    enough = np.flatnonzero(reached >= precision)
    return float(hits[: enough[-1] + 1].sum() / wanted) if len(enough) else 0.0


def _curve(scores: Array, relevant: Array) -> tuple[Array, Array]:
    """Hits, bool, and precision so far, float, at each place of the ranking."""
    hits = relevant[np.argsort(-scores, kind="stable")]
    return hits, np.cumsum(hits) / np.arange(1, len(hits) + 1)


def unit(vectors: Array) -> Array:
    """Rows at length 1, float64."""
    rows: Array = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
