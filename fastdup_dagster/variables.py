"""Variables of the environment."""

from __future__ import annotations


class VariableError(ValueError):
    """A variable of the environment says what cannot be; the message names it, and what to write."""
