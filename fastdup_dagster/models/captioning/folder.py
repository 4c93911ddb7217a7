"""A captioning model as a folder, laid out and named as Hugging Face Optimum exports it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENCODER = "encoder_model.onnx"
TEXT_ENCODER = "text_encoder_model.onnx"
DECODER = "decoder_model.onnx"
DECODER_WITH_PAST = "decoder_with_past_model.onnx"
DECODER_MERGED = "decoder_model_merged.onnx"
CLASSIFIER = "model.onnx"
_GRAPHS = (ENCODER, TEXT_ENCODER, DECODER, DECODER_WITH_PAST, DECODER_MERGED, CLASSIFIER)
_SETTINGS = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")


class ModelFolder:
    """The files of one model: `config.json`, `preprocessor_config.json`, graphs, and what else its kind needs.

    Args:
        path: of the folder.
        name: for people; by default the folder's.

    Raises:
        FileNotFoundError: if there is no such folder.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        if not path.is_dir():
            raise FileNotFoundError(f"no model folder at {path}")
        self.path = path
        self.name = name or path.name

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`."""
        return self._read("config.json")

    @cached_property
    def generation(self) -> Mapping[str, Any]:
        """`generation_config.json`; empty if the model has none."""
        return self._read("generation_config.json", optional=True)

    @cached_property
    def preprocessing(self) -> Mapping[str, Any]:
        """`preprocessor_config.json`."""
        return self._read("preprocessor_config.json")

    @property
    def model_type(self) -> str:
        """What transformers calls this kind of model."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """`tokenizer.json`, without padding or truncation.

        Raises:
            FileNotFoundError: if it is not there.
            ModuleNotFoundError: if the extra is not installed, with the command that does it.
            ValueError: if it cannot be read.
        """
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"model {self.name} needs the package tokenizers: pip install 'fastdup-dagster[captions]'"
            ) from error
        file = self.file("tokenizer.json")
        try:
            tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the package raises Exception itself
            raise ValueError(f"{file}: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def labels(self) -> list[str]:
        """The class names of a classifier, by class.

        Raises:
            ValueError: if `config.json` names none.
        """
        given = self.config.get("id2label")
        if not isinstance(given, Mapping) or not given:
            raise ValueError(f"model {self.name}: config.json has no id2label, which names its answers")
        return [str(given[key]) for key in sorted(given, key=int)]

    @property
    def sha256(self) -> str:
        """Of all the files that decide what the model says, by name."""
        digest = hashlib.sha256()
        for file in self._files():
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"{file.name}\0{content}\n".encode())
        return digest.hexdigest()

    @property
    def stamp(self) -> str:
        """Changes when a file does: names, sizes and times of change, without reading any."""
        states = ((file.name, file.stat()) for file in self._files())
        return ";".join(f"{name},{state.st_size},{state.st_mtime_ns}" for name, state in states)

    def has(self, name: str) -> bool:
        """Whether the folder has this file."""
        return (self.path / name).is_file()

    def file(self, name: str) -> Path:
        """Path of a file that must be there.

        Raises:
            FileNotFoundError: naming the model and the file.
        """
        if not self.has(name):
            raise FileNotFoundError(f"model {self.name} has no {name}: {self.path / name}")
        return self.path / name

    def _files(self) -> list[Path]:
        """The files that count, graphs with the data that stand beside them."""
        names = [name for name in (*_GRAPHS, *_SETTINGS) if self.has(name)]
        data = [path.name for path in self.path.glob("*.onnx*") if path.suffix != ".onnx"]
        return [self.path / name for name in sorted({*names, *data})]

    def _read(self, name: str, optional: bool = False) -> Mapping[str, Any]:
        if optional and not self.has(name):
            return {}
        file = self.file(name)
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{file}: expected a mapping, found {type(values).__name__}")
        return values


def described(model: str, prompt: str | None, options: Mapping[str, Any]) -> str:
    """A model's id with what else decides its texts."""
    parts = [model, *([f"prompt={json.dumps(prompt)}"] if prompt else [])]
    parts += [f"{name}={json.dumps(options[name])}" for name in sorted(options) if name != "use_cache"]
    return "+".join(parts)
