"""Every argument of a run as one typed, frozen object, checked before any work starts."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from fastdup_dagster import constants as FD
from fastdup_dagster.limits import Limits

Distance = Literal["cosine", "euclidean", "l1", "linf", "canberra", "braycurtis", "jensenshannon"]

BUNDLED_MODEL = "efficientnet_lite0"
# Models that a name stands for, and the width of their vectors; `resent50` is how V1's page spells it.
NAMED_MODELS = {
    FD.DINOV2S_MODEL: FD.DINOV2S_MODEL_DIM,
    FD.DINOV2B_MODEL: FD.DINOV2B_MODEL_DIM,
    FD.CLIP_MODEL: FD.CLIP_MODEL_DIM,
    FD.CLIP_MODEL2: FD.CLIP_MODEL2_DIM,
    FD.RESNET50_MODEL: FD.RESNET50_MODEL_DIM,
    "resent50": FD.RESNET50_MODEL_DIM,
    FD.EFFICIENTNET_MODEL: FD.EFFICIENTNET_MODEL_DIM,
}
_DETECTORS = ("face", "ocr", FD.YOLOV5S_MODEL)
_MODEL_SUFFIXES = (".onnx", ".ort")
_BOX_PARTS = ("row_y", "col_x", "height", "width")


class CaptionSettings(BaseModel):
    """How the asset `captions` makes its texts. Paths of models are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        "automatic", min_length=1, description="automatic, tags, vitgpt2, blip, blip2, vqa, age, or a model's folder"
    )
    prompt: str | None = Field(None, description="vqa: the question; blip: what the caption starts with")
    batch_size: int = Field(8, ge=1, description="images a call of the model")
    options: dict[str, Any] = Field(
        default_factory=dict, description="of the generation, such as num_beams, over those of the model's own files"
    )


