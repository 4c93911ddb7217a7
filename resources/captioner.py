"""The captioner as a Dagster resource: opened once a process, and again when its files changed."""

from __future__ import annotations

import dagster as dg

from fastdup_dagster.models.captioning import Captioner
from fastdup_dagster.models.captioning.opened import cached_id, opened_when_used
from fastdup_dagster.settings import Settings


class CaptionerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the captioner that settings name: the bundled tags, a model of the cache, or a folder."""

    def load(self, settings: Settings) -> Captioner:
        """The captioner, opened when it is first used.

        Raises:
            FileNotFoundError: if the model is not there, with the command that gets it.
        """
        return opened_when_used(settings.captions, settings.providers, settings.threads)

    def id(self, settings: Settings) -> str:
        """`name@sha256` of the captioner, without opening it.

        Raises:
            FileNotFoundError: if the model is not there, with the command that gets it.
        """
        return cached_id(settings.captions)
