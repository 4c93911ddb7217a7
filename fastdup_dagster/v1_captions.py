"""`fd.caption`: captions of the instances of a finished run, beside their annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fastdup_dagster.checks import choice, whole
from fastdup_dagster.models.captioning import load_captioner
from fastdup_dagster.pandas_frames import to_pandas
from fastdup_dagster.results import Results, with_annotations
from fastdup_dagster.stages.captions import caption_blocks

if TYPE_CHECKING:
    import pandas as pd

_DEVICES = {"cpu": ("cpu",), "cuda": ("cuda",), "gpu": ("cuda",), "openvino": ("openvino",)}
_SHOWN = 5
_MADE = ("caption", "model", "error")


@dataclass(frozen=True)
class CaptionRequest:
    """The arguments of `caption`, checked."""

    model_name: str
    providers: tuple[str, ...]
    batch_size: int
    subset: Sequence[Any] | None
    prompt: str | None
    options: Mapping[str, Any]

    @classmethod
    def checked(
        cls, model_name: Any, device: Any, batch_size: Any, subset: Any, vqa_prompt: Any, kwargs: Any
    ) -> CaptionRequest:
        """What was asked for.

        Raises:
            TypeError: for a value of another kind, naming the argument.
            ValueError: for a value that is refused.
        """
        if not isinstance(model_name, str | Path):
            raise TypeError(f"model_name={model_name!r}: expected the name of a model, or the path of its folder")
        if subset is not None and (isinstance(subset, str | bytes) or not hasattr(subset, "__iter__")):
            raise TypeError(f"subset={subset!r}: expected a list of file names or ids")
        if vqa_prompt is not None and not (isinstance(vqa_prompt, str) and vqa_prompt.strip()):
            raise TypeError(f"vqa_prompt={vqa_prompt!r}: expected text")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError(f"kwargs={kwargs!r}: expected a dictionary")
        return cls(
            str(model_name),
            _DEVICES[choice("device", device, _DEVICES)],
            whole("batch_size", batch_size, 1),
            None if subset is None else list(subset),
            vqa_prompt,
            dict(kwargs or {}),
        )


def caption_frame(results: Results, request: CaptionRequest) -> pd.DataFrame:
    """The annotations of the instances with their captions, by id.

    Args:
        results: of a finished run.
        request: what is asked for. All valid instances are captioned, or those of its subset.

    Raises:
        ValueError: for a name or id of the subset that is no instance of the run.
    """
    settings = results.run.settings
    captioner = load_captioner(request.model_name, request.prompt, request.options, request.providers, settings.threads)
    wanted = _wanted(results, request.subset)
    made = pl.concat(list(caption_blocks(wanted, settings, captioner, request.batch_size)))
    frame, _ = with_annotations(made, results.annotations, {"index": ""})
    # Like V1's: what is known of an image first, what was made of it last.
    shown = frame.select(pl.exclude(_MADE), *_MADE)
    order = [name for name in results.annotations.columns if name in shown.columns]
    return to_pandas(shown.select(*order, pl.exclude(order)), results.with_gaps)


def _wanted(results: Results, subset: Sequence[Any] | None) -> pl.DataFrame:
    """The rows of the manifest that are to be captioned."""
    manifest = results.manifest
    if subset is None:
        valid = results.annotations.filter("is_valid").select("index")
        return manifest.join(valid, on="index", how="semi", maintain_order="left")
    known = pl.DataFrame({"index": manifest["index"], "shown": results.names, "filename": manifest["filename"]})
    names = [str(item) for item in subset if isinstance(item, str | Path)]
    ids = [int(item) for item in subset if isinstance(item, int | np.integer) and not isinstance(item, bool)]
    if len(names) + len(ids) != len(subset):
        raise TypeError(f"subset={list(subset)[:_SHOWN]!r}: expected file names or ids")
    named = pl.col("shown").is_in(names) | pl.col("filename").is_in(names)
    found = known.filter(named | pl.col("index").is_in(ids))
    unknown = set(names) - set(found["shown"]) - set(found["filename"]) | set(ids) - set(found["index"])
    if unknown:
        raise ValueError(
            f"subset: {len(unknown)} are no images of this run, the first: {sorted(unknown, key=str)[:_SHOWN]}"
        )
    return manifest.join(found.select("index"), on="index", how="semi", maintain_order="left")
