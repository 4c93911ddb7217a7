"""Captioning models as ONNX files whose names, inputs and outputs are those of Hugging Face Optimum's exports."""

from __future__ import annotations

import tempfile
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
    model: nn.Module,
    call: Any,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    axes: Axes,
    path: Path,
    beside: bool = False,
) -> None:
    """Traces `call(model, *inputs)` into an ONNX file without the traces of where its nodes came from.

    Args:
        model: what is called.
        call: with the model and the inputs.
        inputs: by name, for the trace.
        outputs: names of what it gives.
        axes: of inputs and outputs, those of any length.
        path: of the file.
        beside: weights go into a file beside it, `<name>_data`: an ONNX file cannot be over 2 GB.
    """
    wrapped = _Call(model, call).eval()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapped,
            tuple(inputs.values()),
            Path(folder) / path.name,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(given) for name, given in axes.items()},
            opset_version=OPSET,
            dynamo=False,
        )
        made = onnx.load(Path(folder) / path.name)
    for node in made.graph.node:
        node.doc_string = ""
    if beside:
        onnx.save(made, path, save_as_external_data=True, location=f"{path.name}_data")
    else:
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


def export_blip2(model: nn.Module, folder: Path, beside: bool = False) -> None:
    """The three graphs of a BLIP-2 whose language model is causal, such as OPT.

    Args:
        model: transformers' `Blip2ForConditionalGeneration`, float32.
        folder: where the files go.
        beside: see `export`.
    """

    def seen(m: nn.Module, values: torch.Tensor) -> torch.Tensor:
        states = m.vision_model(pixel_values=values).last_hidden_state
        asked = m.query_tokens.expand(values.shape[0], -1, -1)
        return m.language_projection(m.qformer(query_embeds=asked, encoder_hidden_states=states).last_hidden_state)

    config = model.config
    side = config.vision_config.image_size
    axes = {name: {0: "batch_size"} for name in ("pixel_values", "last_hidden_state")}
    export(
        model, seen, {"pixel_values": torch.randn(2, 3, side, side)}, ["last_hidden_state"], axes,
        folder / "encoder_model.onnx", beside,
    )  # fmt: skip
    width = config.text_config.hidden_size
    export_causal_decoder(model.language_model, config.num_query_tokens, width, folder, beside)


def export_causal_decoder(decoder: nn.Module, queries: int, width: int, folder: Path, beside: bool = False) -> None:
    """`decoder_model.onnx` and `decoder_with_past_model.onnx` of a language model that sees an image before its text.

    The tokens of the first graph begin with a placeholder for each of the encoder's states, which take their places.

    Args:
        decoder: takes `inputs_embeds` and a cache.
        queries: how many states of the encoder there are.
        width: of the states.
        folder: where the files go.
        beside: see `export`.
    """
    config = decoder.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    names = [f"{n}.{kind}" for n in range(layers) for kind in ("key", "value")]
    axes: dict[str, dict[int, str]] = {
        "input_ids": {0: "batch_size", 1: "decoder_sequence_length"},
        "encoder_hidden_states": {0: "batch_size"},
        "logits": {0: "batch_size", 1: "decoder_sequence_length"},
    }
    for name in names:
        axes[f"past_key_values.{name}"] = {0: "batch_size", 2: "past_decoder_sequence_length"}
        axes[f"present.{name}"] = {0: "batch_size", 2: "past_decoder_sequence_length + 1"}

    def said(model: nn.Module, embeds: torch.Tensor, cache: DynamicCache) -> list[torch.Tensor]:
        out = model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return [out.logits, *(tensor for layer in out.past_key_values.layers for tensor in (layer.keys, layer.values))]

    def first(model: nn.Module, ids: torch.Tensor, states: torch.Tensor) -> list[torch.Tensor]:
        words = model.get_input_embeddings()(ids)[:, queries:]
        return said(model, torch.cat([states, words], dim=1), DynamicCache())

    def later(model: nn.Module, ids: torch.Tensor, *past: torch.Tensor) -> list[torch.Tensor]:
        cache = DynamicCache()
        for layer in range(layers):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        return said(model, model.get_input_embeddings()(ids), cache)

    presents = [f"present.{name}" for name in names]
    ids = torch.ones((2, queries + 3), dtype=torch.int64)
    base = {"input_ids": ids, "encoder_hidden_states": torch.randn(2, queries, width)}
    export(decoder, first, base, ["logits", *presents], axes, folder / "decoder_model.onnx", beside)
    size = config.hidden_size // heads
    past = {f"past_key_values.{name}": torch.randn(2, heads, queries + 3, size) for name in names}
    export(
        decoder, later, {"input_ids": ids[:, :1], **past}, ["logits", *presents], axes,
        folder / "decoder_with_past_model.onnx", beside,
    )  # fmt: skip


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
