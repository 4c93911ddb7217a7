"""Models that OpenVINO's own package runs on the CPU, behind the few methods of ONNX Runtime's sessions that are used.

The package can live beside any build of ONNX Runtime. Whatever is asked of it here stays on this machine: its tools for
the conversion of models, which report to a server when they are imported, are left out.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.compiled import CompiledModel
from fastdup_dagster.models.files import model_files, model_sha256
from fastdup_dagster.models.openvino_stem import VERSION, with_plain_stem

PROVIDER = "OpenVINO"
_MISSING = "provider 'openvino' needs OpenVINO: pip install 'fastdup-dagster[openvino]'"
_TOOLS = "openvino.tools.ovc"
_IMPORTING = threading.Lock()
# Counts up whenever what is kept is written otherwise.
_LAYOUT = 1
_DESCRIPTION = "description.json"
# Bytes of a model's files: more of them are not kept, nor held once a caller, which takes four times as much memory.
_SMALL = 64 << 20
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
        keep: whether what is compiled of a small model is kept for other processes, and taken from there: reading it
            takes a tenth of the time.

    Raises:
        ImportError: if OpenVINO is not installed, with the command.
        ValueError: if it cannot read the file.
    """

    def __init__(
        self, path: Path, threads: int = 1, callers: int = 1, batch: int | None = None, keep: bool = False
    ) -> None:
        self._openvino = openvino()
        self._core = self._openvino.Core()
        self._path = path
        size = sum(file.stat().st_size for file in model_files(path))
        self._own_copies = threads == 1 and size * callers <= _SMALL
        self._properties = {
            "INFERENCE_NUM_THREADS": threads * callers,
            # 0: in the thread that calls. With threads of its own every call would wake one and wait for it.
            "NUM_STREAMS": 0 if self._own_copies else callers,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._batch = batch
        self._exported = self._own_copies and callers > 1
        self._sha256 = model_sha256(path) if keep and size <= _SMALL else None
        self._kept = self._compiled_model() if self._sha256 else None
        self._description = self._described_before() or self._describe()
        self._lock = threading.Lock()
        self._compiled: dict[tuple[str, ...], Any] = {}
        self._blobs: dict[tuple[str, ...], bytes] = {}
        self._callers = threading.BoundedSemaphore(callers)
        self._idle: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)

    def get_inputs(self) -> list[TensorInfo]:
        """The inputs."""
        return self._description.inputs

    def get_outputs(self) -> list[TensorInfo]:
        """The outputs."""
        return self._description.outputs

    def get_providers(self) -> list[str]:
        """What runs it."""
        return [PROVIDER]

    def get_modelmeta(self) -> ModelMeta:
        """What is said of the model in the file."""
        return ModelMeta(self._description.metadata)

    def run(self, outputs: Sequence[str] | None, given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of one call; the first call for certain outputs compiles what they need and no more.

        Args:
            outputs: names, None for all.
            given: by name of the input.

        Raises:
            ValueError: if OpenVINO refuses the model or what it is given.
        """
        wanted = tuple(info.name for info in self.get_outputs()) if outputs is None else tuple(outputs)
        with self._callers:
            try:
                request = self._request(wanted)
                try:
                    return self._answer(request, given, len(wanted))
                finally:
                    self._idle[wanted].append(
                        request
                    )  # also where it refused what it was given: it serves the next call
            except Exception as error:
                raise self._refused(error) from error

    def _answer(self, request: Any, given: Mapping[str, NDArray[Any]], count: int) -> list[NDArray[Any]]:
        # Named, so that the memory that the request only points to lives until it has run.
        arrays = {info.name: np.ascontiguousarray(given[info.name]) for info in self.get_inputs()}
        for name, array in arrays.items():
            request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        request.infer()
        # The request goes on using its memory.
        return [request.get_output_tensor(place).data.copy() for place in range(count)]

    @cached_property
    def _model(self) -> Any:
        """The file as OpenVINO's own graph: only where nothing was kept."""
        try:
            frontend = self._openvino.frontend.FrontEndManager().load_by_framework("onnx")
            model = with_plain_stem(self._openvino, frontend.convert(frontend.load(str(self._path))))
            if not model.get_results():
                raise ValueError("a model without outputs")
            if self._batch is not None:
                _fix(model, self._batch)
        except Exception as error:  # OpenVINO raises RuntimeError and classes of its own below Exception
            raise self._refused(error) from error
        return model

    @cached_property
    def _results(self) -> dict[str, Any]:
        return {node.get_friendly_name().rpartition("/sink_port_")[0]: node for node in self._model.get_results()}

    def _compiled_model(self) -> CompiledModel:
        cpu = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        return CompiledModel(
            {
                "model": self._sha256,
                "layout": _LAYOUT,
                "graph": VERSION,
                "batch": self._batch,
                "openvino": self._openvino.get_version(),
                "cpu": [self._core.get_property("CPU", name) for name in cpu],
                "properties": self._properties,
            }
        )

    def _described_before(self) -> _Description | None:
        text = self._kept.read(_DESCRIPTION) if self._kept else None
        try:
            return None if text is None else _Description.of_json(text)
        except (ValueError, KeyError, TypeError):
            return None

    def _describe(self) -> _Description:
        said = dict(self._model.get_rt_info().items()).get("framework", {})
        description = _Description(
            [_described(node, node.get_friendly_name()) for node in self._model.get_parameters()],
            [_described(node, name) for name, node in self._results.items()],
            {name: str(value.value) for name, value in said.items()},
        )
        if self._kept and model_sha256(self._path) == self._sha256:
            self._kept.keep(_DESCRIPTION, description.as_json())
        return description

    def _request(self, wanted: tuple[str, ...]) -> Any:
        """One that nobody uses: a request serves one call at a time."""
        try:
            return self._idle[wanted].pop()
        except IndexError:
            return self._compiled_for(wanted).create_infer_request()

    def _compiled_for(self, wanted: tuple[str, ...]) -> Any:
        with self._lock:
            first = self._compiled.get(wanted)
            if first is None:
                first = self._compiled[wanted] = self._compiled_before(wanted) or self._compile(wanted)
                return first
            # Requests of one would wait for each other where calls run in the threads that make them.
            return self._imported(self._blobs[wanted]) if wanted in self._blobs else first

    def _compiled_before(self, wanted: tuple[str, ...]) -> Any | None:
        blob = self._kept.read(_blob_name(wanted)) if self._kept else None
        if blob is None:
            return None
        try:
            compiled = self._imported(blob)
        except Exception:  # noqa: BLE001 - it is a cache: what OpenVINO does not take is compiled again
            return None
        if self._exported:
            self._blobs[wanted] = blob
        return compiled

    def _imported(self, blob: bytes) -> Any:
        return self._core.import_model(io.BytesIO(blob), "CPU", self._properties)

    def _compile(self, wanted: tuple[str, ...]) -> Any:
        nodes = [self._results[name] for name in wanted]
        part = self._openvino.Model(nodes, self._model.get_parameters(), self._path.stem)
        compiled = self._core.compile_model(part, "CPU", self._properties)
        if self._exported or self._kept:
            blob = compiled.export_model().getvalue()
            if self._exported:
                self._blobs[wanted] = blob
            if self._kept and model_sha256(self._path) == self._sha256:  # the file may have changed since
                self._kept.keep(_blob_name(wanted), blob)
        return compiled

    def _refused(self, error: Exception) -> ValueError:
        # Without the places in OpenVINO's own source.
        lines = [
            line for line in str(error).splitlines() if line and not line.startswith(("Exception from", "Check '"))
        ]
        reason = " ".join(lines)[:_LONGEST] or repr(error)
        return ValueError(f"model {self._path}: OpenVINO refuses it, provider 'cpu' may not: {reason}")


@dataclass(frozen=True, slots=True)
class _Description:
    """What is asked of a model before it is run."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    metadata: dict[str, str]

    def as_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of_json(cls, text: bytes) -> _Description:
        said = json.loads(text)
        inputs, outputs = ([TensorInfo(**info) for info in said[name]] for name in ("inputs", "outputs"))
        return cls(inputs, outputs, said["metadata"])


def _described(node: Any, name: str) -> TensorInfo:
    kind = node.get_output_element_type(0).get_type_name()
    shape = [None if length.is_dynamic else length.get_length() for length in node.get_output_partial_shape(0)]
    return TensorInfo(name, f"tensor({_TYPES.get(kind, kind)})", shape)


def _fix(model: Any, batch: int) -> None:
    """Gives the first axis of every input its length where it is open."""
    shapes = {}
    for node in model.get_parameters():
        shape = node.get_partial_shape()
        if len(shape) and shape[0].is_dynamic:
            shape[0] = batch
            shapes[node.output(0)] = shape
    if shapes:
        model.reshape(shapes)


def _blob_name(outputs: tuple[str, ...]) -> str:
    return f"{hashlib.sha256(json.dumps(outputs).encode()).hexdigest()[:16]}.blob"
