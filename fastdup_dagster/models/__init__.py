"""The embedding model: the bundled one, or any ONNX model of one's own."""

from fastdup_dagster.models.embedding import EmbeddingModel, load_model
from fastdup_dagster.models.session import open_session

__all__ = ["EmbeddingModel", "load_model", "open_session"]