class Settings(BaseModel):
    """The arguments of `run()` that the stages read. Immutable; `with_changes` gives a changed copy.

    Raises:
        ValueError: (pydantic's ValidationError is one) naming the argument and the value that was refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    # what is listed
    find_regex: str = Field("", description="Python regular expression searched in the relative path")
    min_file_size: int = Field(0, ge=0, description="bytes; smaller files are left out and counted")
    num_images: int | None = Field(None, ge=1, description="first N of the ordered listing")
    min_offset: int | None = Field(None, ge=0, description="start of a half-open slice of the listing")
    max_offset: int | None = Field(None, ge=0, description="end of a half-open slice of the listing")
    bounding_box: str | None = Field(
        None,
        description="one box to cut out of every image: row_y=..,col_x=..,height=..,width=.. in pixels; or what finds "
        "boxes: face, ocr, yolov5s, or the path of a YOLOv5 .onnx",
    )

    tar_only: bool = Field(False, description="of a folder that holds both, archives and videos instead of images")
    video_frames: Literal["rate", "scenes", "all"] = Field(
        "rate",
        description="frames of a video: video_rate a second, the first of each scene (decodes it to list it), or all",
    )
    video_rate: float = Field(1.0, gt=0, le=1000, description="frames a second of a video, the first of each period")
    scene_threshold: float = Field(
        27.0, gt=0, le=255, description="scenes: mean difference in hue, saturation and value that begins a new one"
    )

    # how crops are cut
    augmentation_horiz: float = Field(0.0, ge=0, le=1, description="margin left and right, a share of the box's width")
    augmentation_vert: float = Field(0.0, ge=0, le=1, description="margin above and below, a share of its height")
    augmentation_additive_margin: int = Field(0, ge=0, description="margin on every side in pixels, instead of shares")

    # what is computed per image
    model_path: str | None = Field(
        None,
        description="None for the bundled model; the name of one in the model store (dinov2s, dinov2b, clip, clip336, "
        "resnet50, efficientnet); or the path of an .onnx or .ort model",
    )
    d: int | None = Field(None, ge=1, description="width of the feature vector; None takes the model's own")
    high_accuracy: bool = Field(False, description="the bundled model at d = 960")
    model_preprocessing: Literal["unit", "imagenet", "clip", "symmetric", "raw"] = Field(
        "unit", description="for a float model of one's own: how pixels are scaled"
    )
    providers: tuple[str, ...] = Field(("cpu",), description="what runs the models, in order: cpu, openvino, cuda")
    run_stats: bool = Field(True, description="compute the statistics; hashes and thumbnails are always made")
    run_advanced_stats: bool = Field(False, description="also hue, saturation, per-channel means, edges")
    max_pixels: int = Field(178_956_970, ge=100, description="an image with more is IMAGE_TOO_LARGE, not decoded")
    blur_threshold: float = Field(150.0, ge=0, description="is_blurry: blur under it")
    brightness_threshold: float = Field(253.0, ge=0, le=255, description="is_bright: mean over it")
    darkness_threshold: float = Field(4.0, ge=0, le=255, description="is_dark: mean under it")

    # the graph and its views
    distance: Distance = Field("cosine", description="metric of the nearest neighbours")
    nearest_neighbors_k: int = Field(2, ge=1, description="neighbours per instance, clipped to n - 1")
    nnf_mode: str = Field("HNSW32", description="faiss factory string; Flat is exact")
    nnf_param: str = Field("", description="faiss search parameters, such as efSearch=256")
    threshold: float = Field(0.9, ge=-1, le=1, allow_inf_nan=False, description="similarity: edges strictly over it")
    cc_threshold: float = Field(0.96, ge=-1, le=1, allow_inf_nan=False, description="components: edges at or over it")
    outlier_percentile: float = Field(0.05, ge=0, le=1, description="share of the edges that count as outliers")
    near_duplicate_threshold: float = Field(
        0.65, ge=-1, le=1, description="kind near_duplicate: verified score at or over it"
    )
    run_cc: bool = Field(True, description="compute the components")

    # how
    num_threads: int | None = Field(None, ge=1, description="None for the cores this process may use")
    deterministic: bool = Field(True, description="equal results at any thread count, also for approximate indexes")
    gallery_items: int = Field(60, ge=1, description="items a gallery page shows")
    limits: Limits = Field(default_factory=Limits, description="what the checks of data quality accept")
    captions: CaptionSettings = Field(
        default_factory=CaptionSettings, description="how the asset captions makes its texts; no part of an analysis"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _keeps_its_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what pydantic would turn into something else: True is no number, "3" and "no" are text."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = {kind for kind in (get_args(annotation) or (annotation,)) if isinstance(kind, type)}
        if isinstance(value, bool) and kinds & {int, float}:
            raise ValueError("expected a number")
        if isinstance(value, str) and kinds & {int, float, bool}:
            raise ValueError(f"expected {'True or False' if bool in kinds else 'a number'}, not text")
        return value

    @field_validator("find_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {value!r} ({error})") from error
        return value

    @field_validator("bounding_box")
    @classmethod
    def _is_a_box(cls, value: str | None) -> str | None:
        if value and not is_detector(value):
            parse_box(value)
        return value or None

    @field_validator("nnf_param")
    @classmethod
    def _is_parameters(cls, value: str) -> str:
        parse_parameters(value)
        return value

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.nnf_mode != "Flat" and self.distance not in ("cosine", "euclidean"):
            raise ValueError(
                f"distance={self.distance!r} needs nnf_mode='Flat', not {self.nnf_mode!r}: "
                "every other mode takes cosine and euclidean only"
            )
        if self.min_offset is not None and self.max_offset is not None and self.min_offset > self.max_offset:
            raise ValueError(f"min_offset={self.min_offset} is past max_offset={self.max_offset}")
        if self.model_path is None and self.d is not None and self.d not in (576, 960):
            raise ValueError(f"d={self.d}: the bundled model gives 576 or 960; another width needs model_path")
        if self.d not in (None, width := NAMED_MODELS.get(self.model_path or "", self.d)):
            raise ValueError(f"d={self.d}: the model {self.model_path!r} gives vectors of width {width}")
        if self.augmentation_additive_margin and (self.augmentation_horiz or self.augmentation_vert):
            raise ValueError(
                f"augmentation_additive_margin={self.augmentation_additive_margin} together with augmentation_horiz="
                f"{self.augmentation_horiz}, augmentation_vert={self.augmentation_vert}: a margin is either in pixels "
                "or a share, not both"
            )
        if self.model_path is None and self.high_accuracy and self.d == 576:
            raise ValueError("d=576 with high_accuracy=True, which is d=960: leave one of them out")
        return self

    @property
    def threads(self) -> int:
        """Worker threads: `num_threads`, else the cores that this process may run on."""
        return self.num_threads or len(
            os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        )

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some arguments changed, validated like a new one.

        Raises:
            TypeError: for an unknown argument, naming the nearest known one.
            ValueError: for a value that is refused.
        """
        return settings_from({**self.model_dump(exclude_unset=True), **changes}, type(self))

    def fingerprint(self, *names: str) -> str:
        """Hash of the named settings: 32 hex digits. Two objects that agree on them have equal fingerprints."""
        unknown = set(names) - set(type(self).model_fields)
        if unknown:
            raise KeyError(f"no such settings: {sorted(unknown)}")
        values = self.model_dump(mode="json", include=set(names))
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


