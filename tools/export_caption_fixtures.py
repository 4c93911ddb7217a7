"""Writes the test fixtures of captioning: tiny models with random weights, and what transformers makes of pictures.

    python3.11 -m venv build/captions
    build/captions/bin/pip install -r tools/requirements-captions.txt
    build/captions/bin/python tools/export_caption_fixtures.py

Each folder of `tests/models/captioning/fixtures/` is a model as Optimum exports it, with `expected.json`: settings of
`generate`, and the tokens and the text that transformers' own `generate` gives for the pictures of these seeds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from caption_graphs import export, export_blip2, export_decoder, merge
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    GPT2Config,
    PreTrainedTokenizerFast,
    ViltConfig,
    ViltForQuestionAnswering,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "models" / "captioning"
FIXTURES = TESTS / "fixtures"
SEEDS = [1, 2, 3, 4, 5]
# Spread widely enough that the best token leads by more than arithmetic can differ between machines.
SPREAD = 0.35
TEXT = (
    "a the two small large red green blue cat dog bird horse man woman child tree house street table plate bowl "
    "of with on in under near and is sits stands runs eats holding looking at bright dark sky grass water snow "
    "boat car bus train how many what colour who where yes no one three picture photo"
)
WORDS = TEXT.split()
CASES: list[dict[str, Any]] = [
    {"num_beams": 1, "max_length": 16},
    {"num_beams": 1, "max_new_tokens": 9, "repetition_penalty": 1.4},
    {"num_beams": 1, "max_length": 20, "no_repeat_ngram_size": 2, "min_length": 8},
    {"num_beams": 3, "max_length": 16},
    {"num_beams": 4, "max_length": 16, "early_stopping": True, "length_penalty": 2.0},
    {"num_beams": 4, "max_length": 12, "early_stopping": "never", "length_penalty": 0.5},
    {"num_beams": 3, "max_length": 14, "length_penalty": -0.5, "no_repeat_ngram_size": 2},
    {"num_beams": 2, "max_new_tokens": 10, "min_new_tokens": 6, "repetition_penalty": 1.2},
]


def load_picture() -> Callable[[int], np.ndarray]:
    """The function that the tests make their pictures with."""
    spec = importlib.util.spec_from_file_location("pictures", TESTS / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.picture


picture = load_picture()


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer like GPT-2's, trained on a few words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(
        [" ".join(WORDS), *(f"a {word} {other}" for word in WORDS for other in WORDS[:9])], trainer
    )
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=end, eos_token=end, pad_token=end)


def word_pieces() -> PreTrainedTokenizerFast:
    """A tokenizer like BERT's, of whole words, with BLIP's start token."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS, *"?.,!'", "##s", "##ing"])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]",
        mask_token="[MASK]", bos_token="[DEC]",
    )  # fmt: skip


def randomise(model: nn.Module, seed: int, end: int | None = None, likelier: float = 2.0) -> None:
    """Weights with more spread than a fresh model has, or every picture would get the same words.

    Args:
        model: changed in place.
        seed: of the weights.
        end: token that ends a text: it is made likelier, so that texts end at different lengths.
        likelier: what its row of the output weights is multiplied by.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or "cls_token" in name or "position" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * SPREAD)
        if end is not None:
            parts = (getattr(model, name, None) for name in ("decoder", "text_decoder", "language_model"))
            decoder = next(part for part in parts if part is not None)
            decoder.get_output_embeddings().weight[end] *= likelier
    model.eval()


def pixels(processor: Any, seeds: Sequence[int]) -> torch.Tensor:
    """The pictures as the model takes them, from transformers' own image processor."""
    images = [Image.fromarray(picture(seed)) for seed in seeds]
    return processor(images, return_tensors="pt")["pixel_values"]


