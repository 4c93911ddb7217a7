"""Images to feature vectors: one interface for the bundled model and for a user's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.files import file_sha256, model_files, model_sha256
from fastdup_dagster.models.preprocessing import RAW, SCALINGS, Preprocessing
from fastdup_dagster.models.registry import NamedModel, named
from fastdup_dagster.models.session import Session, open_session
from fastdup_dagster.models.store import ModelStore, StoredModel
from fastdup_dagster.settings import BUNDLED_MODEL, NAMED_MODELS, Settings

# Images a call of the model. More is not faster on a CPU and costs memory (measured).
BATCH = 6
_DEFAULT_SIDE = 224
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class EmbeddingModel:
    """An ONNX model that turns square RGB images into feature vectors.

    Calls may come from several threads at once; each uses one thread.

    Attributes:
        name: short name.
        sha256: of the model file.
        width: length d of the vectors.
        side: height and width of the images that it takes, in pixels.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        sha256: str,
        output: str,
        preprocessing: Preprocessing = RAW,
        side: int = _DEFAULT_SIDE,
        first_token: bool = False,
    ) -> None:
        """Opens nothing: `session` is open.

        Args:
            session: of the model.
            name: short name.
            sha256: of the model.
            output: name of the output that holds the vectors.
            preprocessing: how it takes images.
            side: pixels a side, where the file leaves it open.
            first_token: a table of tokens per image stands for its first row.

        Raises:
            ValueError: if its input or output is not of a kind that fits.
        """
        self._session = session
        self.name, self.sha256 = name, sha256
        self._output, self._first_token = output, first_token
        self._preprocessing = preprocessing
        model_input = session.get_inputs()[0]
        self._input = model_input.name
        self._channels_last, fixed = _layout(name, model_input.shape)
        self.side = fixed or side
        self._batch = model_input.shape[0] if isinstance(model_input.shape[0], int) else None
        if model_input.type not in _DTYPES:
            raise ValueError(f"model {name}: input type {model_input.type}; expected one of {', '.join(_DTYPES)}")
        self._dtype = _DTYPES[model_input.type]
        self.width = self.embed(np.zeros((1, self.side, self.side, 3), dtype=np.uint8)).shape[1]

    @property
    def id(self) -> str:
        """`name@sha256`, and how pixels are scaled where the model leaves that open."""
        scaled = "" if self._preprocessing == RAW else f"+{self._preprocessing.id}"
        return f"{self.name}@{self.sha256}{scaled}"

    @property
    def crops(self) -> bool:
        """Whether it takes a part of the whole image, in its own proportions, and not all of it squeezed."""
        return self._preprocessing.shorter is not None

    @property
    def provider(self) -> str:
        """What runs it: another provider gives other bits."""
        return self._session.get_providers()[0]

    def describe(self) -> dict[str, Any]:
        """What there is to know about the model, as plain values."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "width": self.width,
            "side": self.side,
            "output": self._output,
            "preprocessing": self._preprocessing.id,
            "providers": self._session.get_providers(),
        }

    def square(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image as `embed` takes it: side x side x 3.

        Args:
            pixels: H x W x 3, uint8, RGB.
        """
        return self._preprocessing.square(pixels, self.side)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Feature vectors as the model gives them; those of the bundled one are of length 1.

        Args:
            images: n x side x side x 3, uint8, RGB, as `square` gives them.

        Returns:
            n x width, float32. A row does not depend on the other images of the call.
        """
        if self._batch is None:
            return self._run(images)
        rows = []
        for start in range(0, len(images), self._batch):
            block = images[start : start + self._batch]
            missing = self._batch - len(block)
            padded = np.concatenate([block, np.repeat(block[-1:], missing, axis=0)]) if missing else block
            rows.append(self._run(padded)[: len(block)])
        return np.concatenate(rows)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        result = self._session.run([self._output], {self._input: self._prepare(images)})[0]
        features = np.asarray(result, dtype=np.float32)
        if self._first_token and features.ndim == 3:
            features = features[:, 0]
        flat = features.reshape(len(features), -1)
        if features.ndim not in (2, 4) or flat.shape[1] != features.shape[1]:
            raise ValueError(
                f"model {self.name}: output {self._output!r} has shape {list(features.shape)}; expected [n, d]"
            )
        return flat

    def _prepare(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        pixels: NDArray[Any] = images
        if self._preprocessing != RAW:
            pixels = self._preprocessing.scaled(images)
        if not self._channels_last:
            pixels = pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pixels, dtype=self._dtype)


def _layout(name: str, shape: Sequence[Any]) -> tuple[bool, int | None]:
    """Whether channels come last, and the side if the file fixes it."""
    if len(shape) == 4:
        for channels_last, channels, sides in ((False, shape[1], shape[2:]), (True, shape[3], shape[1:3])):
            known = {side for side in sides if isinstance(side, int)}
            if channels == 3 and len(known) <= 1:
                return channels_last, known.pop() if known else None
    raise ValueError(f"model {name}: input shape {list(shape)}; expected [n, 3, side, side] or [n, side, side, 3]")


def load_model(settings: Settings) -> EmbeddingModel:
    """Opens the model that the settings name.

    Raises:
        FileNotFoundError: if `model_path` is not there, or a name whose model is not in the store.
        ValueError: if it is no model that fits, its output is not `d` wide, or its file was changed.
    """
    if settings.model_path is None:
        return _bundled(settings)
    if settings.model_path in NAMED_MODELS:
        return _named(settings, settings.model_path)
    path = Path(settings.model_path).expanduser()
    session = _opened(path, settings)
    outputs = session.get_outputs()
    scaling = "raw" if session.get_inputs()[0].type == "tensor(uint8)" else settings.model_preprocessing
    model = EmbeddingModel(session, path.stem, model_sha256(path), outputs[0].name, SCALINGS[scaling])
    if settings.d is not None and settings.d != model.width:
        raise ValueError(f"d={settings.d}: the model {path} gives vectors of width {model.width}")
    return model


def model_stamp(settings: Settings) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a file of the model that the settings name does: path, time of change and size of each.

    Raises:
        FileNotFoundError: if it is not there.
    """
    if settings.model_path is None:
        return ()
    path = Path(settings.model_path).expanduser()
    if settings.model_path in NAMED_MODELS:
        path = _stored(settings.model_path).graph
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    status = ((file, file.stat()) for file in model_files(path) if file.is_file())
    return tuple((str(file), found.st_mtime_ns, found.st_size) for file, found in status)


