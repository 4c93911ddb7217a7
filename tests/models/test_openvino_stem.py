"""The bundled model with its first convolution written anew is the same function but for rounding."""

from __future__ import annotations

import numpy as np

from fastdup_dagster.models import embedding
from fastdup_dagster.models.openvino_session import OpenVinoSession, openvino
from fastdup_dagster.models.openvino_stem import with_plain_stem


def test_the_first_convolution_gives_the_same_numbers_within_a_step_of_their_quantiser() -> None:
    path, _ = embedding.bundled_file()
    images = np.random.default_rng(5).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    images[1] = np.linspace(0, 255, 160, dtype=np.uint8)[None, :, None]
    package = openvino()

    def first_numbers(plain: bool) -> np.ndarray:
        frontend = package.frontend.FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(str(path)))
        if plain:
            with_plain_stem(package, model)
        nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
        part = package.Model([nodes["stem_real:DequantizeLinear"]], model.get_parameters(), "stem")
        return package.Core().compile_model(part, "CPU", {"INFERENCE_NUM_THREADS": 1})(images)[0]

    merged, plain = first_numbers(False), first_numbers(True)
    assert merged.shape == plain.shape == (2, 32, 80, 80)
    step = np.min(np.diff(np.unique(merged)))
    assert np.abs(merged - plain).max() < 1.01 * step
    assert (merged != plain).mean() < 1e-3


def test_the_session_of_the_bundled_model_has_it() -> None:
    path, _ = embedding.bundled_file()
    session = OpenVinoSession(path)
    assert [info.name for info in session.get_outputs()] == ["embedding_576", "embedding_960"]
    names = [node.get_friendly_name() for node in session._model.get_ordered_ops()]
    assert "block0_depthwise:Conv" in names and "stem_pairs:Conv" not in names