def save(folder: Path, model: Any, processor: Any, tokenizer: Any, cases: list[dict[str, Any]]) -> None:
    """The files beside the graphs."""
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    settings = json.loads(processor.to_json_string())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    if tokenizer is not None:
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    about = {"transformers": transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    (folder / "expected.json").write_text(f'{{"made_with": {json.dumps(about)}, "cases": [\n{lines}\n]}}\n')


def generated(model: Any, tokenizer: Any, given: dict[str, Any], cases: Sequence[dict[str, Any]]) -> list[dict]:
    """What `generate` gives for each case; with and without its cache alike."""
    made = []
    for settings in cases:
        tokens = model.generate(**given, **settings, do_sample=False)
        slow = model.generate(**given, **settings, do_sample=False, use_cache=False)
        if not torch.equal(tokens, slow):
            raise RuntimeError(f"transformers disagrees with itself: {settings}")
        text = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        made.append({"seeds": SEEDS, "settings": settings, "tokens": tokens.tolist(), "text": text})
        print(settings, *text, sep="\n    ")
    return made


def fresh(name: str) -> Path:
    """An empty folder for a model."""
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def encoder(model: nn.Module, values: torch.Tensor, folder: Path) -> None:
    """`encoder_model.onnx` of a vision transformer."""
    axes = {name: {0: "batch_size"} for name in ("pixel_values", "last_hidden_state")}
    export(
        model, lambda m, v: m(pixel_values=v).last_hidden_state, {"pixel_values": values[:2]}, ["last_hidden_state"],
        axes, folder / "encoder_model.onnx",
    )  # fmt: skip


def vit_gpt2() -> None:
    """Plain names of the cache; all three decoders."""
    folder, tokenizer = fresh("vit-gpt2"), byte_level()
    vision = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    text = GPT2Config(
        vocab_size=len(tokenizer), n_positions=48, n_embd=32, n_layer=2, n_head=2, add_cross_attention=True,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = 0
    model = VisionEncoderDecoderModel(config=config)
    randomise(model, 13, end=0, likelier=3.0)
    for name in ("decoder_start_token_id", "pad_token_id", "eos_token_id"):
        setattr(model.generation_config, name, 0)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    values = pixels(processor, SEEDS)
    encoder(model.encoder, values, folder)
    projected = Projected(model)
    export_decoder(projected, vision.hidden_size, folder, cross=False)
    merge(folder)
    save(folder, model, processor, tokenizer, generated(model, tokenizer, {"pixel_values": values}, CASES))


class Projected(nn.Module):
    """The decoder with the projection of the encoder's states, where there is one, as Optimum exports it."""

    def __init__(self, model: VisionEncoderDecoderModel) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.config = model.decoder.config
        self.projection = getattr(model, "enc_to_dec_proj", nn.Identity())

    def forward(self, encoder_hidden_states: torch.Tensor, **given: Any) -> Any:
        """What the decoder gives."""
        return self.decoder(encoder_hidden_states=self.projection(encoder_hidden_states), **given)


def blip_config(tokenizer: PreTrainedTokenizerFast) -> BlipConfig:
    """A tiny BLIP."""
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "encoder_hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 40, "bos_token_id": 5,
        "eos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0, "projection_dim": 24,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 48, "patch_size": 16,
    }  # fmt: skip
    return BlipConfig(text_config=text, vision_config=vision, projection_dim=24, image_text_hidden_size=24)


def blip() -> None:
    """Names of the cache with `.decoder` and `.encoder`; cases with and without a prompt."""
    folder, tokenizer = fresh("blip"), word_pieces()
    model = BlipForConditionalGeneration(blip_config(tokenizer))
    randomise(model, 21, end=3)
    processor = BlipImageProcessorPil(size={"height": 48, "width": 48})
    values = pixels(processor, SEEDS)
    encoder(model.vision_model, values, folder)
    export_decoder(model.text_decoder, 24, folder, cross=True)
    cases = generated(model, tokenizer, {"pixel_values": values}, CASES)
    prompt = "a photo of"
    ids = torch.tensor([tokenizer(prompt)["input_ids"]]).repeat(len(SEEDS), 1)
    prompted = [
        {**case, "prompt": prompt}
        for settings in (CASES[0], CASES[4])
        for case in generated(model, tokenizer, {"pixel_values": values, "input_ids": ids.clone()}, [settings])
    ]
    save(folder, model, processor, tokenizer, cases + prompted)


def blip_vqa() -> None:
    """A question encoder between picture and decoder."""
    folder, tokenizer = fresh("blip-vqa"), word_pieces()
    config = blip_config(tokenizer)
    config.text_config.encoder_hidden_size = 32
    config.vision_config.hidden_size = 32
    model = BlipForQuestionAnswering(config)
    randomise(model, 31, end=3)
    processor = BlipImageProcessorPil(size={"height": 48, "width": 48})
    values = pixels(processor, SEEDS)
    encoder(model.vision_model, values, folder)
    question = "how many dogs"
    ids = torch.tensor([tokenizer(question)["input_ids"]]).repeat(len(SEEDS), 1)
    states = model.vision_model(pixel_values=values).last_hidden_state
    axes = {
        "input_ids": {0: "batch_size", 1: "sequence_length"},
        "attention_mask": {0: "batch_size", 1: "sequence_length"},
        "encoder_hidden_states": {0: "batch_size", 1: "encoder_sequence_length"},
        "last_hidden_state": {0: "batch_size", 1: "sequence_length"},
    }
    given = {"input_ids": ids[:2], "attention_mask": torch.ones_like(ids[:2]), "encoder_hidden_states": states[:2]}
    export(
        model.text_encoder, lambda m, i, a, s: m(input_ids=i, attention_mask=a, encoder_hidden_states=s)[0], given,
        ["last_hidden_state"], axes, folder / "text_encoder_model.onnx",
    )  # fmt: skip
    export_decoder(model.text_decoder, 32, folder, cross=False)
    (folder / "decoder_with_past_model.onnx").unlink()
    cases = generated(model, tokenizer, {"pixel_values": values, "input_ids": ids}, [CASES[0], CASES[3]])
    save(folder, model, processor, tokenizer, [{**case, "prompt": question} for case in cases])


def blip2() -> None:
    """A language model that reads the image as the first of its tokens; cases with and without a prompt."""
    folder, tokenizer = fresh("blip2"), byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    vision = {
        "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 48, "patch_size": 16,
    }  # fmt: skip
    queries = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "encoder_hidden_size": 24,
    }  # fmt: skip
    text = {
        "model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 40,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 48, "bos_token_id": 0,
        "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    config = Blip2Config(
        vision_config=vision, qformer_config=queries, text_config=text, num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config)
    randomise(model, 61, end=0, likelier=2.0)
    for name in ("bos_token_id", "pad_token_id", "eos_token_id"):
        setattr(model.language_model.generation_config, name, 0)
    processor = BlipImageProcessorPil(size={"height": 48, "width": 48})
    values = pixels(processor, SEEDS)
    export_blip2(model, folder)
    cases = generated(model, tokenizer, {"pixel_values": values}, CASES)
    prompt = "Question: how many dogs? Answer:"
    ids = [*[config.image_token_index] * 4, *tokenizer(prompt)["input_ids"]]
    given = {"pixel_values": values, "input_ids": torch.tensor([ids]).repeat(len(SEEDS), 1)}
    tried = ({"num_beams": 1, "max_new_tokens": 9}, {"num_beams": 3, "max_new_tokens": 7, "repetition_penalty": 1.3})
    prompted = [{**case, "prompt": prompt} for case in generated(model, tokenizer, given, tried)]
    save(folder, model, processor, tokenizer, cases + prompted)


