"""Which captioner a name means: V1's names, `automatic`, or the folder of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fastdup_dagster.images import Decoded
from fastdup_dagster.models.captioning.folder import CLASSIFIER, DECODER, DECODER_MERGED, ModelFolder, described
from fastdup_dagster.models.embedding import bundled_file
from fastdup_dagster.models.store import ModelStore

AUTOMATIC, TAGS = "automatic", "tags"
# V1's names, and the models in the cache that they mean.
NAMED = {"vitgpt2": "vit-gpt2", "blip": "blip", "blip2": "blip2", "vqa": "vilt", "age": "age"}
_BEST = NAMED["vitgpt2"]
_GENERATIVE = ("vision-encoder-decoder", "blip", "blip-2")


class Captioner(Protocol):
    """Turns images into text.

    Attributes:
        id: `name@sha256`, and what else decides the texts.
    """

    id: str

    @property
    def min_side(self) -> int | None:
        """A JPEG may be decoded at a smaller scale with no side under this; None for full size."""

    def prepare(self, image: Decoded) -> NDArray[Any]:
        """One image as the model takes it.

        Raises:
            ValueError: if it has no such form.
        """

    def captions(self, images: Sequence[NDArray[Any]]) -> list[str]:
        """A text for each of the prepared images."""


def model_folder(name: str) -> ModelFolder | None:
    """The folder that a name means; None for the bundled tags, which need none.

    Args:
        name: automatic (ViT-GPT2 if it is in the model store, else tags), tags, vitgpt2, blip, blip2, vqa, age, or the
            path of a folder.

    Raises:
        FileNotFoundError: for a model that is not there, with the command that gets it.
        TypeError: if it is no text.
    """
    if not isinstance(name, str | Path) or not str(name):
        raise TypeError(f"model_name={name!r}: expected the name of a model, or the path of its folder")
    name = str(name)
    if name == TAGS:
        return None
    if name == AUTOMATIC:
        best = ModelStore().find(_BEST)
        return None if best is None else ModelFolder(best.folder, _BEST)
    known = NAMED.get(name, name)
    if known in NAMED.values():
        return ModelFolder(ModelStore().require(known, f"model_name={name!r}").folder, known)
    if (path := Path(name).expanduser()).is_dir():
        return ModelFolder(path)
    if path.is_file():
        raise ValueError(f"model_name={name!r} is a file: give the folder of the model")
    raise FileNotFoundError(f"model_name={name!r}: neither {', '.join([AUTOMATIC, TAGS, *NAMED])} nor a folder")


def captioner_id(name: str, prompt: str | None = None, options: Mapping[str, Any] | None = None) -> str:
    """The id that the captioner will have, without opening its graphs; the arguments are those of `load_captioner`.

    Raises:
        FileNotFoundError: for a model that is not there.
    """
    folder = model_folder(name)
    model = f"{TAGS}@{bundled_file('tags')[1]}" if folder is None else f"{folder.name}@{folder.sha256}"
    return described(model, prompt, options or {})


def load_captioner(
    name: str,
    prompt: str | None = None,
    options: Mapping[str, Any] | None = None,
    providers: Sequence[str] = ("cpu",),
    threads: int = 1,
) -> Captioner:
    """Opens a captioner.

    Args:
        name: as `model_folder` takes it.
        prompt: a question, or what BLIP's caption starts with.
        options: of the generation, over the model's own.
        providers: as `open_session` takes them, the preferred one first.
        threads: inside one call.

    Raises:
        FileNotFoundError: for a model, or a file of one, that is not there.
        TypeError: for an unknown option, naming the nearest known one.
        ValueError: for a model, option, prompt or provider that does not fit.
    """
    folder = model_folder(name)
    given = dict(options or {})
    if folder is None:
        from fastdup_dagster.models.captioning.tags import TagsCaptioner

        return TagsCaptioner(prompt, given, providers, threads)
    if folder.has(DECODER) or folder.has(DECODER_MERGED):
        if folder.model_type not in _GENERATIVE:
            raise ValueError(
                f"model {folder.name}: model_type {folder.model_type!r} is not supported; "
                f"known: {', '.join(_GENERATIVE)}"
            )
        from fastdup_dagster.models.captioning.generative import GenerativeCaptioner

        return GenerativeCaptioner(folder, prompt, given, providers, threads)
    if folder.has(CLASSIFIER):
        from fastdup_dagster.models.captioning.classifying import LabelCaptioner

        return LabelCaptioner(folder, prompt, given, providers, threads)
    raise FileNotFoundError(f"model {folder.name} has neither {DECODER} nor {CLASSIFIER}: {folder.path}")
