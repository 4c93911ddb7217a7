"""Sessions of models: which provider runs a model, and with how many threads."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnxruntime

OPENVINO = "openvino"
# Every build of ONNX Runtime is a package `onnxruntime` to Python: one must go before another comes.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", ""),
    "cuda": ("CUDAExecutionProvider", "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
}
_KNOWN = ("cpu", OPENVINO, "cuda")


class TensorInfo(Protocol):
    """An input or output: its name, its type such as `tensor(float)`, its shape, no number where a length is open."""

    @property
    def name(self) -> str:
        """In the file."""

    @property
    def type(self) -> str:
        """Such as `tensor(float)`."""

    @property
    def shape(self) -> Sequence[Any]:
        """Lengths of the axes; a name or None where one is open."""


class ModelMeta(Protocol):
    """What the one who wrote the file says of it."""

    @property
    def custom_metadata_map(self) -> Mapping[str, str]:
        """Text by name."""


class Session(Protocol):
    """An open model: what is used of ONNX Runtime's InferenceSession. Calls may come from several threads at once."""

    def get_inputs(self) -> Sequence[TensorInfo]:
        """The inputs."""

    def get_outputs(self) -> Sequence[TensorInfo]:
        """The outputs."""

    def get_providers(self) -> list[str]:
        """What runs it, the preferred one first."""

    def get_modelmeta(self) -> ModelMeta:
        """What is said of the model in the file."""

    def run(self, outputs: Sequence[str] | None, given: Mapping[str, NDArray[Any]], /) -> list[NDArray[Any]]:
        """Outputs by name, all for None, of one call."""


def open_session(
    path: Path,
    providers: Sequence[str] = ("cpu",),
    threads: int = 1,
    callers: int = 1,
    batch: int | None = None,
    keep: bool = False,
) -> Session:
    """Opens a model.

    Args:
        path: an .onnx file; ONNX Runtime also takes .ort.
        providers: names out of cpu, openvino, cuda, the preferred one first; cpu is the last resort of cuda. OpenVINO
            runs a model as a whole or not at all, so it is the first one or none.
        threads: threads inside one call. Callers that run batches side by side want 1.
        callers: threads that call at once. OpenVINO wants to know, and makes the others wait.
        batch: images a call. OpenVINO fixes it where the file leaves it open, and is faster for it.
        keep: whether OpenVINO keeps what it compiles of a small model for other processes, see `CompiledModel`.

    Raises:
        FileNotFoundError: if the file is not there.
        ImportError: if OpenVINO is asked for and not installed, with the command.
        ValueError: for an unknown or missing provider, or a file that is not a model.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    for given in providers:
        if given not in _KNOWN:
            raise ValueError(f"unknown provider {given!r}: expected {', '.join(_KNOWN)}")
    if OPENVINO in providers[1:]:
        raise ValueError(f"providers={list(providers)}: 'openvino' runs a whole model, so it must come first")
    if OPENVINO in providers:
        from fastdup_dagster.models.openvino_session import OpenVinoSession

        return OpenVinoSession(path, threads, callers, batch, keep)
    return _onnxruntime_session(path, providers, threads)


def engine_version(providers: Sequence[str]) -> dict[str, str]:
    """The package that runs models for these providers, and its version."""
    if OPENVINO in providers:
        return {"openvino": importlib.metadata.version("openvino")}
    import onnxruntime

    # By its module: with other providers ONNX Runtime is a package of another name.
    return {"onnxruntime": onnxruntime.__version__}


def _onnxruntime_session(path: Path, providers: Sequence[str], threads: int) -> onnxruntime.InferenceSession:
    # Not at the top: a process that runs OpenVINO alone has no use for it.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    names = _resolve(providers, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=names)
    except ValueError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own that are not public
        raise ValueError(f"model {path}: {error}") from error


def _resolve(providers: Sequence[str], available: Sequence[str]) -> list[str]:
    names = []
    for given in providers:
        name, remedy = _PROVIDERS[given]
        if name not in available:
            raise ValueError(
                f"provider {given!r} is not in this ONNX Runtime; install another one in its place: {remedy}"
            )
        names.append(name)
    fallback = _PROVIDERS["cpu"][0]
    return names if fallback in names else [*names, fallback]
