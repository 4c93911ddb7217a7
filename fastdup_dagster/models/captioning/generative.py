"""Captioners that write their text token by token: ViT-GPT2, BLIP, BLIP's answers to questions, and BLIP-2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.captioning.base import FolderCaptioner
from fastdup_dagster.models.captioning.decoder import Decoder
from fastdup_dagster.models.captioning.folder import ENCODER, TEXT_ENCODER, ModelFolder
from fastdup_dagster.models.captioning.generation import generate
from fastdup_dagster.models.captioning.options import SpecialTokens, generation_options
from fastdup_dagster.models.session import open_session

# What a config.json leaves out, as transformers' own defaults of these models.
_OPT_DEFAULTS = {"model_type": "opt", "bos_token_id": 2, "eos_token_id": 2}
_BLIP_DEFAULTS = {"bos_token_id": 30522, "sep_token_id": 102}


class GenerativeCaptioner(FolderCaptioner):
    """An image encoder, for questions a text encoder, and a decoder.

    Args:
        folder: of the model.
        prompt: BLIP and BLIP-2: what the caption starts with, or the question; None for none.
        options: over those of the model's own `generation_config.json`.
        providers: as `open_session` takes them, the preferred one first.
        threads: inside one call of a graph.

    Raises:
        FileNotFoundError: if a file of the model is not there.
        TypeError: for an unknown option.
        ValueError: for a model, an option or a prompt that does not fit.
    """

    def __init__(
        self,
        folder: ModelFolder,
        prompt: str | None,
        options: Mapping[str, Any],
        providers: Sequence[str],
        threads: int,
    ) -> None:
        self._answers = folder.has(TEXT_ENCODER)
        super().__init__(folder, prompt, options)
        self._options = generation_options(folder.generation, options, folder.name)
        self._special = special_tokens(folder)
        self._tokenizer = folder.tokenizer
        self._encoder = open_session(folder.file(ENCODER), providers, threads)
        self._text_encoder = open_session(folder.file(TEXT_ENCODER), providers, threads) if self._answers else None
        self._decoder = Decoder(folder, providers, threads, self._options.use_cache)
        self._prompt = self._tokenizer.encode(prompt).ids if prompt else []
        self._start = self._start_tokens(folder)
        self._check_room(folder)

    def captions(self, images: Sequence[NDArray[np.float32]]) -> list[str]:
        """A text for each of the prepared images."""
        return [self._tokenizer.decode(row, skip_special_tokens=True).strip() for row in self.tokens(images)]

    def tokens(self, images: Sequence[NDArray[np.float32]]) -> list[list[int]]:
        """The tokens of each text, start and end included."""
        states = self._encoded(np.stack(images))
        prompt = np.repeat(np.array([self._start], dtype=np.int64), len(images), axis=0)
        return generate(self._decoder.run(states), prompt, self._options, self._special)

    def _start_tokens(self, folder: ModelFolder) -> list[int]:
        """What each text starts from."""
        if (
            folder.model_type == "blip-2"
        ):  # a placeholder for each of the image's states, then what the text starts with
            image = _first((folder.config,), "image_token_index", "image_token_id")
            queries = folder.config.get("num_query_tokens")
            if image is None or queries is None:
                raise ValueError(
                    f"model {folder.name}: config.json has no image_token_index or num_query_tokens: export it with a "
                    "transformers that writes them"
                )
            return [int(image)] * int(queries) + (self._prompt or [self._special.start])
        if self._answers or not self._prompt:
            return [self._special.start]
        # As BLIP has it: its own start in place of the tokenizer's, and no end.
        return [self._special.start, *self._prompt[1:-1]]

    def _encoded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        taken = self._encoder.get_inputs()[0]
        if taken.type == "tensor(float16)":
            values = values.astype(np.float16)
        states = self._encoder.run(["last_hidden_state"], {taken.name: values})[0]
        if self._text_encoder is None:
            return np.asarray(states)
        question = np.repeat(np.array([self._prompt], dtype=np.int64), len(values), axis=0)
        given = {
            "input_ids": question,
            "attention_mask": np.ones_like(question),
            "encoder_hidden_states": states,
            "encoder_attention_mask": np.ones(states.shape[:2], dtype=np.int64),
        }
        names = [value.name for value in self._text_encoder.get_inputs()]
        return np.asarray(self._text_encoder.run(["last_hidden_state"], {name: given[name] for name in names})[0])

    def _check_room(self, folder: ModelFolder) -> None:
        text = folder.config.get("text_config") or folder.config.get("decoder") or {}
        room = text.get("n_positions") or text.get("max_position_embeddings")
        needed = max(self._options.max_tokens(len(self._start)), len(self._prompt))
        if room is not None and needed > room:
            raise ValueError(f"model {folder.name}: {needed} tokens are asked for, but it has room for {room}")


def special_tokens(folder: ModelFolder) -> SpecialTokens:
    """What a text of this model starts with and ends with.

    Raises:
        ValueError: if its files do not say.
    """
    if folder.model_type == "blip-2":
        text = {**_OPT_DEFAULTS, **folder.config.get("text_config", {})}
        if text["model_type"] != "opt":
            raise ValueError(
                f"model {folder.name}: text by {text['model_type']!r} is not supported; BLIP-2 with OPT is"
            )
        return SpecialTokens(int(text["bos_token_id"]), (int(text["eos_token_id"]),))
    if folder.model_type == "blip":
        text = {**_BLIP_DEFAULTS, **folder.config.get("text_config", {})}
        return SpecialTokens(int(text["bos_token_id"]), (int(text["sep_token_id"]),))
    places = (folder.generation, folder.config, folder.config.get("decoder", {}))
    start = _first(places, "decoder_start_token_id")
    start = _first(places, "bos_token_id") if start is None else start
    end = _first(places, "eos_token_id")
    if start is None or end is None:
        raise ValueError(f"model {folder.name}: neither generation_config.json nor config.json names its start and end")
    return SpecialTokens(int(start), tuple(end) if isinstance(end, list) else (int(end),))


def _first(places: Sequence[Mapping[str, Any]], *names: str) -> Any:
    return next((place[name] for place in places for name in names if place.get(name) is not None), None)
