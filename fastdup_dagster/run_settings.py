"""The arguments of the V1 `run()` beyond those that the stages read, checked together with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from fastdup_dagster.settings import Settings, settings_from

DataType = Literal["infer", "image", "bbox"]

# What is done to images, and so cannot be done to given embeddings.
_OF_IMAGES = (
    "min_file_size",
    "bounding_box",
    "augmentation_horiz",
    "augmentation_vert",
    "augmentation_additive_margin",
    "model_path",
    "high_accuracy",
    "model_preprocessing",
    "providers",
    "run_advanced_stats",
    "max_pixels",
)


class RunSettings(Settings):
    """Every argument of `run()` but the data: `Settings`, and what only the V1 face knows.

    Raises:
        NotImplementedError: naming an argument that is known but has no effect here yet.
        ValueError: naming the argument and the value that was refused.
    """

    # V1 takes any number: under -1 every edge is meant, over 1 none
    threshold: float = Field(0.9, allow_inf_nan=False, description="similarity: edges strictly over it")
    cc_threshold: float = Field(0.96, allow_inf_nan=False, description="components: edges at or over it")
    data_type: DataType = Field("infer", description="what an instance is: infer, image or bbox")
    overwrite: bool = Field(True, description="replace the results of a finished work_dir")
    recompute: bool = Field(False, description="throw away the features of earlier runs too")
    resume: bool = Field(True, description="go on where an interrupted run stopped; False starts it anew")
    print_summary: bool = Field(True, description="print `summary()` at the end")
    verbose: bool = Field(False, description="say what is being done")
    license: str | None = Field(None, description="accepted and ignored: nothing here needs one")
    nn_provider: Literal["nnf"] = Field("nnf", description="V1's name for its neighbour search; there is one only")
    turi_param: Literal[""] = Field("", description="further directions to V1; there are none here")
    sync_s3_to_local: bool = Field(False, description="copy remote inputs into work_dir first")
    delete_img: bool = Field(False, description="remove images that the run downloaded; files of your own stay")
    delete_tar: bool = Field(False, description="remove archives that the run downloaded; files of your own stay")

    @field_validator("threshold", "cc_threshold")
    @classmethod
    def _can_be_reached(cls, value: float) -> float:
        if value > 1:
            raise ValueError("no two images are more alike than 1")
        return value


def run_settings(values: Mapping[str, Any]) -> RunSettings:
    """Checks arguments of `run()`; None stands for the default, as it does in V1.

    Raises:
        TypeError: for an unknown argument, naming the nearest known one.
        NotImplementedError: for an argument that has no effect here yet.
        ValueError: for a value that is refused, naming argument and value.
    """
    given = {name: value for name, value in values.items() if value is not None or name not in RunSettings.model_fields}
    given = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    if "model_path" in given:
        given["model_path"] = str(given["model_path"])
    return settings_from(given, RunSettings)


def settings_of_embeddings(values: Mapping[str, Any], shape: tuple[int, int]) -> RunSettings:
    """Like `run_settings`, for a run on given embeddings.

    Args:
        values: arguments of `run()`.
        shape: of the embeddings, n x d.

    Raises:
        ValueError: also for an argument that says what to do with images, and for a `d` that is not the embeddings'.
    """
    width = values.get("d")
    if width is not None and (isinstance(width, bool) or width != shape[1]):
        raise ValueError(f"d={width!r}, but embeddings of shape {shape}")
    settings = run_settings({name: value for name, value in values.items() if name != "d"})
    for name in _OF_IMAGES:
        value = getattr(settings, name)
        if value != RunSettings.model_fields[name].get_default():
            raise ValueError(
                f"{name}={value!r} has no effect with embeddings, which no image is read for: leave it out"
            )
    return settings
