"""Images become the very numbers that transformers' image processors make of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdup_dagster.models.captioning.preprocessing import ImagePreprocessor

from .conftest import FIXTURES, picture_of

CASES = json.loads((Path(FIXTURES) / "preprocessing.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['config']['image_processor_type']}-{case['seed']}")
def test_pixel_values_are_those_of_transformers(case: dict[str, Any]) -> None:
    made = ImagePreprocessor(case["config"])(picture_of(case["seed"]))
    assert [list(made.shape), str(made.dtype)] == [case["shape"], case["dtype"]]
    assert hashlib.sha256(made.tobytes()).hexdigest() == case["sha256"]


def test_files_of_older_releases_say_the_same_with_one_number() -> None:
    pixels = picture_of(1)
    old = {"feature_extractor_type": "ViTFeatureExtractor", "do_normalize": True, "do_resize": True, "size": 224,
           "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # fmt: skip
    new = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2}
    assert np.array_equal(ImagePreprocessor(old)(pixels), ImagePreprocessor(new)(pixels))
    vilt = {"image_processor_type": "ViltImageProcessor", "size": 384}
    assert np.array_equal(
        ImagePreprocessor(vilt)(pixels), ImagePreprocessor({**vilt, "size": {"shortest_edge": 384}})(pixels)
    )


def test_an_image_too_narrow_for_the_model_is_refused() -> None:
    preprocess = ImagePreprocessor({"image_processor_type": "ViltImageProcessor", "size": {"shortest_edge": 384}})
    with pytest.raises(ValueError, match="9000 x 20 pixels: too narrow"):
        preprocess(np.zeros((20, 9000, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [{"longest_edge": 3}, "large", {"height": 3}])
def test_a_size_that_is_not_known_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="size="):
        ImagePreprocessor({"size": size})