Kind = TypeVar("Kind", bound=Settings)


def settings_from(values: Mapping[str, Any], kind: type[Kind] = Settings) -> Kind:  # type: ignore[assignment]
    """Makes `Settings`, or a class of further arguments made from it, from plain values.

    Raises:
        TypeError: for an unknown argument, naming the nearest known one.
        ValueError: for a value that is refused, naming argument and value.
    """
    for name in values:
        if name not in kind.model_fields:
            near = difflib.get_close_matches(str(name), kind.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if name in Limits.model_fields:
                hint = f"; it belongs to the limits: limits: {{{name}: {values[name]!r}}}"
            raise TypeError(f"unknown argument {name!r}{hint}")
    try:
        return kind(**values)
    except ValidationError as error:
        raise ValueError(readable(error)) from error


def is_detector(bounding_box: str | None) -> bool:
    """Whether boxes are to be found, by a detector of a name or by a YOLOv5 file, and not one is given."""
    return bounding_box is not None and (bounding_box in _DETECTORS or bounding_box.endswith(_MODEL_SUFFIXES))


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`row_y=1,col_x=2,height=30,width=40` to x, y, width, height in pixels.

    Raises:
        ValueError: naming what is missing or wrong.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            raise ValueError(f"{part!r} is not name=number") from None
    if sorted(values) != sorted(_BOX_PARTS):
        raise ValueError(f"expected {', '.join(f'{n}=..' for n in _BOX_PARTS)}; or {', '.join(_DETECTORS)}")
    x, y, width, height = (values[name] for name in ("col_x", "row_y", "width", "height"))
    if not (0 <= x < math.inf and 0 <= y < math.inf and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError("row_y and col_x from 0 on, height and width over 0")
    return x, y, width, height


def parse_parameters(text: str) -> dict[str, float]:
    """`efSearch=256,nprobe=32` to numbers.

    Raises:
        ValueError: naming the part that is not `name=number`, or a name that is not known.
    """
    values: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError as error:
            raise ValueError(f"{part!r} is not name=number") from error
        if name.strip() not in ("efSearch", "nprobe"):
            raise ValueError(f"unknown parameter {name.strip()!r}; known: efSearch, nprobe")
        if not 1 <= values[name.strip()] < math.inf:
            raise ValueError(f"{part!r} is not a number from 1 on")
    return values


def readable(error: ValidationError) -> str:
    """One line per refused value: where, what, why."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        value = item.get("input")
        given = f"={value!r}" if where and not isinstance(value, (dict, BaseModel)) else ""
        lines.append(f"{where}{given}: {item['msg'].removeprefix('Value error, ')}".lstrip(": "))
    return "; ".join(lines)


def load_settings(path: Path) -> Settings:
    """Reads a YAML settings file: a mapping of argument names to values; a relative model_path is taken from it.

    Raises:
        ValueError: naming the file, and the argument and value that was refused.
    """
    # Not at the top: most runs read no YAML.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"settings file {path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"settings file {path}: expected a mapping of names to values, found {type(values).__name__}")
    try:
        return settings_from(with_model_from(path.absolute().parent, values))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"settings file {path}: {error}") from error


def with_model_from(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of settings with relative paths of models taken from the folder of the file that they stand in."""
    model, box = values.get("model_path"), values.get("bounding_box")
    paths = {}
    if isinstance(model, str) and model not in NAMED_MODELS:
        paths["model_path"] = str(folder / Path(model).expanduser())
    if isinstance(box, str) and box.endswith(_MODEL_SUFFIXES):
        paths["bounding_box"] = str(folder / Path(box).expanduser())
    return {**values, **paths}
