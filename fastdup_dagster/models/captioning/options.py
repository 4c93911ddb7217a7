"""How a text is generated: what `generation_config.json` says, and what a caller says instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastdup_dagster.settings import readable

# New tokens where nobody says how many, as in transformers.
DEFAULT_NEW_TOKENS = 20
# What would change the tokens and is not done here; every other key of the file is about training or speed.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0, 0.0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None, []),
    "force_words_ids": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None,),
    "guidance_scale": (None, 1, 1.0),
}


class GenerationOptions(BaseModel):
    """The arguments of `generate`, by transformers' names and with their meaning there; never sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(None, ge=2, description="tokens of the text, with those it starts from")
    max_new_tokens: int | None = Field(None, ge=1, description="tokens after those it starts from; over max_length")
    min_length: int = Field(0, ge=0, description="tokens before the text may end, with those it starts from")
    min_new_tokens: int | None = Field(None, ge=1, description="tokens after those it starts from, before it may end")
    num_beams: int = Field(1, ge=1, description="1 is greedy, more is beam search")
    length_penalty: float = Field(
        1.0, allow_inf_nan=False, description="power of the length that scores are divided by"
    )
    early_stopping: bool | Literal["never"] = Field(False, description="beam search: when no more beams are looked for")
    repetition_penalty: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="over 1: against tokens that are there"
    )
    no_repeat_ngram_size: int = Field(0, ge=0, description="sequences of so many tokens come once only; 0 for any")
    use_cache: bool = Field(True, description="keep keys and values of earlier tokens, if the model's graphs can")

    def max_tokens(self, prompt: int) -> int:
        """Tokens of the whole text at most.

        Args:
            prompt: tokens that it starts from.

        Raises:
            ValueError: if no token could follow.
        """
        most = prompt + self.max_new_tokens if self.max_new_tokens is not None else self.max_length
        most = prompt + DEFAULT_NEW_TOKENS if most is None else most
        if most <= prompt:
            raise ValueError(f"max_length={self.max_length}: the text starts from {prompt} tokens, none could follow")
        return most

    def min_tokens(self, prompt: int) -> int:
        """Tokens of the whole text at least."""
        return self.min_length if self.min_new_tokens is None else prompt + self.min_new_tokens


@dataclass(frozen=True)
class SpecialTokens:
    """What a text starts with, and what ends it."""

    start: int
    end: tuple[int, ...]


def generation_options(file: Mapping[str, Any], given: Mapping[str, Any], model: str) -> GenerationOptions:
    """The options of the file, and over them those that a caller gives.

    Args:
        file: what `generation_config.json` says.
        given: by the caller.
        model: its name, for messages.

    Raises:
        TypeError: for an unknown name in `given`, naming the nearest known one.
        ValueError: for a value that is refused, or for something in the file that is not done here.
    """
    for name in given:
        if name not in GenerationOptions.model_fields:
            near = difflib.get_close_matches(str(name), GenerationOptions.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(GenerationOptions.model_fields)}"
            raise TypeError(f"kwargs: unknown option {name!r} of model {model}; {hint}")
    for name, neutral in _NEUTRAL.items():
        if file.get(name) not in neutral:
            raise ValueError(f"model {model}: generation_config.json asks for {name}={file[name]!r}: not supported")
    known = {name: file[name] for name in GenerationOptions.model_fields if file.get(name) is not None}
    if "max_length" in given:
        known.pop("max_new_tokens", None)
    try:
        return GenerationOptions(**{**known, **given})
    except ValidationError as error:
        raise ValueError(f"model {model}: {readable(error)}") from error
