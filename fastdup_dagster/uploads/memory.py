"""What is known between two looks for uploads, as text: the part that every kind of look remembers."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import Self


@dataclass(frozen=True)
class Finished:
    """An upload to launch.

    Attributes:
        partition: `<dataset>/<split>`.
        place: of a split that the data set does not know yet, relative to its root; None for one that it knows.
        run_key: different for every launch, even of content that was there before; equal if a look is taken again.
    """

    partition: str
    place: str | None
    run_key: str


@dataclass
class Memory:
    """What was launched so far.

    Attributes:
        epoch: when this began, so that a memory that was lost launches everything once more.
        number: launches so far.
    """

    epoch: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    number: int = 0

    @classmethod
    def from_text(cls, text: str | None) -> Self:
        """The state that `to_text` gave; a new one from nothing, or from what is no state."""
        try:
            return cls(**json.loads(text)) if text else cls()
        except (TypeError, ValueError):
            return cls()

    def to_text(self) -> str:
        """As text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def launch_of(self, partition: str, place: str | None, *marks: str) -> Finished:
        """Counts a launch; the marks go into its run key."""
        self.number += 1
        return Finished(partition, place, "-".join([f"{partition}@{self.epoch}", str(self.number), *marks]))

    def take_back(self, upload: Finished) -> None:
        """Forgets that an upload was launched, so that a later look finds it again."""
        raise NotImplementedError