def visual_embed(embeddings: Any, values: torch.Tensor, mask: torch.Tensor, _: int) -> Any:
    """ViLT's patches of pictures without padding, in order: transformers draws the order by lot, to the same end."""
    patches = embeddings.patch_embeddings(values)
    batch, channels, height, width = patches.shape
    side = embeddings.config.image_size // embeddings.config.patch_size
    grid = embeddings.position_embeddings[:, 1:, :].transpose(1, 2).view(1, channels, side, side)
    grid = nn.functional.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
    first = (embeddings.cls_token + embeddings.position_embeddings[:, :1, :]).expand(batch, -1, -1)
    states = torch.cat([first, (patches + grid).flatten(2).transpose(1, 2)], dim=1)
    return states, torch.ones_like(states[:, :, 0]).long() * mask.max(), None


def vilt() -> None:
    """Answers that are labels."""
    folder, tokenizer = fresh("vilt"), word_pieces()
    answers = ["yes", "no", "one", "two", "red", "green", "a dog", "on the street"]
    config = ViltConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        image_size=64, patch_size=16, max_position_embeddings=16, id2label=dict(enumerate(answers)),
        label2id={answer: number for number, answer in enumerate(answers)},
    )  # fmt: skip
    model = ViltForQuestionAnswering(config)
    randomise(model, 41)
    processor = ViltImageProcessorPil(size={"shortest_edge": 64}, size_divisor=16)
    cases = []
    for question in ("how many cats?", "what colour is the bus", "is the dog on the grass?"):
        ids = torch.tensor([tokenizer(question)["input_ids"]])
        logits = []
        for seed in SEEDS:
            given = processor([Image.fromarray(picture(seed))], return_tensors="pt")
            with torch.no_grad():
                logits.append(model(input_ids=ids, **given).logits[0].tolist())
        text = [answers[int(np.argmax(row))] for row in logits]
        cases.append({"seeds": SEEDS, "prompt": question, "logits": logits, "text": text})
        print(question, *text)
    given = processor([Image.fromarray(picture(SEEDS[0]))] * 2, return_tensors="pt")
    inputs = {
        "input_ids": ids.repeat(2, 1), "attention_mask": torch.ones_like(ids).repeat(2, 1),
        "token_type_ids": torch.zeros_like(ids).repeat(2, 1), "pixel_values": given["pixel_values"],
        "pixel_mask": given["pixel_mask"],
    }  # fmt: skip
    embeddings = model.vilt.embeddings
    embeddings.visual_embed = lambda values, mask, max_image_length: visual_embed(
        embeddings, values, mask, max_image_length
    )
    text_axes = {0: "batch_size", 1: "sequence_length"}
    axes: dict[str, dict[int, str]] = {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), text_axes),
        "pixel_values": {0: "batch_size", 2: "height", 3: "width"},
        "pixel_mask": {0: "batch_size", 1: "height", 2: "width"},
        "logits": {0: "batch_size"},
    }
    export(
        model, lambda m, i, a, t, v, k: m(input_ids=i, attention_mask=a, token_type_ids=t, pixel_values=v,
        pixel_mask=k).logits, inputs, ["logits"], axes, folder / "model.onnx",
    )  # fmt: skip
    save(folder, model, processor, tokenizer, cases)


