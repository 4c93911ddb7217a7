"""Answers of ViLT and labels of a classifier are those of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdup_dagster.images import Decoded
from fastdup_dagster.models.captioning import load_captioner
from fastdup_dagster.models.captioning.classifying import LabelCaptioner


@pytest.mark.parametrize("name", ["vilt", "age"])
def test_labels_and_logits_are_those_of_transformers(
    name: str, fixtures: Path, expected: Callable[[str], list[Any]], decoded: Callable[[int], Decoded]
) -> None:
    if name == "vilt":
        pytest.importorskip("tokenizers", reason="the extra captions is not installed")
    for case in expected(name):
        captioner = load_captioner(str(fixtures / name), case.get("prompt"))
        assert isinstance(captioner, LabelCaptioner)
        images = [captioner.prepare(decoded(seed)) for seed in case["seeds"]]
        assert captioner.captions(images) == case["text"]
        assert [text for image in images for text in captioner.captions([image])] == case["text"]
        assert np.allclose(captioner.logits(images), case["logits"], atol=1e-3)


def test_the_answers_differ_from_picture_to_picture(expected: Callable[[str], list[Any]]) -> None:
    assert all(len({text for case in expected(name) for text in case["text"]}) > 2 for name in ("vilt", "age"))


@pytest.mark.parametrize(
    ("name", "prompt", "options", "error", "words"),
    [
        ("vilt", None, {}, ValueError, "model vilt answers questions: give one as vqa_prompt"),
        ("vilt", "how many " * 9, {}, ValueError, "20 tokens: model vilt takes 16"),
        ("age", "how old", {}, ValueError, "vqa_prompt='how old': model age takes none"),
        ("age", None, {"num_beams": 2}, TypeError, "takes no options"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, prompt: str | None, options: dict[str, Any], error: type[Exception], words: str, fixtures: Path
) -> None:
    if name == "vilt":
        pytest.importorskip("tokenizers", reason="the extra captions is not installed")
    with pytest.raises(error, match=words):
        load_captioner(str(fixtures / name), prompt, options)


def test_a_classifier_without_names_for_its_classes_is_refused(copy_of: Callable[..., Path]) -> None:
    folder = copy_of("age")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {}}))
    with pytest.raises(ValueError, match=r"model age: config\.json has no id2label"):
        load_captioner(str(folder))
