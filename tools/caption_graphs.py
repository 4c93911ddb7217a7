"""Captioning models as ONNX files whose names, inputs and outputs are those of Hugging Face Optimum's exports."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

OPSET = 17
Axes = Mapping[str, Mapping[int, str]]


class _Call(nn.Module):
    """A model seen through one function."""

    def __init__(self, model: nn.Module, call: Any) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self._call(self.model, *inputs)


def export(
    model: nn.Module, call: Any, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], axes: Axes, path: Path
) -> None:
    """Traces `call(model, *inputs)` into an ONNX file without the traces of where its nodes came from."""
    wrapped = _Call(model, call).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapped,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(given) for name, given in axes.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    made = onnx.load(path)
    for node in made.graph.node:
        node.doc_string = ""
    onnx.save(made, path)


def export_decoder(decoder: nn.Module, width: int, folder: Path, cross: bool, positions: int = 5) -> None:
    """`decoder_model.onnx` and `decoder_with_past_model.onnx` of a text decoder with cross-attention.

    Args:
        decoder: takes `input_ids`, `encoder_hidden_states` and a cache.
        width: of the encoder's states.
        folder: where the files go.
        cross: whether the keys and values of the encoder's states are cached too, as `past_key_values.N.encoder.key`.
        positions: of the encoder's states in the trace.
    """
    config = decoder.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    parts = [".decoder", ".encoder"] if cross else [""]
    names = [f"{n}{part}.{kind}" for n in range(layers) for part in parts for kind in ("key", "value")]
    size = config.hidden_size // heads
    states = torch.randn(2, positions, width)
    axes: dict[str, dict[int, str]] = {
        "input_ids": {0: "batch_size", 1: "decoder_sequence_length"},
        "encoder_hidden_states": {0: "batch_size", 1: "encoder_sequence_length"},
        "logits": {0: "batch_size", 1: "decoder_sequence_length"},
    }
    for name in names:
        length = "encoder_sequence_length" if ".encoder." in name else "past_decoder_sequence_length"
        axes[f"past_key_values.{name}"] = {0: "batch_size", 2: length}
        axes[f"present.{name}"] = {0: "batch_size", 2: f"{length} + 1" if "past" in length else length}

    def first(model: nn.Module, ids: torch.Tensor, encoded: torch.Tensor) -> list[torch.Tensor]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        out = model(input_ids=ids, encoder_hidden_states=encoded, cache=cache, use_cache=True)
        return [out.logits, *_flat(out.cache, cross, cross)]

    def later(model: nn.Module, ids: torch.Tensor, encoded: torch.Tensor, *past: torch.Tensor) -> list[torch.Tensor]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        step = 4 if cross else 2
        for layer in range(layers):
            given = past[step * layer : step * (layer + 1)]
            cache.self_attention_cache.update(given[0], given[1], layer)
            if cross:
                cache.cross_attention_cache.update(given[2], given[3], layer)
                cache.is_updated[layer] = True
        out = model(input_ids=ids, encoder_hidden_states=encoded, cache=cache, use_cache=True)
        return [out.logits, *_flat(out.cache, cross, False)]

    # Several tokens: a trace of one alone would have no causal mask.
    base = {"input_ids": torch.ones((2, 3), dtype=torch.int64), "encoder_hidden_states": states}
    presents = [f"present.{name}" for name in names]
    export(decoder, first, base, ["logits", *presents], axes, folder / "decoder_model.onnx")
    past = {
        f"past_key_values.{name}": torch.randn(2, heads, positions if ".encoder." in name else 3, size)
        for name in names
    }
    presents = [name for name in presents if ".encoder." not in name]
    one = {**base, "input_ids": base["input_ids"][:, :1]}
    export(decoder, later, {**one, **past}, ["logits", *presents], axes, folder / "decoder_with_past_model.onnx")


def _flat(cache: EncoderDecoderCache, cross: bool, with_cross: bool) -> list[torch.Tensor]:
    flat = []
    for own, other in zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True):
        flat += [own.keys, own.values]
        flat += [other.keys, other.values] if cross and with_cross else []
    return flat


def merge(folder: Path) -> None:
    """`decoder_model_merged.onnx`: both decoders as the branches of an If, chosen by the input `use_cache_branch`."""
    first, later = (onnx.load(folder / f"decoder{part}_model.onnx") for part in ("", "_with_past"))
    outputs = [value.name for value in first.graph.output]
    branches = []
    for prefix, made in (("first/", first), ("later/", later)):
        given = {value.name for value in made.graph.input}
        graph = made.graph
        _rename(graph, lambda name, given=given, prefix=prefix: name if not name or name in given else prefix + name)
        branches.append(
            helper.make_graph(list(graph.node), prefix.strip("/"), [], list(graph.output), list(graph.initializer))
        )
    choice = helper.make_node(
        "If", ["use_cache_branch"], outputs, then_branch=branches[1], else_branch=branches[0], name="optimum::if"
    )
    flag = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    shown = list(onnx.load(folder / "decoder_with_past_model.onnx").graph.output)
    graph = helper.make_graph([choice], "merged", [*later.graph.input, flag], shown)
    made = helper.make_model(graph, opset_imports=list(first.opset_import), ir_version=first.ir_version)
    onnx.checker.check_model(made)
    onnx.save(made, folder / "decoder_model_merged.onnx")


def _rename(graph: onnx.GraphProto, new: Any) -> None:
    for node in graph.node:
        node.name = new(node.name)
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, new)
    for value in [*graph.initializer, *graph.output]:
        value.name = new(value.name)
