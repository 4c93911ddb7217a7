"""The captioner as a Dagster resource: opened once a process, and again when its files changed."""

from __future__ import annotations

import functools
import json

import dagster as dg

from fastdup_dagster.models.captioning import Captioner, captioner_id, load_captioner, model_folder
from fastdup_dagster.settings import CaptionSettings, Settings


class CaptionerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the captioner that settings name: the bundled tags, a model of the cache, or a folder."""

    def load(self, settings: Settings) -> Captioner:
        """The captioner.

        Raises:
            FileNotFoundError: if the model is not there, with the command that gets it.
            TypeError: for an option that the model does not know.
            ValueError: if it does not fit the settings.
        """
        chosen = settings.captions
        return _open(chosen.model_dump_json(), _stamp(chosen), settings.providers, settings.threads)

    def id(self, settings: Settings) -> str:
        """`name@sha256` of the captioner, without opening it."""
        chosen = settings.captions
        return _identify(chosen.model_dump_json(), _stamp(chosen))


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
    """Cached: the files of a model may be gigabytes to hash."""
    values = CaptionSettings(**json.loads(chosen))
    return captioner_id(values.model, values.prompt, values.options)
