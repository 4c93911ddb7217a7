"""The captioner as a Dagster resource: opened once a process, and again when its files changed."""

from __future__ import annotations

import dagster as dg

from fastdup_dagster.models.captioning import Captioner
from fastdup_dagster.models.captioning.opened import cached_id, opened_when_used
from fastdup_dagster.settings import Settings


class CaptionerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the captioner that settings name: the bundled tags, a model of the cache, or a folder."""

    def load(self, settings: Settings, now: bool = False) -> Captioner:
        """The captioner, opened when it is first used.

        Args:
            settings: which one, and how it runs.
            now: open it at once, to see whether it can be.

        Raises:
            FileNotFoundError: if the model is not there, with the command that gets it.
            TypeError: with `now`, for an option that the model does not know.
            ValueError: with `now`, if it does not fit the settings.
        """
        return opened_when_used(settings.captions, settings.providers, settings.threads, now)

    def id(self, settings: Settings) -> str:
        """`name@sha256` of the captioner, without opening it.

        Raises:
            FileNotFoundError: if the model is not there, with the command that gets it.
        """
        return cached_id(settings.captions)
