"""Named models get their images as their authors prepare them: shown against Pillow and numpy, written anew here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster.models import EmbeddingModel, load_model
from fastdup_dagster.models.store import ModelStore
from fastdup_dagster.settings import settings_from
from tests.models.conftest import WriteModel, projection

MEANS = {"imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])}  # fmt: skip
# name: output, whether it is a table of tokens, input side, shorter side, width, numbers
AUTHORS = {
    "dinov2s": ("last_hidden_state", True, 224, 256, 384, "imagenet"),
    "dinov2b": ("last_hidden_state", True, 224, 256, 768, "imagenet"),
    "clip": ("image_embeds", False, 224, 224, 512, "clip"),
    "clip336": ("image_embeds", False, 336, 336, 768, "clip"),
}


def photo(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (height // 7 + 2, width // 5 + 2, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def as_the_authors_do(image: Image.Image, name: str) -> np.ndarray:
    """Resize the shorter side (torchvision: the longer one is rounded down), crop the centre, scale, project."""
    _, _, side, shorter, width, numbers = AUTHORS[name]
    w, h = image.size
    size = (shorter, int(shorter * h / w)) if w <= h else (int(shorter * w / h), shorter)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2.0), round((size[1] - side) / 2.0)
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)), dtype=np.float64) / 255
    mean, deviation = MEANS[numbers]
    scaled = ((pixels - mean) / deviation).transpose(2, 0, 1)
    patches = scaled.reshape(3, side // 14, 14, side // 14, 14).mean(axis=(2, 4))
    return patches.ravel() @ projection(side, width).astype(np.float64)


@pytest.fixture
def models(model_folder: Path, tmp_path: Path, write_projection: WriteModel) -> None:
    for name, (output, tokens, side, _, width, _) in AUTHORS.items():
        path = write_projection(tmp_path / f"{name}.onnx", side, width, output, tokens)
        ModelStore().add(name, path, "MIT")


def named(name: str) -> EmbeddingModel:
    return load_model(settings_from({"model_path": name}))


@pytest.mark.parametrize("size", [(300, 500), (501, 300), (224, 224), (100, 37), (640, 641), (255, 258)])
@pytest.mark.parametrize("name", AUTHORS)
@pytest.mark.usefixtures("models")
def test_an_image_is_prepared_as_the_authors_do(name: str, size: tuple[int, int]) -> None:
    image = photo(*size)
    model = named(name)
    expected = as_the_authors_do(image, name)
    found = model.embed(model.square(np.asarray(image))[None])[0]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("models")
def test_a_run_gives_the_models_the_whole_image_and_its_own_width(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, size in enumerate(((1500, 1000), (300, 500), (250, 900))):
        photo(*size).save(folder / f"{number}.jpg", quality=95)
    for name, (*_, width, _numbers) in list(AUTHORS.items())[::2]:
        fd = fastdup.create(tmp_path / name, folder)
        fd.run(model_path=name, print_summary=False, num_threads=2)
        names, vectors = fd.embeddings()
        assert vectors.shape == (3, width)
        for path, vector in zip(names, vectors, strict=True):
            # the same bytes, decoded by Pillow: two JPEG decoders may round a value differently
            expected = as_the_authors_do(Image.open(path), name)
            assert np.abs(vector - expected).max() < 0.01 * np.abs(expected).max()
        assert fd.config["model"]["name"] == name
        fd.init_search(1)
        found = fd.search(names[0])
        assert found["to"].tolist() == [names[0]]
        assert found["distance"][0] == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("models")
def test_the_id_tells_how_images_are_prepared() -> None:
    assert named("dinov2s").id.startswith("dinov2s@")
    assert named("dinov2s").id.endswith("+dinov2-bicubic256")
    assert named("clip336").id.endswith("+clip-bicubic336")


def test_scores_of_the_model_zoo_are_of_the_centre_of_the_image(
    model_folder: Path, tmp_path: Path, write_projection: WriteModel
) -> None:
    numbers = {"resnet50": MEANS["imagenet"], "efficientnet": ([127 / 255] * 3, [128 / 255] * 3)}
    pixels = np.asarray(photo(400, 600))
    resized = cv2.resize(pixels, (384, 256), interpolation=cv2.INTER_LINEAR)[16:240, 80:304]
    for name, (offset, scale) in numbers.items():
        ModelStore().add(name, write_projection(tmp_path / "m.onnx", 224, 1000), "MIT")
        scaled = ((resized / 255 - offset) / scale).transpose(2, 0, 1)
        patches = scaled.reshape(3, 16, 14, 16, 14).mean(axis=(2, 4))
        expected = patches.ravel() @ projection(224, 1000)
        model = named(name)
        found = model.embed(model.square(pixels)[None])[0]
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert named("resent50").id == named("resnet50").id


def test_a_width_that_is_not_the_models_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="d=512: the model 'dinov2s' gives vectors of width 384"):
        settings_from({"model_path": "dinov2s", "d": 512})
    assert settings_from({"model_path": "dinov2s", "d": 384}).d == 384
