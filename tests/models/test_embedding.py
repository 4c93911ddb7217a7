"""The bundled model and a user's own give one row per image, whatever batch, layout and number type they take."""

from __future__ import annotations

import concurrent.futures
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fastdup_dagster.models import EmbeddingModel, load_model, open_session
from fastdup_dagster.models.captioning.tags import TagsCaptioner
from fastdup_dagster.settings import Settings, settings_from

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
MakeModel = Callable[..., Path]


def picture(seed: int, side: int = 160) -> np.ndarray:
    patches = np.random.default_rng(seed).integers(0, 255, (seed % 5 + 2, 5, 3), dtype=np.uint8)
    return cv2.resize(patches, (side, side), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a model whose feature vector is the mean of each channel of what it is given."""

    def make(
        layout: str = "NCHW",
        number: str = "float32",
        batch: int | str = "N",
        side: int | str = 32,
        channels: int = 3,
        output: str = "flat",
    ) -> Path:
        sides = [side, side] if isinstance(side, int) else ["H", "W"]
        shape = [batch, channels, *sides] if layout == "NCHW" else [batch, *sides, channels]
        kept = {"flat": 0, "pooled": 1, "tokens": 1}[output]
        axes = [2, 3] if layout == "NCHW" else [1, 2]
        nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
        nodes.append(helper.make_node("ReduceMean", ["pixels"], ["means"], axes=axes, keepdims=kept))
        last = "means"
        if output == "tokens":
            nodes.append(helper.make_node("ReduceMean", ["pixels"], ["tokens"], axes=[3], keepdims=0))
            last = "tokens"
        graph = helper.make_graph(
            nodes,
            "means",
            [helper.make_tensor_value_info("image", TYPES[number], shape)],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        )
        path = tmp_path / f"means_{layout}_{number}_{batch}_{side}_{channels}_{output}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        return path

    return make


def own(path: Path, **settings: object) -> EmbeddingModel:
    return load_model(settings_from({"model_path": str(path), **settings}))


def test_the_bundled_model_is_576_wide_and_960_on_request(model: EmbeddingModel) -> None:
    images = np.stack([picture(1)])
    assert (model.width, model.side, model.embed(images).shape) == (576, 160, (1, 576))
    wide = load_model(settings_from({"high_accuracy": True}))
    assert wide.width == load_model(settings_from({"d": 960})).width == 960
    assert wide.embed(images).dtype == np.float32
    assert wide.id != model.id


def test_the_bundled_model_tells_pictures_apart_and_knows_them_again(model: EmbeddingModel) -> None:
    images = np.stack([picture(seed) for seed in range(6)])
    softer = np.stack([cv2.GaussianBlur(image, (3, 3), 0) for image in images])
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (model.embed(images), model.embed(softer)))
    assert (first @ second.T).argmax(axis=1).tolist() == list(range(6))


def test_the_bundled_vectors_are_of_length_1_and_share_half_of_it() -> None:
    for settings in ({}, {"high_accuracy": True}):
        vectors = load_model(settings_from(settings)).embed(np.stack([picture(seed) for seed in range(3)]))
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
        assert vectors[:, -1] ** 2 == pytest.approx(1 / 2, abs=1e-6)


def test_a_vector_does_not_depend_on_its_batch_bit_for_bit(model: EmbeddingModel) -> None:
    images = np.stack([picture(seed) for seed in range(11)])
    together = model.embed(images)
    for row, image in enumerate(images):
        assert np.array_equal(model.embed(image[None])[0], together[row])
    assert np.array_equal(model.embed(images[::-1])[::-1], together)
    assert np.array_equal(np.concatenate([model.embed(images[:4]), model.embed(images[4:])]), together)


def test_a_vector_does_not_depend_on_threads_or_session_bit_for_bit(model: EmbeddingModel) -> None:
    images = np.stack([picture(seed) for seed in range(4)])
    expected = model.embed(images)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(found, expected) for found in pool.map(model.embed, [images] * 8))
    assert np.array_equal(load_model(Settings()).embed(images), expected)


def test_the_id_names_the_model_and_its_hash(model: EmbeddingModel) -> None:
    assert re.fullmatch(r"efficientnet_lite0_576@[0-9a-f]{64}", model.id)
    described = model.describe()
    assert (described["width"], described["sha256"]) == (576, model.sha256)
    assert described["providers"] == ["CPUExecutionProvider"]


def test_the_square_of_an_image_is_what_the_model_takes(model: EmbeddingModel) -> None:
    for shape in ((10, 10), (48, 48), (49, 20), (300, 500), (20, 9000)):
        square = model.square(np.zeros((*shape, 3), np.uint8))
        assert square.shape[0] == square.shape[1] <= model.side
        assert model.embed(square[None]).shape == (1, 576)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("efficientnet_lite0_int8", lambda: load_model(Settings())),
        ("efficientnet_lite0_tags_int8", lambda: TagsCaptioner(None, {}, ("cpu",), threads=1)),
    ],
)
def test_a_bundled_file_that_was_changed_is_refused(
    name: str, use: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundled"
    shutil.copytree(str(files("fastdup_dagster.models.bundled")), folder)
    onnx_file = folder / f"{name}.onnx"
    data = bytearray(onnx_file.read_bytes())
    data[len(data) // 2] ^= 1
    onnx_file.write_bytes(data)
    monkeypatch.setattr("fastdup_dagster.models.embedding.files", lambda _: folder)
    with pytest.raises(ValueError, match=rf"{name}\.onnx: sha256 [0-9a-f]{{64}} is not the recorded"):
        use()


@pytest.mark.parametrize("number", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_float_model_of_ones_own_gets_its_layout_its_type_and_scaled_pixels(
    make_model: MakeModel, layout: str, number: str
) -> None:
    mine = own(make_model(layout, number))
    assert (mine.width, mine.side) == (3, 32)
    images = np.stack([picture(seed, 32) for seed in range(3)])
    expected = images.mean(axis=(1, 2)) / 255
    assert np.abs(mine.embed(images) - expected).max() < (2e-3 if number == "float16" else 1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_uint8_model_gets_the_pixels_as_they_are(make_model: MakeModel, layout: str) -> None:
    mine = own(make_model(layout, "uint8"))
    images = np.stack([picture(seed, 32) for seed in range(3)])
    assert np.abs(mine.embed(images) - images.mean(axis=(1, 2))).max() < 1e-3
    assert "+" not in mine.id


@pytest.mark.parametrize(
    ("scaling", "mean", "deviation"),
    [
        ("unit", [0, 0, 0], [1, 1, 1]),
        ("symmetric", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("clip", [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    ],
)
def test_pixels_are_scaled_as_asked_and_the_id_says_how(
    make_model: MakeModel, scaling: str, mean: list[float], deviation: list[float]
) -> None:
    mine = own(make_model(), model_preprocessing=scaling)
    image = picture(1, 32)
    expected = (image.mean(axis=(0, 1)) / 255 - mean) / deviation
    assert np.abs(mine.embed(image[None])[0] - expected).max() < 1e-5
    assert mine.id.endswith(f"+{scaling}")


def test_raw_pixels_are_not_scaled(make_model: MakeModel) -> None:
    image = picture(1, 32)
    mine = own(make_model(), model_preprocessing="raw")
    assert np.abs(mine.embed(image[None])[0] - image.mean(axis=(0, 1))).max() < 1e-3


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_a_model_of_a_fixed_batch_takes_any_number_of_images(make_model: MakeModel, batch: int, count: int) -> None:
    images = np.stack([picture(seed, 32) for seed in range(count)])
    assert np.abs(own(make_model(batch=batch)).embed(images) - images.mean(axis=(1, 2)) / 255).max() < 1e-6


def test_a_model_without_a_fixed_side_gets_224(make_model: MakeModel) -> None:
    assert own(make_model(side="any")).side == 224


def test_a_pooled_output_of_n_d_1_1_is_a_vector(make_model: MakeModel) -> None:
    images = np.stack([picture(seed, 32) for seed in range(2)])
    assert own(make_model(output="pooled")).embed(images).shape == (2, 3)


def test_a_model_of_another_width_than_d_is_refused_with_both_numbers(make_model: MakeModel) -> None:
    path = make_model()
    assert own(path, d=3).width == 3
    with pytest.raises(ValueError, match=r"d=512: the model .*\.onnx gives vectors of width 3"):
        own(path, d=512)


def test_a_model_of_grey_images_is_refused_with_its_shape(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=r"input shape \['N', 1, 32, 32\]; expected \[n, 3, side, side\]"):
        own(make_model(channels=1))


def test_a_model_that_gives_a_table_per_image_is_refused_with_its_shape(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=r"output 'tokens' has shape \[1, 3, 32\]; expected \[n, d\]"):
        own(make_model(output="tokens"))


def test_two_models_of_one_name_have_different_ids(make_model: MakeModel, tmp_path: Path) -> None:
    first = own(make_model())
    other = tmp_path / "other" / make_model().name
    other.parent.mkdir()
    shutil.copy(make_model(layout="NHWC"), other)
    assert own(other).name == first.name
    assert own(other).id != first.id


def test_a_model_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
            own(path)


@pytest.mark.parametrize("data", [b"", b"text", b"\0" * 100])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "wrong.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"wrong\.onnx"):
        own(tmp_path / "wrong.onnx")


def test_an_unknown_provider_is_answered_with_the_known_ones(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=r"unknown provider 'tpu': expected cpu, openvino, cuda"):
        open_session(make_model(), ["tpu"])


def test_a_provider_that_is_not_in_this_build_is_answered_with_the_remedy(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    remedy = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    with pytest.raises(ValueError, match=f"provider 'cuda' is not in this ONNX Runtime.*{re.escape(remedy)}"):
        own(make_model(), providers=("cuda",))


def test_a_picture_is_as_near_to_its_copy_one_pixel_larger_at_any_size(model: EmbeddingModel) -> None:
    def cosine(seed: int, side: int) -> float:
        pictures = [
            cv2.resize(picture(seed), (side + more, side + more), interpolation=cv2.INTER_AREA) for more in (0, 1)
        ]
        first, second = (model.embed(model.square(pixels)[None])[0] for pixels in pictures)
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))

    for seed in range(5):
        assert min(cosine(seed, side) for side in (30, 47, 48, 49, 60, 191, 192, 223, 224, 239, 240, 300)) > 0.9
