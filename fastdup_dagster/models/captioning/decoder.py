"""The ONNX graphs of a text decoder: one step at a time, with keys and values of earlier tokens kept where they can be.

Three layouts, as Optimum exports them: `decoder_model_merged.onnx` (its input `use_cache_branch`, if it has one, says
whether there is a past), `decoder_model.onnx` for the first token with `decoder_with_past_model.onnx` for all others,
and `decoder_model.onnx` alone, which sees the whole text at every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.captioning.folder import DECODER, DECODER_MERGED, DECODER_WITH_PAST, ModelFolder
from fastdup_dagster.models.session import Session, open_session

_PAST, _PRESENT, _CROSS = "past_key_values.", "present.", ".encoder."
_FLOATS: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_KNOWN = ("input_ids", "attention_mask", "position_ids", "encoder_hidden_states", "encoder_attention_mask",
          "use_cache_branch")  # fmt: skip
Array = NDArray[Any]


class Decoder:
    """The decoder of a model.

    Args:
        folder: of the model.
        providers: as `open_session` takes them, the preferred one first.
        threads: inside one call.
        use_cache: False sees the whole text at every token.

    Raises:
        FileNotFoundError: if the folder has no decoder.
        ValueError: if a graph has an input that is not known here.
    """

    def __init__(self, folder: ModelFolder, providers: Sequence[str], threads: int, use_cache: bool = True) -> None:
        def opened(name: str) -> _Graph:
            return _Graph(open_session(folder.file(name), providers, threads), f"model {folder.name}, {name}")

        if folder.has(DECODER_MERGED):
            self.first = opened(DECODER_MERGED)
            self.later = self.first if use_cache else None
        else:
            self.first = opened(DECODER)
            self.later = opened(DECODER_WITH_PAST) if use_cache and folder.has(DECODER_WITH_PAST) else None

    def run(self, states: NDArray[np.float32]) -> _Run:
        """Begins texts.

        Args:
            states: of the encoder, rows x length x width.
        """
        return _Run(self, states)


class _Graph:
    """One graph, fed by the names of its inputs."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.inputs = {value.name: value for value in session.get_inputs()}
        self.past = [name for name in self.inputs if name.startswith(_PAST)]
        self.present = [value.name for value in session.get_outputs() if value.name.startswith(_PRESENT)]
        unknown = [given for given in self.inputs if given not in _KNOWN and given not in self.past]
        if unknown or "input_ids" not in self.inputs:
            raise ValueError(f"{name}: inputs {list(self.inputs)}; expected input_ids, and out of {', '.join(_KNOWN)}")

    def __call__(self, given: dict[str, Array], wanted: Sequence[str]) -> list[Array]:
        fed = {name: given[name] for name in self.inputs}
        for name, value in self.inputs.items():
            if value.type in _FLOATS and fed[name].dtype != _FLOATS[value.type]:
                fed[name] = fed[name].astype(_FLOATS[value.type])
        return list(self._session.run(["logits", *wanted], fed))

    def empty_past(self, rows: int) -> dict[str, Array]:
        """Keys and values of no token yet."""
        made = {}
        for name in self.past:
            _, heads, _, size = self.inputs[name].shape
            made[name] = np.zeros((rows, heads, 0, size), dtype=_FLOATS[self.inputs[name].type])
        return made


class _Run:
    """Texts in the making; see `generation.DecoderRun`."""

    def __init__(self, decoder: Decoder, states: NDArray[np.float32]) -> None:
        self._decoder = decoder
        self._states = states
        self._past: dict[str, Array] | None = None

    def logits(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """What may follow each text: rows x vocabulary, float32."""
        later = self._decoder.later
        graph = later if later is not None and self._past is not None else self._decoder.first
        past = self._past if graph is later else None
        length = tokens.shape[1]
        seen = length - 1 if past else 0
        given: dict[str, Array] = {
            "input_ids": tokens[:, seen:],
            "attention_mask": np.ones_like(tokens),
            "position_ids": np.repeat(np.arange(seen, length)[None], len(tokens), axis=0),
            "encoder_hidden_states": self._states,
            "encoder_attention_mask": np.ones(self._states.shape[:2], dtype=np.int64),
            "use_cache_branch": np.array([past is not None]),
            **(past or graph.empty_past(len(tokens))),
        }
        logits, *presents = graph(given, graph.present if later is not None else ())
        if later is not None:
            made = {
                _PAST + name.removeprefix(_PRESENT): value for name, value in zip(graph.present, presents, strict=True)
            }
            # What the encoder's states were turned into stays as it was after the first token.
            kept = {name: value for name, value in (past or {}).items() if _CROSS in name}
            self._past = {**made, **kept}
        return np.asarray(logits[:, -1], dtype=np.float32)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Goes on with these rows."""
        self._states = self._states[rows]
        if self._past is not None:
            self._past = {name: value[rows] for name, value in self._past.items()}
