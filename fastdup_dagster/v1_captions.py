"""`fd.caption`: captions of the instances of a finished run, beside their annotations.

What was captioned is kept in work_dir, a table for each captioner: the same images are not captioned again. That is a
cache: the tables of the captioners used last stay, others go.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fastdup_dagster.checks import choice, whole
from fastdup_dagster.models.captioning.opened import opened_when_used
from fastdup_dagster.pandas_frames import to_pandas
from fastdup_dagster.results import Results, with_annotations
from fastdup_dagster.schemas import CAPTIONS
from fastdup_dagster.settings import CaptionSettings
from fastdup_dagster.stages.captions import caption_recipe, stage_captions
from fastdup_dagster.stages.reuse import source_keys, source_tokens
from fastdup_dagster.storage import BusyError, TableStore, remove_tree
from fastdup_dagster.work_dir import KEY

if TYPE_CHECKING:
    import pandas as pd

_DEVICES = {"cpu": ("cpu",), "cuda": ("cuda",), "gpu": ("cuda",), "openvino": ("openvino",)}
_SHOWN = 5
# Tables of captioners, those used last; a captioner with other options is another one.
KEPT_CAPTIONERS = 8
_RECIPE = re.compile(r"[0-9a-f]{32}")
_MADE = ("caption", "model", "error")


@dataclass(frozen=True)
class CaptionRequest:
    """The arguments of `caption`, checked."""

    how: CaptionSettings
    providers: tuple[str, ...]
    subset: Sequence[Any] | None

    @classmethod
    def checked(
        cls, model_name: Any, device: Any, batch_size: Any, subset: Any, vqa_prompt: Any, kwargs: Any
    ) -> CaptionRequest:
        """What was asked for.

        Raises:
            TypeError: for a value of another kind, naming the argument.
            ValueError: for a value that is refused.
        """
        if not isinstance(model_name, str | Path) or not str(model_name):
            raise TypeError(f"model_name={model_name!r}: expected the name of a model, or the path of its folder")
        if subset is not None and (isinstance(subset, str | bytes) or not hasattr(subset, "__iter__")):
            raise TypeError(f"subset={subset!r}: expected a list of file names or ids")
        if vqa_prompt is not None and not (isinstance(vqa_prompt, str) and vqa_prompt.strip()):
            raise TypeError(f"vqa_prompt={vqa_prompt!r}: expected text")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError(f"kwargs={kwargs!r}: expected a dictionary")
        how = CaptionSettings(
            model=str(model_name),
            prompt=vqa_prompt,
            batch_size=whole("batch_size", batch_size, 1),
            options=_plain(dict(kwargs or {})),
        )
        return cls(how, _DEVICES[choice("device", device, _DEVICES)], None if subset is None else list(subset))


def _plain(options: dict[Any, Any]) -> dict[str, Any]:
    for name, value in options.items():
        try:
            json.dumps({str(name): value}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"kwargs: {name}={value!r}: expected a number, text or a truth value") from error
    return {str(name): value for name, value in options.items()}


def caption_frame(results: Results, request: CaptionRequest) -> pd.DataFrame:
    """The annotations of the instances with their captions, by id.

    Args:
        results: of a finished run.
        request: what is asked for. All valid instances are captioned, or those of its subset.

    Raises:
        ValueError: for a name or id of the subset that is no instance of the run.
    """
    made = _captions(results, request, _wanted(results, request.subset))
    frame, _ = with_annotations(made, results.annotations, {"index": ""})
    # Like V1's: what is known of an image first, what was made of it last.
    shown = frame.select(pl.exclude(_MADE), *_MADE)
    order = [name for name in results.annotations.columns if name in shown.columns]
    return to_pandas(shown.select(*order, pl.exclude(order)), results.with_gaps)


def _captions(results: Results, request: CaptionRequest, wanted: pl.DataFrame) -> pl.DataFrame:
    """`index` and what was made of these rows of the manifest; what is new goes into the table of the captioner."""
    settings, store = results.run.settings, results.store
    captioner = opened_when_used(request.how, request.providers, settings.threads)
    recipe = caption_recipe(settings, captioner.id)
    key = f"{KEY}/{recipe}"
    with store.lock("captions", key):
        there = store.exists("captions", key)
        kept: list[str] = store.read("captions", key, ["source_key"])["source_key"].to_list() if there else []
        known = pl.Series(source_keys(source_tokens(results.manifest), recipe), dtype=pl.String).is_in(kept)
        listed = results.manifest.filter(known | pl.col("index").is_in(wanted["index"].implode()))
        with stage_captions(listed, settings, captioner, request.how.batch_size, store, key) as captions:
            captions.staged.publish()
            captions.finish()
        made = store.read("captions", key, ["index", *_MADE])
    _forget_oldest(store)
    return made.join(wanted, on="index", how="semi", maintain_order="left")


def _last_used(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # another process was faster
        return 0


def _forget_oldest(store: TableStore) -> None:
    """Removes the tables of captioners that were not used for longest; one that is in use stays."""
    folder = store.path(CAPTIONS.name, f"{KEY}/_").parent
    tables = [path for path in folder.glob("*.parquet") if _RECIPE.fullmatch(path.stem)]
    for path in sorted(tables, key=_last_used, reverse=True)[KEPT_CAPTIONERS:]:
        key = f"{KEY}/{path.stem}"
        with contextlib.suppress(BusyError), store.lock(CAPTIONS.name, key, patience=0):
            path.unlink(missing_ok=True)
            remove_tree(store.staging(CAPTIONS.name, key))


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
