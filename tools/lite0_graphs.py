"""The ONNX graphs of the bundled model: float32, and static int8 as QuantizeLinear / DequantizeLinear pairs.

Quantisation is static: uint8 activations per tensor, int8 weights per output channel. It is written out here, and not
left to `onnxruntime.quantization`, because the network is a plain chain of three shapes (convolution, residual sum,
pool), and then the pixels ARE the first quantised tensor, ReLU6 is the saturation of the next, SAME padding is an
attribute of its convolution, and no weight needs to lose a bit to be safe on CPUs without VNNI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from lite0_network import Array, Convolution, Network
from onnx import TensorProto, helper, numpy_helper

NAME, TAGS_NAME = "efficientnet_lite0_int8", "efficientnet_lite0_tags_int8"
SIDE = 160
CLASSES = 1000
PROJECTIONS = (576, 960)
# Square of the last coordinate of every embedding, which is the same for all images; the others' squares come to the
# rest of 1. Cosines are raised by it evenly, c to (c + 1) / 2, which changes no order: two photos of different things
# have about .6, and six of ten edits of copy detection are over the threshold .9 that people know.
COMMON_SHARE = 1 / 2
# 17 is the oldest operator set with everything used here, so old runtimes can load the file too.
OPSET = 17
IR_VERSION = 8

PIXEL_MEAN = 127
PIXEL_SCALE = 128.0
RELU6 = 6.0
WEIGHT_LIMIT = 127


@dataclass(frozen=True)
class Quantiser:
    """Affine map of a tensor to uint8: real = scale * (quantised - zero_point)."""

    scale: np.float32
    zero_point: np.uint8

    @classmethod
    def covering(cls, low: float, high: float) -> Quantiser:
        """The map whose 256 steps cover [low, high] and which represents 0 exactly (padding is 0)."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255.0
        return cls(np.float32(scale), np.uint8(round(-low / scale)))


PIXELS = Quantiser(np.float32(1.0 / PIXEL_SCALE), np.uint8(PIXEL_MEAN))


class GraphWriter:
    """Collects nodes and constants of one ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}:{operator}", **attributes))
        return output

    def model(self, name: str, shapes: Mapping[str, int]) -> onnx.ModelProto:
        """The checked model with the public input and these outputs, by name and width."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in shapes.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "export_model.py"
        helper.set_model_props(model, {"license": "Apache-2.0", "network": "EfficientNet-Lite0"})
        onnx.checker.check_model(model, full_check=True)
        return model


def float_model(network: Network, projection: Array | None) -> onnx.ModelProto:
    """The network in float32: what calibration observes and what the quantised graph is measured against.

    Args:
        network: the weights.
        projection: float32 [features, at least the widest of `PROJECTIONS`], for embeddings; None for logits.
    """
    writer = GraphWriter()
    writer.node("Transpose", ["pixels"], "planes", perm=[0, 3, 1, 2])
    writer.node("Cast", ["planes"], "planes_float", to=TensorProto.FLOAT)
    writer.node("Sub", ["planes_float", writer.constant("pixel_mean", np.float32(PIXEL_MEAN))], "planes_centred")
    writer.node("Div", ["planes_centred", writer.constant("pixel_scale", np.float32(PIXEL_SCALE))], "image")
    low, high = writer.constant("relu6_low", np.float32(0.0)), writer.constant("relu6_high", np.float32(RELU6))
    for layer in network.layers:
        weight = writer.constant(f"{layer.name}_weight", layer.weight)
        bias = writer.constant(f"{layer.name}_bias", layer.bias)
        output = f"{layer.name}_unclipped" if layer.relu6 else layer.name
        writer.node("Conv", [layer.source, weight, bias], output, **_conv_attributes(layer))
        if layer.relu6:
            writer.node("Clip", [output, low, high], layer.name)
        if layer.residual:
            writer.node("Add", [layer.name, layer.residual], layer.output)
    writer.node("ReduceMean", [network.layers[-1].output], "features", axes=[2, 3], keepdims=0)
    if projection is not None:
        return _with_projections(writer, projection)
    weight = writer.constant("classifier_weight", np.ascontiguousarray(network.classifier.T))
    writer.node("MatMul", ["features", weight], "logits_unbiased")
    writer.node("Add", ["logits_unbiased", writer.constant("classifier_bias", network.classifier_bias)], "logits")
    return writer.model(TAGS_NAME, {"logits": CLASSES})


