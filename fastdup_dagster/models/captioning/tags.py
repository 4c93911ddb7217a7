"""Tags without a download: what the bundled classifier sees, as a sentence with probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.checks import whole
from fastdup_dagster.images import Decoded, working_image
from fastdup_dagster.images.working import WORKING_SIDE, model_square
from fastdup_dagster.models.captioning.folder import described
from fastdup_dagster.models.embedding import bundled_file
from fastdup_dagster.models.session import open_session

_SHOWN = 5


class TagsCaptioner:
    """The likeliest ImageNet classes of the bundled model: "Most likely tabby (62 %), then tiger cat (21 %), …".

    Args:
        prompt: must be None.
        options: `top_k`, how many classes are named; 5 by default.
        providers: as `open_session` takes them, the preferred one first.
        threads: inside one call.

    Raises:
        TypeError: for another option.
        ValueError: for a prompt, or a number of classes that is refused.
    """

    # A JPEG may come at a smaller scale, as the bundled model gets it for embeddings.
    min_side: int | None = 2 * WORKING_SIDE

    def __init__(self, prompt: str | None, options: Mapping[str, Any], providers: Sequence[str], threads: int) -> None:
        if prompt is not None:
            raise ValueError(f"vqa_prompt={prompt!r}: tags take none; model_name='vqa' answers questions")
        if unknown := set(options) - {"top_k"}:
            raise TypeError(f"kwargs: unknown option {sorted(unknown)[0]!r} of tags; known: top_k")
        path, sha256 = bundled_file("tags")
        self._session = open_session(path, providers, threads)
        taken = self._session.get_inputs()[0]
        self._input, self._side = taken.name, int(taken.shape[1])
        self.labels = class_names()
        self._shown = whole("top_k", options.get("top_k", _SHOWN), 1)
        if self._shown > len(self.labels):
            raise ValueError(f"top_k={self._shown}: there are {len(self.labels)} classes")
        self.id = described(f"tags@{sha256}", None, options)

    def prepare(self, image: Decoded) -> NDArray[np.uint8]:
        """One image as the model takes it: side x side x 3."""
        return model_square(working_image(image), self._side)

    def captions(self, images: Sequence[NDArray[Any]]) -> list[str]:
        """A sentence for each of the prepared images."""
        return [self._sentence(row) for row in self.probabilities(images)]

    def probabilities(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Images x classes, the softmax of the logits."""
        logits = np.asarray(self._session.run(["logits"], {self._input: np.stack(images)})[0], dtype=np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def _sentence(self, probabilities: NDArray[np.float64]) -> str:
        best = np.argsort(-probabilities, kind="stable")[: self._shown]
        first, *rest = (f"{self.labels[number]} ({100 * probabilities[number]:.0f} %)" for number in best)
        return f"Most likely {first}" + (f", then {', '.join(rest)}" if rest else "") + "."


def class_names() -> list[str]:
    """The names of the bundled model's 1000 classes, in the order of its logits."""
    text = (files("fastdup_dagster.models.bundled") / "imagenet_labels.txt").read_text(encoding="utf-8")
    return text.splitlines()
