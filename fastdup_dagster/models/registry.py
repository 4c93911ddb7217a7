"""The models that have names: what they are, where their files are published, and what is known of them for certain.

An address stands here only if a page of the publisher names it, a hash only if the publisher states it for that file.
A file without such a hash is not taken unasked: `models pull --trust-first-use` records the hash of what came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fastdup_dagster import constants as FD
from fastdup_dagster.models.preprocessing import CENTRED, CLIP, IMAGENET, Preprocessing

Kind = Literal["embedding", "detector", "caption"]

_MODEL = "model.onnx"
_OWN_EXPORT = "no address is known for certain: export it to ONNX from the authors' weights"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model: its name in the store, where it is published, and its sha256 if the publisher states it."""

    name: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that has a name.

    Attributes:
        name: how `run` and the command line call it.
        kind: what it is used for.
        title: what it is.
        licence: of the weights, as their authors state it; None if that could not be checked.
        files: what `pull` fetches; empty if no address is known.
        note: what a person ought to know: a limit, or how to come by the file.
        width: length of its feature vectors; None if it gives none.
        side: pixels a side of its input, where the file leaves it open; None if it takes any.
        preprocessing: how it takes images; None where that is up to what uses it.
        outputs: names of the output that holds the vectors, the preferred one first; empty: the first output.
        first_token: a table of tokens per image stands for its first row (the class token).
    """

    name: str
    kind: Kind
    title: str
    licence: str | None
    files: tuple[RemoteFile, ...] = ()
    note: str = ""
    width: int | None = None
    side: int | None = None
    preprocessing: Preprocessing | None = None
    outputs: tuple[str, ...] = field(default=())
    first_token: bool = False

    @property
    def verified(self) -> bool:
        """Whether the sha256 of every file is known for certain."""
        return bool(self.files) and all(file.sha256 for file in self.files)


def _dino(name: str, size: str, width: int) -> NamedModel:
    # Resize 256 bicubic, centre crop 224: the evaluation transform of facebookresearch/dinov2.
    return NamedModel(
        name,
        "embedding",
        f"DINOv2 ViT-{size[0].upper()}/14, its class token",
        "Apache-2.0",
        (RemoteFile(_MODEL, f"https://huggingface.co/Xenova/dinov2-{size}/resolve/main/onnx/model.onnx"),),
        width=width,
        side=224,
        preprocessing=Preprocessing("dinov2", *IMAGENET, shorter=256),
        outputs=("pooler_output", "last_hidden_state"),
        first_token=True,
    )


def _clip(name: str, title: str, width: int, side: int) -> NamedModel:
    # Resize and centre crop to the input's side, bicubic: `_transform` of openai/CLIP.
    return NamedModel(
        name,
        "embedding",
        title,
        "MIT",
        note=f"{_OWN_EXPORT}, the image side alone (CLIPVisionModelWithProjection, output image_embeds)",
        width=width,
        side=side,
        preprocessing=Preprocessing("clip", *CLIP, shorter=side),
        outputs=("image_embeds",),
    )


def _zoo(folder: str, file: str) -> str:
    return f"https://github.com/onnx/models/raw/main/validated/vision/classification/{folder}/model/{file}"


def _caption(name: str, title: str, note: str = _OWN_EXPORT) -> NamedModel:
    return NamedModel(name, "caption", title, None, note=note)


_MODELS = (
    _dino(FD.DINOV2S_MODEL, "small", FD.DINOV2S_MODEL_DIM),
    _dino(FD.DINOV2B_MODEL, "base", FD.DINOV2B_MODEL_DIM),
    _clip(FD.CLIP_MODEL, "CLIP ViT-B/32", FD.CLIP_MODEL_DIM, 224),
    _clip(FD.CLIP_MODEL2, "CLIP ViT-L/14 at 336 pixels", FD.CLIP_MODEL2_DIM, 336),
    NamedModel(
        FD.RESNET50_MODEL,
        "embedding",
        "ResNet-50 v1 of the ONNX model zoo, its class scores",
        "Apache-2.0",
        (
            RemoteFile(
                _MODEL,
                _zoo("resnet", "resnet50-v1-12.onnx"),
                # model_sha of ONNX_HUB_MANIFEST.json in onnx/models
                "3f03fdef724b22947eed826f1eef1dc5c34151bb4c37d634f1db89dfa2dd1526",
            ),
        ),
        width=FD.RESNET50_MODEL_DIM,
        side=224,
        preprocessing=Preprocessing("resnet50", *IMAGENET, shorter=256, filter="linear"),
    ),
    NamedModel(
        FD.EFFICIENTNET_MODEL,
        "embedding",
        "EfficientNet-Lite4 of the ONNX model zoo, its class scores",
        "MIT",
        (RemoteFile(_MODEL, _zoo("efficientnet-lite4", "efficientnet-lite4-11.onnx")),),
        width=FD.EFFICIENTNET_MODEL_DIM,
        side=224,
        preprocessing=Preprocessing("efficientnet", *CENTRED, shorter=256, filter="linear"),
    ),
    NamedModel(
        "yolov5s",
        "detector",
        "YOLOv5s v7.0, 80 classes of COCO",
        "AGPL-3.0",
        (RemoteFile(_MODEL, "https://github.com/ultralytics/yolov5/releases/download/v7.0/yolov5s.onnx"),),
        note="any YOLOv5 in ONNX can be added under this name",
    ),
    NamedModel(
        "yunet",
        "detector",
        "YuNet face detector, 2023mar",
        "MIT",
        (
            RemoteFile(
                _MODEL,
                "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
                # from the Git LFS pointer in opencv/opencv_zoo
                "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            ),
        ),
        note="what bounding_box='face' uses",
    ),
    NamedModel(
        "vit-gpt2",
        "caption",
        "ViT-GPT2 image captioning",
        None,
        tuple(
            RemoteFile(name, f"https://huggingface.co/Xenova/vit-gpt2-image-captioning/resolve/main/{folder}{name}")
            for folder, name in (
                ("onnx/", "encoder_model.onnx"),
                ("onnx/", "decoder_model_merged.onnx"),
                ("", "config.json"),
                ("", "generation_config.json"),
                ("", "preprocessor_config.json"),
                ("", "tokenizer.json"),
            )
        ),
        note="no licence is stated on the page of these files",
    ),
    _caption("blip", "BLIP image captioning"),
    _caption("blip2", "BLIP-2 image captioning"),
    _caption("vilt", "ViLT, answers questions about images"),
    _caption("age", "age of a face", "any classifier of ages in ONNX: none is named by V1's page"),
)
MODELS = {model.name: model for model in _MODELS}
# V1's page spells it so
_ALIASES = {"resent50": FD.RESNET50_MODEL}


def named(name: str) -> NamedModel:
    """The model of a name, or of V1's other spelling of it.

    Raises:
        ValueError: for an unknown name, naming the known ones.
    """
    model = MODELS.get(_ALIASES.get(name, name))
    if model is None:
        raise ValueError(f"unknown model {name!r}: expected {', '.join(MODELS)}")
    return model
