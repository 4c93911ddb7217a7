"""One hash covers a model's graph and the data beside it, whatever in the graph refers to that data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from fastdup_dagster.models import load_model, model_stamp
from fastdup_dagster.models.files import external_data, model_files, model_sha256
from fastdup_dagster.settings import settings_from
from tests.models.conftest import WriteModel


def test_a_model_without_data_beside_it_has_the_hash_of_its_file(tmp_path: Path, write_projection: WriteModel) -> None:
    path = write_projection(tmp_path / "m.onnx", 28, 4)
    assert external_data(path) == []
    assert model_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_change_of_the_data_alone_is_another_model(tmp_path: Path, write_projection: WriteModel) -> None:
    path = write_projection(tmp_path / "m.onnx", 28, 4, save_as_external_data=True, location="m.data", size_threshold=0)
    settings = settings_from({"model_path": str(path)})
    before, stamp = load_model(settings), model_stamp(settings)
    assert model_files(path) == [path, tmp_path / "m.data"]
    data = np.frombuffer((tmp_path / "m.data").read_bytes(), dtype=np.float32) * 2
    (tmp_path / "m.data").write_bytes(data.tobytes())
    after = load_model(settings)
    assert before.id != after.id
    assert stamp != model_stamp(settings)


def test_data_of_tensors_in_branches_and_attributes_is_found_too(tmp_path: Path) -> None:
    def tensor(name: str, file: str) -> onnx.TensorProto:
        made = numpy_helper.from_array(np.ones(3, np.float32), name)
        set_external_data(made, file)
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        return made

    def branch(file: str) -> onnx.GraphProto:
        node = helper.make_node("Constant", [], ["out"], value=tensor("c", file))
        output = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])]
        return helper.make_graph([node], "branch", [], output, [tensor("i", f"deep/{file}")])

    node = helper.make_node("If", ["yes"], ["out"], then_branch=branch("a.bin"), else_branch=branch("b.bin"))
    graph = helper.make_graph(
        [node],
        "main",
        [helper.make_tensor_value_info("yes", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])],
        [tensor("top", "top.bin")],
    )
    path = tmp_path / "branches.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert external_data(path) == ["a.bin", "b.bin", "deep/a.bin", "deep/b.bin", "top.bin"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_data_outside_of_the_models_folder_is_refused(tmp_path: Path, write_projection: WriteModel, name: str) -> None:
    path = write_projection(tmp_path / "m.onnx", 28, 4, save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"is outside of its folder"):
        model_sha256(path)


@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_model_have_no_data_and_do_no_harm(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.onnx"
    path.write_bytes(data)
    assert external_data(path) == []
