"""The embedding model: the bundled one, or any ONNX model of one's own."""

import os

# ONNX Runtime reports to its makers unless told not to before it is first imported, which is below.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from fastdup_dagster.models.embedding import BATCH, EmbeddingModel, load_model, model_stamp
from fastdup_dagster.models.session import engine_version, open_session

__all__ = ["BATCH", "EmbeddingModel", "engine_version", "load_model", "model_stamp", "open_session"]
