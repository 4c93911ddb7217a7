"""Models in OpenVINO's own package: the vectors are those of ONNX Runtime but for rounding, and nothing is reported."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fastdup_dagster.models import EmbeddingModel, engine_version, load_model, open_session, openvino_session
from fastdup_dagster.models.compiled import CompiledModel
from fastdup_dagster.models.openvino_session import OpenVinoSession
from fastdup_dagster.models.session import Session
from fastdup_dagster.settings import settings_from

# As a run does it, where whoever looks up a host, connects, or writes into the home is found out.
RUN = """
import os, socket, sys, numpy as np
asked = []
def refuse(*arguments, **named):
    asked.append(arguments[-1]); raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from fastdup_dagster.models import load_model
from fastdup_dagster.settings import settings_from
model = load_model(settings_from({"providers": ["openvino"]}))
model.embed(np.zeros((1, 160, 160, 3), dtype=np.uint8))
assert not [name for name in sys.modules if "telemetry" in name], sys.modules
assert "onnxruntime" not in sys.modules
import openvino.tools, importlib.util
assert importlib.util.find_spec("openvino.tools.ovc") is not None  # whoever wants the tools still gets them
print(model.provider, asked, os.listdir(os.environ["HOME"]))
"""


@pytest.fixture(scope="module")
def served() -> EmbeddingModel:
    return load_model(settings_from({"providers": ["openvino"], "num_threads": 4}))


def pictures(count: int) -> np.ndarray:
    random = np.random.default_rng(3)
    patches = [random.integers(0, 255, (number % 5 + 2, 5, 3), dtype=np.uint8) for number in range(count)]
    return np.stack([cv2.resize(patch, (160, 160), interpolation=cv2.INTER_CUBIC) for patch in patches])


def write(path: Path, nodes: list[onnx.NodeProto], inputs: list[tuple[str, int, list]], outputs: list[str]) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*given) for given in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'cat'}"})
    onnx.save(model, str(path))
    return path


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """Two inputs of open lengths, and an output that needs both beside one that needs the first alone."""
    nodes = [
        helper.make_node("Concat", ["first", "second"], ["both"], axis=1),
        helper.make_node("Relu", ["first"], ["positive"]),
    ]
    inputs = [(name, TensorProto.FLOAT, ["N", "length"]) for name in ("first", "second")]
    return write(tmp_path / "joined.onnx", nodes, inputs, ["both", "positive"])


def test_vectors_are_nearly_those_of_the_default_provider(served: EmbeddingModel, model: EmbeddingModel) -> None:
    images = pictures(8)
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (served.embed(images), model.embed(images)))
    assert (first * second).sum(axis=1).min() > 0.997
    assert (served.width, served.side, served.id) == (model.width, model.side, model.id)


def test_the_model_says_who_serves_it(served: EmbeddingModel, model: EmbeddingModel) -> None:
    assert served.provider == "OpenVINO" != model.provider
    assert served.describe()["providers"] == ["OpenVINO"]
    assert list(engine_version(["openvino"])) == ["openvino"]


def test_a_vector_does_not_depend_on_its_batch_nor_on_threads_bit_for_bit(served: EmbeddingModel) -> None:
    images = pictures(11)
    together = served.embed(images)
    assert np.array_equal(served.embed(images[::-1])[::-1], together)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        alone = np.concatenate(list(pool.map(lambda image: served.embed(image[None]), images)))
    assert np.array_equal(alone, together)


def test_nothing_is_reported_and_only_the_compiled_model_is_left(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": "", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "OpenVINO [] ['.cache']"
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.parent for path in left} == {tmp_path / ".cache/fastdup_dagster/compiled"}
    assert sorted(path.suffix for path in left) == [".blob", ".json"]


def test_lengths_may_change_from_call_to_call_and_be_none(joined: Path) -> None:
    session = open_session(joined, ["openvino"])
    assert [info.shape for info in session.get_inputs()] == [[None, None]] * 2
    for length in (3, 0, 5):
        given = {"second": -np.ones((2, length), np.float32), "first": np.full((2, 4), -2, np.float32)}
        both, positive = session.run(None, given)
        assert np.array_equal(both, np.concatenate([given["first"], given["second"]], axis=1))
        assert np.array_equal(positive, np.zeros((2, 4)))


def test_outputs_come_in_the_order_asked_for_and_stay_as_they_were(joined: Path) -> None:
    session = open_session(joined, ["openvino"])
    given = {"first": np.ones((1, 2), np.float32), "second": np.zeros((1, 2), np.float32)}
    positive, both = session.run(["positive", "both"], given)
    session.run(["positive", "both"], {name: value + 5 for name, value in given.items()})
    assert (positive.tolist(), both.tolist()) == ([[1, 1]], [[1, 1, 0, 0]])


def test_the_files_own_words_and_types_are_kept(joined: Path) -> None:
    session = open_session(joined, ["openvino"])
    assert session.get_modelmeta().custom_metadata_map["names"] == "{0: 'cat'}"
    assert [(info.name, info.type) for info in session.get_outputs()] == [
        ("both", "tensor(float)"),
        ("positive", "tensor(float)"),
    ]


def test_a_batch_is_fixed_only_where_the_file_leaves_it_open(joined: Path, tmp_path: Path) -> None:
    assert [info.shape for info in OpenVinoSession(joined, batch=6).get_inputs()] == [[6, None]] * 2
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    fixed = write(tmp_path / "fixed.onnx", relu, [("x", TensorProto.FLOAT, [2, 3])], ["y"])
    assert OpenVinoSession(fixed, batch=6).get_inputs()[0].shape == [2, 3]


@pytest.mark.parametrize("data", [b"", b"text", b"\0" * 100])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "wrong.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"wrong\.onnx: OpenVINO refuses it"):
        open_session(tmp_path / "wrong.onnx", ["openvino"])


def test_an_operation_that_is_not_known_is_refused_with_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "own.onnx",
        [helper.make_node("Mine", ["x"], ["y"], domain="of.my.own")],
        [("x", TensorProto.FLOAT, [2])],
        ["y"],
    )
    with pytest.raises(ValueError, match=r"own\.onnx: OpenVINO refuses it, provider 'cpu' may not: .*Mine"):
        open_session(path, ["openvino"])


@pytest.mark.parametrize("providers", [["cpu", "openvino"], ["cuda", "openvino"]])
def test_openvino_comes_first_or_not_at_all(joined: Path, providers: list[str]) -> None:
    with pytest.raises(ValueError, match="'openvino' runs a whole model, so it must come first"):
        open_session(joined, providers)


def test_without_the_package_the_command_is_given(joined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"^provider 'openvino' needs OpenVINO: pip install 'fastdup-dagster\[open"):
        open_session(joined, ["openvino"])


def test_a_model_of_ones_own_gets_any_number_of_images(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0)]
    path = write(tmp_path / "means.onnx", nodes, [("image", TensorProto.FLOAT, ["N", 3, "H", "W"])], ["means"])
    mine = load_model(settings_from({"model_path": str(path), "providers": ["openvino", "cpu"]}))
    images = np.random.default_rng(0).integers(0, 255, (7, 224, 224, 3), dtype=np.uint8)
    assert (mine.side, mine.width) == (224, 3)
    assert np.abs(mine.embed(images) - images.mean(axis=(1, 2)) / 255).max() < 1e-5


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    return write(tmp_path / "small.onnx", nodes, [("x", TensorProto.FLOAT, ["N", 3])], ["y", "z"])


def run(session: Session, outputs: list[str]) -> list[list[list[float]]]:
    return [result.tolist() for result in session.run(outputs, {"x": np.array([[-1, 0, 2]], np.float32)})]


def kept(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "cache").rglob("*") if path.is_file()}


def test_another_process_reads_what_was_compiled_and_not_the_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_session(small, ["openvino"], batch=1, keep=True)
    expected = run(first, ["z"])
    before = kept(tmp_path)
    monkeypatch.setattr(openvino_session, "with_plain_stem", None)  # no graph is made any more
    second = open_session(small, ["openvino"], batch=1, keep=True)
    assert run(second, ["z"]) == expected == [[[1, 0, -2]]]
    assert (second.get_inputs(), second.get_outputs()) == (first.get_inputs(), first.get_outputs())
    assert second.get_modelmeta() == first.get_modelmeta()
    assert kept(tmp_path) == before
    with pytest.raises(ValueError, match="refuses"):  # other outputs were not compiled
        run(second, ["y"])


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "strange", "gone"])
def test_what_was_kept_and_is_damaged_is_made_again(small: Path, tmp_path: Path, damage: str) -> None:
    expected = run(open_session(small, ["openvino"], keep=True), ["y"])
    before = kept(tmp_path)
    for path, whole in before.items():
        path.unlink()
        if damage != "gone":
            strange = hashlib.sha256(b"strange").digest() + b"strange"
            contents = {"cut": whole[:-1], "changed": whole[:-1] + b"?", "empty": b"", "strange": strange}
            path.write_bytes(contents[damage])
    again = open_session(small, ["openvino"], keep=True)
    assert run(again, ["y"]) == expected
    assert kept(tmp_path).keys() == before.keys()
    assert run(open_session(small, ["openvino"], keep=True), ["y"]) == expected


def test_nothing_is_kept_unless_asked_nor_of_a_large_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(open_session(small, ["openvino"]), ["y"])
    monkeypatch.setattr(openvino_session, "_SMALL", 1)
    run(open_session(small, ["openvino"], keep=True), ["y"])
    assert not kept(tmp_path)


@pytest.mark.parametrize("cache", ["/dev/null/cache", None])
def test_a_cache_that_cannot_be_written_costs_only_the_time(
    small: Path, cache: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    else:  # a user without a home
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("os.path.expanduser", str)
    assert run(open_session(small, ["openvino"], keep=True), ["y"]) == [[[0, 0, 2]]]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the owner of a folder is not known here")
@pytest.mark.parametrize("level", ["compiled", "key"])
def test_what_others_can_write_is_not_trusted(small: Path, tmp_path: Path, level: str) -> None:
    run(open_session(small, ["openvino"], keep=True), ["y"])
    (folder,) = {path.parent for path in kept(tmp_path)}
    assert [path.stat().st_mode & 0o077 for path in (folder, folder.parent)] == [0, 0]
    (folder if level == "key" else folder.parent).chmod(0o770)
    before = kept(tmp_path)
    for path in before:
        path.unlink()
    run(open_session(small, ["openvino"], keep=True), ["y"])
    assert kept(tmp_path) == {}


def test_a_file_that_changes_while_it_is_open_is_not_kept_as_what_it_was(small: Path, tmp_path: Path) -> None:
    session = open_session(small, ["openvino"], keep=True)
    before = kept(tmp_path)
    write(small, [helper.make_node("Abs", ["x"], ["y"])], [("x", TensorProto.FLOAT, ["N", 3])], ["y"])
    run(session, ["y"])
    assert kept(tmp_path) == before


@pytest.mark.parametrize("change", ["model", "batch", "threads"])
def test_what_decides_the_compiled_model_is_in_its_key(small: Path, tmp_path: Path, change: str) -> None:
    def folders() -> int:
        return len({path.parent for path in kept(tmp_path)})

    run(open_session(small, ["openvino"], batch=1, keep=True), ["y"])
    assert folders() == 1
    if change == "model":
        write(small, [helper.make_node("Abs", ["x"], ["y"])], [("x", TensorProto.FLOAT, ["N", 3])], ["y"])
    session = open_session(
        small, ["openvino"], threads=2 if change == "threads" else 1, batch=None if change == "batch" else 1, keep=True
    )
    assert run(session, ["y"]) == [[[1, 0, 2]] if change == "model" else [[0, 0, 2]]]
    assert folders() == 2


def test_the_models_kept_the_longest_ago_give_way(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for number in range(12):
        CompiledModel({"number": number}, tmp_path).keep("a.blob", b"a")
        assert CompiledModel({"number": 2}, tmp_path).read("a.blob") == (b"a" if number >= 2 else None)
        for path in tmp_path.iterdir():
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    found = [CompiledModel({"number": number}, tmp_path).read("a.blob") for number in range(12)]
    assert [number for number, content in enumerate(found) if content] == [2, *range(5, 12)]


@pytest.mark.parametrize("limit", [64 << 20, 0], ids=["own copies", "a shared one"])
def test_no_more_requests_are_made_than_callers(small: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_session, "_SMALL", limit)
    session = OpenVinoSession(small, callers=2)
    given = {"x": np.ones((4, 3), np.float32)}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: session.run(["z"], given)[0], range(60)))
    assert all((result == -1).all() for result in results)
    assert 1 <= len(session._idle["z",]) <= 2


@pytest.mark.parametrize("callers", [1, 2])
def test_a_call_that_is_refused_does_not_spoil_the_next(small: Path, callers: int) -> None:
    session = OpenVinoSession(small, callers=callers)
    for _ in range(3):
        with pytest.raises(ValueError, match="refuses"):
            session.run(["y"], {"x": np.ones((1, 4), np.float32)})
        assert session.run(["y"], {"x": np.ones((1, 3), np.float32)})[0].tolist() == [[1, 1, 1]]
