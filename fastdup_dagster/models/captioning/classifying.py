"""Captioners that choose among labels: image classifiers such as the age model, and ViLT's answers to questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.captioning.base import FolderCaptioner
from fastdup_dagster.models.captioning.folder import CLASSIFIER, ModelFolder
from fastdup_dagster.models.session import open_session


class LabelCaptioner(FolderCaptioner):
    """A classifier of images, or of images with a question; the caption is its likeliest label.

    Args:
        folder: of the model.
        prompt: the question, None for a model that takes none.
        options: none are known.
        providers: as `open_session` takes them, the preferred one first.
        threads: inside one call.

    Raises:
        FileNotFoundError: if a file of the model is not there.
        TypeError: for an option.
        ValueError: for a model or a prompt that does not fit.
    """

    def __init__(
        self,
        folder: ModelFolder,
        prompt: str | None,
        options: Mapping[str, Any],
        providers: Sequence[str],
        threads: int,
    ) -> None:
        if options:
            raise TypeError(f"kwargs={dict(options)!r}: model {folder.name} chooses among labels and takes no options")
        super().__init__(folder, prompt, options)
        self._labels = folder.labels
        self._session = open_session(folder.file(CLASSIFIER), providers, threads)
        self._question = _question(folder, prompt) if prompt else None

    def captions(self, images: Sequence[NDArray[np.float32]]) -> list[str]:
        """The likeliest label of each of the prepared images."""
        return [self._labels[best] for best in self.logits(images).argmax(axis=1)]

    def logits(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Images x labels, float32. Images of different sizes go through the model apart: none is padded."""
        rows = np.empty((len(images), len(self._labels)), dtype=np.float32)
        shapes = np.unique([image.shape for image in images], axis=0)
        for shape in shapes:
            alike = [number for number, image in enumerate(images) if image.shape == tuple(shape)]
            rows[alike] = self._run(np.stack([images[number] for number in alike]))
        return rows

    def _run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        given: dict[str, NDArray[Any]] = {
            "pixel_values": values,
            "pixel_mask": np.ones((len(values), *values.shape[2:]), dtype=np.int64),
        }
        if self._question is not None:
            tokens = np.repeat(self._question[None], len(values), axis=0)
            given |= {
                "input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)
            }  # fmt: skip
        taken = {value.name: value.type for value in self._session.get_inputs()}
        if unknown := set(taken) - set(given):
            raise ValueError(f"the model has inputs {sorted(unknown)}, which are not known here")
        if taken.get("pixel_values") == "tensor(float16)":
            given["pixel_values"] = values.astype(np.float16)
        return np.asarray(self._session.run(["logits"], {name: given[name] for name in taken})[0], dtype=np.float32)


def _question(folder: ModelFolder, prompt: str) -> NDArray[np.int64]:
    tokens = np.array(folder.tokenizer.encode(prompt).ids, dtype=np.int64)
    room = folder.config.get("max_position_embeddings", 40)
    if len(tokens) > room:
        raise ValueError(f"vqa_prompt of {len(tokens)} tokens: model {folder.name} takes {room}")
    return tokens
