"""Captioners of this process: opened when one is first used, kept until its files change."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from fastdup_dagster.images import Decoded
from fastdup_dagster.models.captioning.choosing import Captioner, captioner_id, load_captioner, model_folder
from fastdup_dagster.settings import CaptionSettings


def opened_when_used(chosen: CaptionSettings, providers: tuple[str, ...], threads: int, now: bool = False) -> Captioner:
    """The captioner that the settings name. Where all captions are there already, its graphs are never opened.

    What `load_captioner` finds wrong with it, it says when it is first used.

    Args:
        chosen: model, prompt and options.
        providers: ONNX Runtime providers, the preferred one first.
        threads: inside one call.
        now: open it at once, to see whether it can be.

    Raises:
        FileNotFoundError: if the model is not there, with the command that gets it.
        TypeError, ValueError: with `now`, as `load_captioner`.
    """
    captioner = _Unopened(chosen, providers, threads)
    if now:
        captioner.open()
    return captioner


def cached_id(chosen: CaptionSettings) -> str:
    """The id of the captioner, without opening it; its files, maybe gigabytes, are hashed when they changed.

    Raises:
        FileNotFoundError: if the model is not there, with the command that gets it.
    """
    return _identify(chosen.model_dump_json(), _stamp(chosen))


class _Unopened:
    def __init__(self, chosen: CaptionSettings, providers: tuple[str, ...], threads: int) -> None:
        self.id = cached_id(chosen)
        self._given = chosen.model_dump_json(), _stamp(chosen), providers, threads

    def open(self) -> None:
        _open(*self._given)

    @cached_property
    def _captioner(self) -> Captioner:
        return _open(*self._given)

    @property
    def min_side(self) -> int | None:
        return self._captioner.min_side

    def prepare(self, image: Decoded) -> NDArray[Any]:
        return self._captioner.prepare(image)

    def captions(self, images: Sequence[NDArray[Any]]) -> list[str]:
        return self._captioner.captions(images)


def _stamp(chosen: CaptionSettings) -> str:
    """Changes with the files of the model, and with what `automatic` means."""
    folder = model_folder(chosen.model)
    return "" if folder is None else f"{folder.path};{folder.stamp}"


@functools.lru_cache(maxsize=1)
def _open(chosen: str, stamp: str, providers: tuple[str, ...], threads: int) -> Captioner:
    values = CaptionSettings(**json.loads(chosen))
    return load_captioner(values.model, values.prompt, values.options, providers, threads)


@functools.lru_cache(maxsize=16)
def _identify(chosen: str, stamp: str) -> str:
    values = CaptionSettings(**json.loads(chosen))
    return captioner_id(values.model, values.prompt, values.options)
