"""The bundled model's first convolution as OpenVINO's kernels like it.

In the file it is written for ONNX Runtime: four columns of pixels are twelve channels, and two columns come out at once
(`tools/lite0_graphs.py`). OpenVINO loses integers on the way through the transpositions that this needs, so here it
is the plain 3x3 convolution of stride 2 again, made from the file's own integers.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHANNELS, _COLUMNS = 3, 4
# Counts up whenever the graph that comes out does: what was compiled of another one is of no use.
VERSION = 1


def with_plain_stem(openvino: ModuleType, model: Any) -> Any:
    """The model, its first convolution replaced in place if it is that of the bundled model.

    Args:
        openvino: the package.
        model: an openvino.Model.
    """
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    merged = nodes.get("stem_pairs:Conv/WithoutBiases")
    if merged is None or "stem_real:DequantizeLinear" not in nodes:
        return model
    op = openvino.opset13
    offset, scale = _dequantiser(nodes["image_real:DequantizeLinear"])
    integers, scales = _single_column(nodes["stem_weight_real:DequantizeLinear"])
    # Counted from 0, as its integer kernels want it: the border is written out, and the bias takes the offset.
    sides = (op.constant(np.array([0, *side, 0])) for side in ((0, 0), (1, 1)))
    padded = op.pad(nodes["pixels"], *sides, "constant", op.constant(np.uint8(offset)))
    planes = op.convert(op.transpose(padded, op.constant(np.array([0, 3, 1, 2]))), "f32")
    low, high, top = (op.constant(np.float32(value)) for value in (0, 255, 255 * scale))
    image = op.fake_quantize(planes, low, high, low, top, 256)
    weight = op.multiply(op.convert(op.constant(integers), "f32"), op.constant(scales))
    stem = op.convolution(image, weight, [2, 2], [0, 0], [0, 0], [1, 1])
    of_offset = integers.sum(axis=(1, 2, 3), dtype=np.float64) * scales.ravel() * (float(offset) * float(scale))
    bias = _values(nodes["stem_bias_real:DequantizeLinear"])[: len(integers)] - of_offset.astype(np.float32)
    quantised = nodes["stem_pairs_quantised:QuantizeLinear"]
    fake_quantised = quantised.input_value(0).get_node()
    fake_quantised.input(0).replace_source_output(op.add(stem, op.constant(bias.reshape(1, -1, 1, 1))).output(0))
    integers_again = nodes["stem_real:DequantizeLinear"].input_value(0).get_node().input_value(0).get_node()
    integers_again.input(0).replace_source_output(quantised.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _single_column(dequantised: Any) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights [out, RGB, 3, 3] and scales [out, 1, 1, 1] of the first of the two columns that come out at once.

    The file has [2 out, 4 columns x RGB, 3, 2 groups of columns]; the first column sees the first three of a group.
    """
    integers = _constant(dequantised.input_value(0))
    outputs = len(integers) // 2
    parted = integers[:outputs].reshape(outputs, _COLUMNS, _CHANNELS, 3, 2)[:, :3, :, :, 0]
    scales = _constant(dequantised.input_value(1)).reshape(-1, 1, 1, 1)[:outputs]
    return np.ascontiguousarray(parted.transpose(0, 2, 3, 1)), np.ascontiguousarray(scales, dtype=np.float32)


def _dequantiser(dequantised: Any) -> tuple[np.float32, np.float32]:
    """Offset and scale of (integer - offset) * scale."""
    offset = _constant(dequantised.input_value(0).get_node().input_value(1))
    return np.float32(offset.ravel()[0]), np.float32(_constant(dequantised.input_value(1)).ravel()[0])


def _values(dequantised: Any) -> NDArray[np.float32]:
    """The numbers that integers around 0 stand for."""
    scales = _constant(dequantised.input_value(1)).ravel().astype(np.float64)
    return (_constant(dequantised.input_value(0)).ravel() * scales).astype(np.float32)


def _constant(output: Any) -> NDArray[Any]:
    """What a chain of conversions and the subtraction of zero starts from."""
    node = output.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return np.asarray(node.data)