def age() -> None:
    """An image classifier; its preprocessing crops."""
    folder = fresh("age")
    labels = ["0-2", "3-9", "10-19", "20-29", "30-39", "more than 70"]
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        id2label=dict(enumerate(labels)), label2id={label: number for number, label in enumerate(labels)},
    )  # fmt: skip
    model = ViTForImageClassification(config)
    randomise(model, 51)
    processor = ViTImageProcessorPil(
        size={"shortest_edge": 40}, do_center_crop=True, crop_size={"height": 32, "width": 32}, default_to_square=False
    )
    values = pixels(processor, SEEDS)
    with torch.no_grad():
        logits = model(values).logits
    axes = {name: {0: "batch_size"} for name in ("pixel_values", "logits")}
    export(
        model, lambda m, v: m(pixel_values=v).logits, {"pixel_values": values[:2]}, ["logits"], axes,
        folder / "model.onnx",
    )  # fmt: skip
    text = [labels[int(row.argmax())] for row in logits]
    print("age", *text)
    save(folder, model, processor, None, [{"seeds": SEEDS, "logits": logits.tolist(), "text": text}])


def preprocessing() -> None:
    """`preprocessing.json`: settings of image processors, and the hash of what transformers makes of the pictures."""
    clip = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    tried = [
        ViTImageProcessorPil(size={"height": 224, "width": 224}),
        ViTImageProcessorPil(size={"height": 60, "width": 90}, resample=3, do_normalize=False),
        ViTImageProcessorPil(size={"height": 37, "width": 37}, resample=1, do_rescale=False),
        ViTImageProcessorPil(do_resize=False, do_center_crop=True, crop_size={"height": 51, "width": 80}, **clip),
        ViTImageProcessorPil(
            size={"shortest_edge": 48}, do_center_crop=True, crop_size={"height": 45, "width": 46}, **clip
        ),
        BlipImageProcessorPil(),
        ViltImageProcessorPil(),
        ViltImageProcessorPil(size={"shortest_edge": 100}, size_divisor=16, resample=2),
    ]
    lines = []
    for processor in tried:
        config = json.loads(processor.to_json_string())
        for seed in SEEDS:
            made = np.ascontiguousarray(processor(picture(seed), return_tensors="np")["pixel_values"][0])
            found = {
                "shape": made.shape,
                "dtype": str(made.dtype),
                "sha256": hashlib.sha256(made.tobytes()).hexdigest(),
            }
            lines.append(json.dumps({"config": config, "seed": seed, **found}))
    (FIXTURES / "preprocessing.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main() -> None:
    """All of them."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    for make in (vit_gpt2, blip, blip_vqa, blip2, vilt, age, preprocessing):
        make()
    largest = max(FIXTURES.rglob("*.onnx"), key=lambda path: path.stat().st_size)
    print(f"{sum(p.stat().st_size for p in FIXTURES.rglob('*') if p.is_file()):,} bytes, the largest {largest.name}: "
          f"{largest.stat().st_size:,}")  # fmt: skip


if __name__ == "__main__":
    main()