def quantised_model(
    network: Network, ranges: Mapping[str, tuple[float, float]], projection: Array | None
) -> onnx.ModelProto:
    """The network in int8, as QuantizeLinear / DequantizeLinear pairs that ONNX Runtime fuses into integer kernels.

    Args:
        network: the float weights.
        ranges: (low, high) of every tensor between two layers, and of `features`.
        projection: float32 [features, at least the widest of `PROJECTIONS`], for embeddings; None for logits.
    """
    writer = GraphWriter()
    quantisers = {name: Quantiser.covering(*limits) for name, limits in ranges.items()}
    _write_stem(writer, network.layers[0], quantisers[network.layers[0].name])
    for layer in network.layers[1:]:
        weights = _write_weights(writer, layer.name, layer.weight, layer.bias, quantisers[layer.source])
        # ReLU6 needs no node: a tensor quantised to [0, 6] saturates there.
        writer.node("Conv", [f"{layer.source}_real", *weights], layer.name, **_conv_attributes(layer))
        _write_requantise(writer, layer.name, quantisers[layer.name])
        if layer.residual:
            writer.node("Add", [f"{layer.name}_real", f"{layer.residual}_real"], layer.output)
            _write_requantise(writer, layer.output, quantisers[layer.output])
    # The mean of 49 quantised values is finer than 8 bits, so the pool and the projection stay in float32.
    writer.node("ReduceMean", [f"{network.layers[-1].output}_real"], "features", axes=[2, 3], keepdims=0)
    if projection is not None:
        return _with_projections(writer, projection)
    return _with_classifier(writer, network, quantisers["features"])


def _conv_attributes(layer: Convolution) -> dict[str, Any]:
    kernel = list(layer.weight.shape[2:])
    return {
        "kernel_shape": kernel,
        "strides": [layer.stride] * 2,
        "pads": list(layer.pads),
        "group": layer.groups,
    }


def _write_stem(writer: GraphWriter, stem: Convolution, outputs: Quantiser) -> None:
    """The first convolution, straight on the bytes.

    (x - 127) / 128 is what DequantizeLinear computes with this scale and zero point: no float image ever exists.

    ONNX Runtime's fast integer convolution wants input channels in fours, and RGB has three. In NHWC four columns of
    three are twelve channels by a mere Reshape, so the convolution is written on those, giving two output columns at
    once, the same integers bit for bit.
    """
    writer.node("Reshape", ["pixels", writer.constant("fours", np.array([0, 0, -1, 12]))], "pixel_fours")
    writer.node("Transpose", ["pixel_fours"], "image_quantised", perm=[0, 3, 1, 2])
    _write_dequantise(writer, "image_quantised", "image_real", PIXELS)
    merged = _merge_columns(stem)
    # Safe in every layout: as it is here, in either column, and as the plain convolution that OpenVINO is given.
    peaks = np.maximum.reduce([_safe_peaks(stem.weight), *np.split(_safe_peaks(merged.weight), 2)])
    weights = _write_weights(writer, merged.name, merged.weight, merged.bias, PIXELS, np.tile(peaks, 2))
    attributes = _conv_attributes(merged) | {"strides": [2, 1]}
    writer.node("Conv", ["image_real", *weights], "stem_pairs", **attributes)
    _write_quantise(writer, "stem_pairs", "stem_pairs_quantised", outputs)
    writer.node("Transpose", ["stem_pairs_quantised"], "stem_pairs_last", perm=[0, 2, 3, 1])
    shape = writer.constant("singles", np.array([0, 0, -1, len(stem.weight)]))
    writer.node("Reshape", ["stem_pairs_last", shape], "stem_last")
    writer.node("Transpose", ["stem_last"], "stem_quantised", perm=[0, 3, 1, 2])
    _write_dequantise(writer, "stem_quantised", "stem_real", outputs)


