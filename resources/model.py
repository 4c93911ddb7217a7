"""The embedding model as a Dagster resource: opened once a process, and again when its file changed."""

from __future__ import annotations

import functools
import json

import dagster as dg

from fastdup_dagster.models import EmbeddingModel, load_model, model_stamp
from fastdup_dagster.settings import Settings, settings_from

_CHOOSING = {"model_path", "d", "high_accuracy", "model_preprocessing", "providers"}


class ModelResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the model that settings name: the bundled one, or an ONNX file."""

    def load(self, settings: Settings) -> EmbeddingModel:
        """The model; calls may come from several threads.

        Raises:
            FileNotFoundError: if the model's file is not there.
            ValueError: if it does not fit the settings.
        """
        return _open(settings.model_dump_json(include=_CHOOSING), model_stamp(settings))


@functools.lru_cache(maxsize=2)
def _open(choosing: str, stamp: tuple[tuple[str, int, int], ...]) -> EmbeddingModel:
    """Cached by what chooses the model and by when its files were changed."""
    return load_model(settings_from(json.loads(choosing)))
