"""ONNX Runtime sessions: which provider runs a model, and with how many threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

# Every build of ONNX Runtime is a package `onnxruntime` to Python: one must go before another comes.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", ""),
    "openvino": (
        "OpenVINOExecutionProvider",
        "pip uninstall -y onnxruntime && pip install onnxruntime-openvino",
    ),
    "cuda": ("CUDAExecutionProvider", "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
}


def open_session(path: Path, providers: Sequence[str] = ("cpu",), threads: int = 1) -> onnxruntime.InferenceSession:
    """Opens a model.

    Args:
        path: an .onnx or .ort file.
        providers: names out of cpu, openvino, cuda, the preferred one first; cpu is always the last resort.
        threads: threads inside one call. Callers that run batches side by side want 1.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: for an unknown or missing provider, or a file that is not a model.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_resolve(providers))
    except ValueError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own that are not public
        raise ValueError(f"model {path}: {error}") from error


def _resolve(providers: Sequence[str]) -> list[str]:
    available = onnxruntime.get_available_providers()
    names = []
    for given in providers:
        if given not in _PROVIDERS:
            raise ValueError(f"unknown provider {given!r}: expected {', '.join(_PROVIDERS)}")
        name, remedy = _PROVIDERS[given]
        if name not in available:
            raise ValueError(
                f"provider {given!r} is not in this ONNX Runtime; install another one in its place: {remedy}"
            )
        names.append(name)
    fallback = _PROVIDERS["cpu"][0]
    return names if fallback in names else [*names, fallback]