def _merge_columns(stem: Convolution) -> Convolution:
    """The stride-2 3x3 convolution on [3, 160, 160] as one on [12, 160, 40]: four columns in, two columns out.

    Output column 4 g + 2 p (p = 0, 1) of channel c becomes channel 32 p + c at column g. It reads the columns up to
    4 g + 4, hence a kernel two groups wide, zero where it reaches further.
    """
    if stem.weight.shape[1:] != (3, 3, 3) or stem.stride != 2 or stem.pads != (0, 0, 1, 1):
        raise ValueError(f"{stem.name} is not a 3x3 convolution of RGB with stride 2 and padding below and right")
    channels = len(stem.weight)
    weight = np.zeros((2, channels, 4, 3, 3, 2), stem.weight.dtype)  # pair, out, column, RGB, kernel row, group
    for pair in range(2):
        for tap in range(3):
            group, column = divmod(2 * pair + tap, 4)
            weight[pair, :, column, :, :, group] = stem.weight[:, :, :, tap]
    return replace(stem, weight=weight.reshape(2 * channels, 12, 3, 2), bias=np.tile(stem.bias, 2))


def _write_requantise(writer: GraphWriter, tensor: str, quantiser: Quantiser) -> None:
    """`tensor` -> `tensor`_quantised (uint8) -> `tensor`_real (float32 of the same 256 values)."""
    _write_quantise(writer, tensor, f"{tensor}_quantised", quantiser)
    _write_dequantise(writer, f"{tensor}_quantised", f"{tensor}_real", quantiser)


def _write_quantise(writer: GraphWriter, tensor: str, output: str, quantiser: Quantiser) -> None:
    writer.node("QuantizeLinear", [tensor, *_write_quantiser(writer, output, quantiser)], output)


def _write_dequantise(writer: GraphWriter, tensor: str, output: str, quantiser: Quantiser) -> None:
    writer.node("DequantizeLinear", [tensor, *_write_quantiser(writer, output, quantiser)], output)


def _write_quantiser(writer: GraphWriter, prefix: str, quantiser: Quantiser) -> list[str]:
    scale = writer.constant(f"{prefix}_scale", quantiser.scale)
    return [scale, writer.constant(f"{prefix}_zero", quantiser.zero_point)]


def _write_weights(
    writer: GraphWriter, prefix: str, weight: Array, bias: Array, inputs: Quantiser, peaks: Array | None = None
) -> list[str]:
    """Weight [out, in, ...] as int8 and bias [out] as int32 constants; returns the names of their real values.

    A step is the output channel's own: the bias counts in input steps times weight steps, as the integer sum does.
    `peaks` are those of `_safe_peaks` where they are not to be of this layout alone.
    """
    # A channel with next to no weight needs a step that still lets its bias fit 32 bits.
    smallest = np.abs(bias) / (float(inputs.scale) * 2**30)
    steps, scale = _quantise_channels(weight, _safe_peaks(weight) if peaks is None else peaks, smallest)
    bias_scale = (scale * inputs.scale).astype(np.float32)
    bias_steps = np.rint(bias.astype(np.float64) / bias_scale).astype(np.int32)
    zeros = np.zeros(len(scale), np.int32)
    for name, value, unit in (("weight", steps, scale), ("bias", bias_steps, bias_scale)):
        constants = [
            writer.constant(f"{prefix}_{name}", value),
            writer.constant(f"{prefix}_{name}_scale", unit),
            writer.constant(f"{prefix}_{name}_zero", zeros.astype(value.dtype)),
        ]
        writer.node("DequantizeLinear", constants, f"{prefix}_{name}_real", axis=0)
    return [f"{prefix}_weight_real", f"{prefix}_bias_real"]


