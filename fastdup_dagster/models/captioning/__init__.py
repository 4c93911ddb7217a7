"""Captions: text about images from ONNX models, generated token by token or chosen among labels."""

from fastdup_dagster.models.captioning.choosing import (
    AUTOMATIC,
    NAMED,
    TAGS,
    Captioner,
    captioner_id,
    load_captioner,
    model_folder,
)

__all__ = ["AUTOMATIC", "NAMED", "TAGS", "Captioner", "captioner_id", "load_captioner", "model_folder"]
