"""Scores of rankings: average precision, recall at a precision, copy detection. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class CopyDetection:
    """How well edits find their originals.

    Attributes:
        recall_at_1: share of queries whose best match is their original.
        micro_ap: average precision of all (query, original) pairs ranked together (uAP).
        recall_at_p95: largest recall at which precision is still 95 %.
        by_edit: recall at 1 of each edit.
        over: by cosine, the share of edits that have it, or more, with their original, and how many pairs of different
            originals have.
        strangers: mean cosine of different originals.
    """

    recall_at_1: float
    micro_ap: float
    recall_at_p95: float
    by_edit: dict[str, float]
    over: dict[float, tuple[float, int]]
    strangers: float


def copy_detection(
    originals: Array, queries: Array, names: Sequence[str], cosines: Sequence[float] = ()
) -> CopyDetection:
    """Judge embeddings by cosine.

    Args:
        originals: float [photos, d], the database.
        queries: float [edits, photos, d]; query [e, p] is edit e of photo p.
        names: of the edits.
        cosines: the keys of `over`.
    """
    edits, photos = queries.shape[:2]
    database = unit(originals)
    similarity = unit(queries.reshape(edits * photos, -1)) @ database.T
    truth = np.tile(np.arange(photos), edits)
    found = (similarity.argmax(axis=1) == truth).reshape(edits, photos).mean(axis=1)
    copies = similarity[np.arange(len(truth)), truth]
    strangers = (database @ database.T)[np.triu_indices(photos, 1)]
    ranking = similarity.ravel(), (truth[:, None] == np.arange(photos)[None, :]).ravel(), len(truth)
    return CopyDetection(
        recall_at_1=float(found.mean()),
        micro_ap=average_precision(*ranking),
        recall_at_p95=recall_at_precision(*ranking, precision=0.95),
        by_edit=dict(zip(names, found.tolist(), strict=True)),
        over={least: (float((copies >= least).mean()), int((strangers >= least).sum())) for least in cosines},
        strangers=float(strangers.mean()),
    )