def _quantise_channels(weight: Array, peaks: Array, smallest: Array) -> tuple[Array, Array]:
    """Symmetric int8 per output channel.

    Args:
        weight: float32 [out, in, ...].
        peaks: float64 [out], the magnitudes that become 127.
        smallest: float [out], lower bounds of the steps.

    Returns:
        int8 of weight's shape, within +-127, and float32 [out] steps.
    """
    step = np.maximum(peaks / WEIGHT_LIMIT, np.maximum(smallest, np.finfo(np.float32).eps))
    scale = step.astype(np.float32)
    steps = np.rint(weight.astype(np.float64) / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(steps, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), scale


def _safe_peaks(weight: Array) -> Array:
    """The magnitude that may become 127 in each output channel of [out, in, ...], float64 [out].

    An x86 CPU without VNNI multiplies uint8 by int8 with vpmaddubsw, which adds the products of two neighbouring input
    channels in int16 and saturates above 32767. Where the positive weights of a pair sum to at most 128, and the
    negative ones too, the worst sum is 255 * 128 = 32640, so that every CPU computes the same integers. (127 here, as
    rounding may add a half to each.) The usual remedy, `reduce_range`, halves every weight; few pairs need it.
    Depthwise convolutions have one input channel, hence no pairs: their kernels sum in 32 bits.
    """
    peaks: Array = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    if weight.shape[1] == 1:
        return peaks
    for part in (np.maximum(weight, 0.0), np.maximum(-weight, 0.0)):
        pairs = part[:, 0::2].astype(np.float64) + part[:, 1::2]
        peaks = np.maximum(peaks, pairs.reshape(len(weight), -1).max(axis=1))
    return peaks


def _with_projections(writer: GraphWriter, projection: Array) -> onnx.ModelProto:
    """The model of both embeddings, of length 1, from one product.

    The product takes the square roots of the features, so that a few strong ones do not decide alone (Hellinger's
    kernel; Arandjelovic and Zisserman, Three things everyone should know to improve object retrieval, CVPR 2012).

    ONNX Runtime runs every node, requested or not, so two products would cost every caller both.
    The matrix is stored in half precision (relative error 2^-11) and widened when the session is made. It must be
    constant by then: ONNX Runtime packs a constant matrix once and has one kernel for any number of rows, so an image
    has the same bits alone and in a batch. With a matrix computed in each run, one row takes another kernel.
    """
    widest = max(PROJECTIONS) - 1
    stored = writer.constant("projection_half", projection[:, :widest].astype(np.float16))
    writer.node("Cast", [stored], "projection", to=TensorProto.FLOAT)
    writer.node("Sqrt", ["features"], "features_rooted")
    writer.node("MatMul", ["features_rooted", "projection"], "projected")
    start, axis = (
        writer.constant(f"slice_{name}", np.array([at], np.int64)) for name, at in (("start", 0), ("axis", 1))
    )
    own = writer.constant("own_length", np.float32(np.sqrt(1 - COMMON_SHARE)))
    common = writer.constant("common_coordinate", np.float32(np.sqrt(COMMON_SHARE)))
    one_more = writer.constant("one_more", np.array([0, 0, 0, 1], np.int64))
    for width in PROJECTIONS:
        end = writer.constant(f"slice_end_{width}", np.array([width - 1], np.int64))
        part = writer.node("Slice", ["projected", start, end, axis], f"projected_{width}")
        unit = writer.node("LpNormalization", [part], f"unit_{width}", axis=1, p=2)
        scaled = writer.node("Mul", [unit, own], f"scaled_{width}")
        writer.node("Pad", [scaled, one_more, common], f"embedding_{width}")
    return writer.model(NAME, {f"embedding_{width}": width for width in PROJECTIONS})


def _with_classifier(writer: GraphWriter, network: Network, features: Quantiser) -> onnx.ModelProto:
    """The model of the logits, from int8 features and weights, summed in int32 and returned in float32."""
    _write_requantise(writer, "features", features)
    arrays = (network.classifier, network.classifier_bias)
    weights = _write_weights(writer, "classifier", *arrays, features)
    # Gemm and not MatMul + Add: ONNX Runtime would make a float Gemm of the two before it looks for integer ones.
    writer.node("Gemm", ["features_real", *weights], "logits", transB=1)
    return writer.model(TAGS_NAME, {"logits": CLASSES})