def _opened(path: Path, settings: Settings) -> Session:
    return open_session(path, settings.providers, callers=settings.threads, batch=BATCH, keep=True)


def _stored(name: str) -> StoredModel:
    return ModelStore().require(name, f"model_path={name!r}")


def _named(settings: Settings, name: str) -> EmbeddingModel:
    known, stored = named(name), _stored(name)
    stored.check()
    session = _opened(stored.graph, settings)
    found = [output.name for output in session.get_outputs()]
    output = next((wanted for wanted in known.outputs if wanted in found), found[0])
    model = EmbeddingModel(
        session,
        known.name,
        model_sha256(stored.graph),
        output,
        known.preprocessing or RAW,
        known.side or _DEFAULT_SIDE,
        known.first_token,
    )
    _check_named(known, stored, model)
    return model


def _check_named(known: NamedModel, stored: StoredModel, model: EmbeddingModel) -> None:
    expected = (known.width, known.side)
    if (model.width, model.side) != expected:
        raise ValueError(
            f"model {known.name!r} in {stored.graph}: vectors of width {model.width} of images of {model.side} pixels "
            f"a side, expected are {known.width} and {known.side}: add the right file, or give its path as model_path"
        )


def _bundled(settings: Settings) -> EmbeddingModel:
    width = settings.d or (960 if settings.high_accuracy else 576)
    path, found = bundled_file()
    session = _opened(path, settings)
    return EmbeddingModel(session, f"{BUNDLED_MODEL}_{width}", found, f"embedding_{width}")


def bundled_file(use: Literal["embeddings", "tags"] = "embeddings") -> tuple[Path, str]:
    """A bundled model's file and its sha256.

    Raises:
        ValueError: if it is not the recorded one.
    """
    folder = Path(str(files("fastdup_dagster.models.bundled")))
    record = json.loads((folder / "bundled_model.json").read_text(encoding="utf-8"))[use]
    path = folder / record["file"]
    found = file_sha256(path)
    if found != record["sha256"]:
        raise ValueError(f"bundled model {path}: sha256 {found} is not the recorded {record['sha256']}; reinstall")
    return path, found
