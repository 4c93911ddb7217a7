"""Tags of the bundled classifier: the classes of its logits in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastdup_dagster.demo.photos import PHOTOS, read_photo
from fastdup_dagster.images import Decoded
from fastdup_dagster.models.captioning import captioner_id, load_captioner
from fastdup_dagster.models.captioning.tags import TagsCaptioner, class_names


def test_every_class_has_a_name() -> None:
    assert len(class_names()) == 1000
    assert all(name.strip() == name and name for name in class_names())


def test_a_cup_of_coffee_and_a_cat_are_seen() -> None:
    tags = load_captioner("tags")
    said = {}
    for photo in PHOTOS:
        pixels = read_photo(photo)
        height, width = pixels.shape[:2]
        said[photo.name] = tags.captions([tags.prepare(Decoded(pixels, width, height, "png", False, False))])[0]
    assert "espresso" in said["coffee"]
    assert any(cat in said["chelsea"] for cat in ("tabby", "tiger cat", "Egyptian cat"))


def test_probabilities_are_those_of_all_classes_and_do_not_depend_on_the_batch(
    decoded: Callable[[int], Decoded],
) -> None:
    tags = TagsCaptioner(None, {}, ("cpu",), 1)
    images = [tags.prepare(decoded(seed)) for seed in (1, 2, 3)]
    shares = tags.probabilities(images)
    assert shares.shape == (3, 1000)
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.array_equal(shares[1], tags.probabilities(images[1:2])[0])


@pytest.mark.parametrize(("top", "commas"), [(1, 0), (3, 2)])
def test_as_many_classes_are_named_as_asked_for(top: int, commas: int, decoded: Callable[[int], Decoded]) -> None:
    tags = load_captioner("tags", options={"top_k": top})
    (sentence,) = tags.captions([tags.prepare(decoded(1))])
    assert sentence.count("%") == top
    assert sentence.endswith(" %).")
    assert tags.id.endswith(f"+top_k={top}")
    assert tags.id == captioner_id("tags", options={"top_k": top})


@pytest.mark.parametrize("top", [0, 1001, "five"])
def test_a_number_of_classes_that_there_is_not_is_refused(top: object) -> None:
    with pytest.raises((ValueError, TypeError), match="top_k="):
        load_captioner("tags", options={"top_k": top})
