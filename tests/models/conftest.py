"""Small ONNX models that the tests build, and a server that sends files as a test wants them sent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WriteModel = Callable[..., Path]


@pytest.fixture(scope="package", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def write_projection() -> WriteModel:
    """Writes a model that averages 14 x 14 patches and projects them: `write(path, side, width, tokens=False)`.

    Its vectors are `means.reshape(n, -1) @ weights`, with the means of the patches channel by channel; with `tokens`
    the vector is the first of two rows. Returns the path; the weights are `projection(side, width)`.
    """

    def write(path: Path, side: int, width: int, output: str = "features", tokens: bool = False, **save: Any) -> Path:
        weights = numpy_helper.from_array(projection(side, width), "weights")
        nodes = [
            helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[14, 14], strides=[14, 14]),
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
        ]
        if tokens:
            axis = numpy_helper.from_array(np.array([1]), "axis")
            nodes += [
                helper.make_node("Unsqueeze", ["vector", "axis"], ["row"]),
                helper.make_node("Neg", ["row"], ["negative"]),
                helper.make_node("Concat", ["row", "negative"], [output], axis=1),
            ]
        else:
            axis = None
            nodes.append(helper.make_node("Identity", ["vector"], [output]))
        graph = helper.make_graph(
            nodes,
            "projection",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, side, side])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [weights] if axis is None else [weights, axis],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path), **save)
        return path

    return write


def projection(side: int, width: int) -> np.ndarray:
    """The weights of `write_projection`."""
    return np.random.default_rng(side).normal(size=(3 * (side // 14) ** 2, width)).astype(np.float32)


@dataclass
class FileServer:
    """Serves `files` by path.

    Attributes:
        url: of the server.
        files: what is there.
        cut_after: bytes after which each of the first `cuts` answers ends.
        cuts: how many answers are cut.
        answers: status to answer with instead, one per request.
        requests: the Range of each request that came, None where there was none.
        ranges: whether parts are served.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int = 0
    cuts: int = 0
    answers: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    ranges: bool = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def do_GET(self) -> None:
        state = self.state
        wanted = self.headers.get("Range")
        state.requests.append(wanted)
        if state.answers:
            return self._plain(state.answers.pop(0))
        data = state.files.get(self.path.partition("?")[0])
        if data is None:
            return self._plain(404)
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        start = 0
        if wanted and state.ranges and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return self._plain(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if state.cuts > 0:
            state.cuts -= 1
            body = body[: state.cut_after]
            self.close_connection = True
        self.wfile.write(body)

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A server on this machine."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state = FileServer(f"http://127.0.0.1:{server.server_address[1]}")
        handler.state = state
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield state
        server.shutdown()


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model store of this test alone."""
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("FASTDUP_OFFLINE", raising=False)
    return tmp_path / "models"
