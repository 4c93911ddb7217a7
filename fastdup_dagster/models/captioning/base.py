"""What all captioners of a model folder share: their id, the prompt that they take, the images as they want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.images import Decoded
from fastdup_dagster.models.captioning.folder import TEXT_ENCODER, ModelFolder, described
from fastdup_dagster.models.captioning.preprocessing import ImagePreprocessor


class FolderCaptioner:
    """The model of a folder, a prompt and options.

    Args:
        folder: of the model.
        prompt: None for none.
        options: over those of the model's own.

    Raises:
        FileNotFoundError: if a file of the model is not there.
        TypeError: for a prompt that is no text.
        ValueError: for a prompt that the model has no use for, and the lack of one that it needs.
    """

    min_side: int | None = None

    def __init__(self, folder: ModelFolder, prompt: str | None, options: Mapping[str, Any]) -> None:
        _check_prompt(folder, prompt)
        self.id = described(f"{folder.name}@{folder.sha256}", prompt, options)
        self._preprocess = ImagePreprocessor(folder.preprocessing)

    def prepare(self, image: Decoded) -> NDArray[np.float32]:
        """One image as the model takes it, 3 x height x width; those of some models differ in size.

        Raises:
            ValueError: if it has no such form.
        """
        return self._preprocess(image.pixels)


def _check_prompt(folder: ModelFolder, prompt: str | None) -> None:
    needs = folder.has(TEXT_ENCODER) or folder.model_type == "vilt"
    if needs and not prompt:
        raise ValueError(f"model {folder.name} answers questions: give one as vqa_prompt")
    if prompt and not needs and folder.model_type not in ("blip", "blip-2"):
        raise ValueError(f"vqa_prompt={prompt!r}: model {folder.name} takes none; model_name='vqa' answers questions")
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"vqa_prompt={prompt!r}: expected text")
