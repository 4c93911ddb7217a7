"""Models that OpenVINO's own package runs on the CPU, behind the few methods of ONNX Runtime's sessions that are used.

The package can live beside any build of ONNX Runtime. Whatever is asked of it here stays on this machine: its tools for
the conversion of models, which report to a server when they are imported, are left out.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.openvino_stem import with_plain_stem

PROVIDER = "OpenVINO"
_MISSING = "provider 'openvino' needs OpenVINO: pip install 'fastdup-dagster[openvino]'"
_TOOLS = "openvino.tools.ovc"
_IMPORTING = threading.Lock()
# Letters of what OpenVINO complains of, which may be pages.
_LONGEST = 300
# ONNX Runtime's words for the types of tensors.
_TYPES = {"f32": "float", "f64": "double", "f16": "float16", "bf16": "bfloat16", "boolean": "bool"}
_TYPES |= {f"{sign}{bits}": f"{name}int{bits}" for sign, name in (("i", ""), ("u", "u")) for bits in (8, 16, 32, 64)}


def openvino() -> ModuleType:
    """The package, without its conversion tools.

    Raises:
        ImportError: if it is not installed, with the command.
    """
    with _IMPORTING:
        left_out = sys.modules.get("openvino") is None
        if left_out:
            # The package goes on without them if they cannot be imported, and a name that is None cannot.
            sys.modules[_TOOLS] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            raise ImportError(_MISSING) from error
        finally:
            if left_out:
                del sys.modules[_TOOLS]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output, as ONNX Runtime describes it.

    Attributes:
        name: in the file.
        type: such as `tensor(float)`.
        shape: None where a length is open.
    """

    name: str
    type: str
    shape: list[int | None]


@dataclass(frozen=True, slots=True)
class ModelMeta:
    """What the one who wrote the file says of it.

    Attributes:
        custom_metadata_map: text by name.
    """

    custom_metadata_map: dict[str, str] = field(default_factory=dict)


class OpenVinoSession:
    """A model in OpenVINO. Calls may come from several threads at once.

    What is computed is float32 or integer, as the file has it, on every machine: no bfloat16 where the CPU offers it.

    Args:
        path: an .onnx file.
        threads: threads inside one call.
        callers: threads that call at once; where there are more, they wait for each other.
        batch: length of the first axis of every call where the file leaves it open: a known one is faster.

    Raises:
        ImportError: if OpenVINO is not installed, with the command.
        ValueError: if it cannot read the file.
    """

    def __init__(self, path: Path, threads: int = 1, callers: int = 1, batch: int | None = None) -> None:
        self._openvino = openvino()
        self._path = path
        self._properties = {
            "INFERENCE_NUM_THREADS": threads * callers,
            "NUM_STREAMS": callers,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            frontend = self._openvino.frontend.FrontEndManager().load_by_framework("onnx")
            self._model = with_plain_stem(self._openvino, frontend.convert(frontend.load(str(path))))
            if not self._model.get_results():
                raise ValueError("a model without outputs")
            if batch is not None:
                self._fix(batch)
        except Exception as error:  # OpenVINO raises RuntimeError and classes of its own below Exception
            raise self._refused(error) from error
        self._lock = threading.Lock()
        self._compiled: dict[tuple[str, ...], Any] = {}
        self._requests = _Requests()

    def get_inputs(self) -> list[TensorInfo]:
        """The inputs."""
        return [_described(node, node.get_friendly_name()) for node in self._model.get_parameters()]

    def get_outputs(self) -> list[TensorInfo]:
        """The outputs."""
        return [_described(node, name) for name, node in self._results.items()]

    def get_providers(self) -> list[str]:
        """What runs it."""
        return [PROVIDER]

    def get_modelmeta(self) -> ModelMeta:
        """What is said of the model in the file."""
        found = dict(self._model.get_rt_info().items()).get("framework", {})
        return ModelMeta({name: str(value.value) for name, value in found.items()})

    def run(self, outputs: Sequence[str] | None, given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of one call; the first call for certain outputs compiles what they need and no more.

        Args:
            outputs: names, None for all.
            given: by name of the input.

        Raises:
            ValueError: if OpenVINO refuses the model or what it is given.
        """
        wanted = tuple(self._results if outputs is None else outputs)
        try:
            request = self._request(wanted)
            # Named, so that the memory that the request only points to lives until it has run.
            arrays = {info.name: np.ascontiguousarray(given[info.name]) for info in self._inputs}
            for name, array in arrays.items():
                request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
            request.infer()
        except Exception as error:
            raise self._refused(error) from error
        # The request goes on using its memory.
        return [request.get_output_tensor(place).data.copy() for place in range(len(wanted))]

    @cached_property
    def _inputs(self) -> list[TensorInfo]:
        return self.get_inputs()

    @cached_property
    def _results(self) -> dict[str, Any]:
        return {node.get_friendly_name().rpartition("/sink_port_")[0]: node for node in self._model.get_results()}

    def _fix(self, batch: int) -> None:
        shapes = {}
        for node in self._model.get_parameters():
            shape = node.get_partial_shape()
            if len(shape) and shape[0].is_dynamic:
                shape[0] = batch
                shapes[node.output(0)] = shape
        if shapes:
            self._model.reshape(shapes)

    def _request(self, wanted: tuple[str, ...]) -> Any:
        """That of this thread."""
        own = self._requests.own
        if wanted not in own:
            own[wanted] = self._compiled_for(wanted).create_infer_request()
        return own[wanted]

    def _compiled_for(self, wanted: tuple[str, ...]) -> Any:
        with self._lock:
            if wanted not in self._compiled:
                nodes = [self._results[name] for name in wanted]
                part = self._openvino.Model(nodes, self._model.get_parameters(), self._path.stem)
                self._compiled[wanted] = self._openvino.Core().compile_model(part, "CPU", self._properties)
            return self._compiled[wanted]

    def _refused(self, error: Exception) -> ValueError:
        # Without the places in OpenVINO's own source.
        lines = [
            line for line in str(error).splitlines() if line and not line.startswith(("Exception from", "Check '"))
        ]
        reason = " ".join(lines)[:_LONGEST] or repr(error)
        return ValueError(f"model {self._path}: OpenVINO refuses it, provider 'cpu' may not: {reason}")


class _Requests(threading.local):
    """One request for each set of outputs: a request serves one call at a time, so every thread has its own."""

    def __init__(self) -> None:
        self.own: dict[tuple[str, ...], Any] = {}


def _described(node: Any, name: str) -> TensorInfo:
    kind = node.get_output_element_type(0).get_type_name()
    shape = [None if length.is_dynamic else length.get_length() for length in node.get_output_partial_shape(0)]
    return TensorInfo(name, f"tensor({_TYPES.get(kind, kind)})", shape)
