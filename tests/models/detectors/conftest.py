"""ONNX files of the shape of YOLOv5 and of YuNet that find what a test puts into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Write = Callable[..., Path]


def raw_boxes(seed: int, side: int, classes: int, count: int = 400) -> np.ndarray:
    """count x (5 + classes): centre, size, objectness, class scores, with crowds that overlap."""
    rng = np.random.default_rng(seed)
    crowds = rng.uniform(0.1 * side, 0.9 * side, (12, 2))
    centre = crowds[rng.integers(0, 12, count)] + rng.normal(0, 0.02 * side, (count, 2))
    size = rng.uniform(0.1, 0.3, (count, 2)) * side
    return np.concatenate([centre, size, rng.random((count, 1)), rng.random((count, classes))], axis=1)


@pytest.fixture
def write_yolo(tmp_path: Path) -> Write:
    """`write(boxes, side, fp16=False, names=None)`: a model that finds the same boxes in every image.

    The objectness of a box is multiplied by the mean of the image's red in the top left ninth: an image that is not
    letterboxed with grey, or not scaled to 0 … 1, gives other scores.
    """

    def write(boxes: np.ndarray, side: int | str, fp16: bool = False, names: Sequence[str] | None = None) -> Path:
        number = TensorProto.FLOAT16 if fp16 else TensorProto.FLOAT
        kind = np.float16 if fp16 else np.float32
        columns = boxes.shape[1]
        mask = np.zeros(columns)
        mask[4] = 1
        constants = {
            "boxes": boxes[None].astype(kind),
            "mask": mask.astype(kind),
            "rest": (1 - mask).astype(kind),
            "starts": np.array([0, 0, 0]),
            "ends": np.array([1, 8, 8]),
            "axes": np.array([1, 2, 3]),
        }
        nodes = [
            helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["corner"]),
            helper.make_node("ReduceMean", ["corner"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["mask", "mean"], ["scaled"]),
            helper.make_node("Add", ["scaled", "rest"], ["factors"]),
            helper.make_node("Mul", ["boxes", "factors"], ["output0"]),
        ]
        graph = helper.make_graph(
            nodes,
            "yolo",
            [helper.make_tensor_value_info("images", number, [1, 3, side, side])],
            [helper.make_tensor_value_info("output0", number, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if names is not None:
            helper.set_model_props(model, {"names": repr(dict(enumerate(names)))})
        path = tmp_path / f"yolo{'16' if fp16 else ''}-{len(boxes)}.onnx"
        onnx.save(model, str(path))
        return path

    return write


@pytest.fixture
def write_yunet(tmp_path: Path) -> Write:
    """`write()`: a model of YuNet's shape that finds a face of 32 x 32 pixels at every white cell of stride 32."""

    def write() -> Path:
        nodes, outputs, constants = [], [], []

        def constant(name: str, value: np.ndarray) -> str:
            constants.append(numpy_helper.from_array(value, name))
            return name

        for stride in (8, 16, 32):
            kernel = [stride, stride]
            cells, flat, score = f"cells{stride}", f"flat{stride}", f"score{stride}"
            nodes.append(helper.make_node("AveragePool", ["input"], [cells], kernel_shape=kernel, strides=kernel))
            nodes.append(helper.make_node("ReduceMean", [cells], [f"{cells}m"], axes=[1], keepdims=1))
            shape = constant(f"shape{stride}", np.array([1, -1, 1]))
            nodes.append(helper.make_node("Reshape", [f"{cells}m", shape], [flat]))
            # 1 where the cell is white, 0 where it is not; never at the finer strides
            limit = constant(f"limit{stride}", np.array(250.0 if stride == 32 else 1e9, np.float32))
            nodes.append(helper.make_node("Greater", [flat, limit], [f"{score}b"]))
            nodes.append(helper.make_node("Cast", [f"{score}b"], [score], to=TensorProto.FLOAT))
            for name, width, value in (("cls", 1, 1.0), ("obj", 1, 1.0), ("bbox", 4, 0.0), ("kps", 10, 0.0)):
                # bbox 0, 0, 0, 0: a box of the stride's size whose centre is the cell's corner
                ones = constant(f"ones{name}{stride}", np.full((1, 1, width), value, np.float32))
                nodes.append(helper.make_node("Mul", [score, ones], [f"{name}_{stride}"]))
                outputs.append((f"{name}_{stride}", width))
        outputs.sort(key=lambda item: ("cls", "obj", "bbox", "kps").index(item[0].split("_")[0]))
        graph = helper.make_graph(
            nodes,
            "yunet",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", width]) for name, width in outputs],
            constants,
        )
        path = tmp_path / "yunet.onnx"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, str(path))
        return path

    return write
