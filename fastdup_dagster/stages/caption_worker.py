"""What one thread does with a chunk of images before they are captioned: read, hash, decode, prepare for the model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from fastdup_dagster.images import ImageError, Margins, content_hash, crop, geometry
from fastdup_dagster.models.captioning import Captioner
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.decode_worker import ImageFile, Reader, Task
from fastdup_dagster.stages.reuse import ReusableRows
from fastdup_dagster.storage import DamagedFileError


@dataclass
class PreparedChunk:
    """What came of a chunk, by position.

    Attributes:
        size: tasks of the chunk.
        prepared: position, content hash and image as the model takes it, of what is to be captioned.
        failed: the reason, and the content hash if the bytes could be read.
        reused: file and row of a known caption of the same bytes.
        copies: position of an image of this pass that has the same bytes.
    """

    size: int
    prepared: list[tuple[int, str, NDArray[Any]]] = field(default_factory=list)
    failed: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    reused: dict[int, tuple[int, int]] = field(default_factory=dict)
    copies: dict[int, int] = field(default_factory=dict)


class CaptionWorker:
    """Reads images and prepares them. Threads share one for a whole pass.

    Args:
        settings: margins of crops, size limit of images.
        captioner: says what form it takes images in.
        known: rows that may be reused.
        read: gives the bytes of a URI.
    """

    def __init__(self, settings: Settings, captioner: Captioner, known: ReusableRows, read: Reader) -> None:
        self._settings, self._captioner, self._known, self._read = settings, captioner, known, read
        self._margins = Margins.of(settings)
        # Which position is captioned for these bytes; `setdefault` is atomic, so threads need no lock.
        self._owners: dict[str, int] = {}
        self._min_side = captioner.min_side or 0

    def __call__(self, tasks: Sequence[Task]) -> PreparedChunk:
        """The images of these tasks, prepared; one that cannot be has the reason instead."""
        result = PreparedChunk(len(tasks))
        for uri, crops in itertools.groupby(tasks, key=lambda task: task.uri):
            file = ImageFile(uri, self._read, self._settings.max_pixels, self._min_side)
            for task in crops:
                self._one(task, file, result)
        return result

    def _one(self, task: Task, file: ImageFile, result: PreparedChunk) -> None:
        digest = None
        try:
            digest = file.content_hash
            if task.box is not None:
                digest = content_hash(f"{digest}:{geometry(task.box, self._margins)}".encode())
            if (place := self._known.find_content(digest)) is not None:
                result.reused[task.position] = place
            elif (owner := self._owners.setdefault(digest, task.position)) != task.position:
                result.copies[task.position] = owner
            else:
                image = file.reduced() if task.box is None else crop(file.full, task.box, self._margins)
                result.prepared.append((task.position, digest, self._captioner.prepare(image)))
        except DamagedFileError:  # a file of captions, and no image
            raise
        except Exception as error:  # noqa: BLE001 - whatever a file does, it costs its own rows only
            result.failed[task.position] = _words(error), digest


def _words(error: Exception) -> str:
    if isinstance(error, ImageError):
        return f"{error.code}: {error}"
    # Of any other kind than the captioner's own refusal: one that the next run tries again.
    return str(error) if isinstance(error, ValueError) else f"READ_ERROR: {type(error).__name__}: {error}"
