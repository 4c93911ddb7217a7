"""Texts from the tiny models are those of transformers' own `generate`, token for token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdup_dagster.images import Decoded
from fastdup_dagster.models.captioning import load_captioner
from fastdup_dagster.models.captioning.generative import GenerativeCaptioner

pytest.importorskip("tokenizers", reason="the extra captions is not installed")

Make = Callable[..., Path]
MERGED, PLAIN, WITH_PAST = "decoder_model_merged.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"
END = {"vit-gpt2": 0, "blip": 3, "blip-vqa": 3, "blip2": 0}
# Where a text may end at the earliest: after its start token, which may be the end token too.
FIRST = {"vit-gpt2": 1, "blip": 1, "blip-vqa": 1, "blip2": 5}
# Each layout of the decoder that Optimum exports: the files that are left out, and whether the cache is used.
LAYOUTS = {
    "merged": ("vit-gpt2", (PLAIN, WITH_PAST), True),
    "merged, no cache": ("vit-gpt2", (PLAIN, WITH_PAST), False),
    "two graphs": ("vit-gpt2", (MERGED,), True),
    "one graph": ("vit-gpt2", (MERGED, WITH_PAST), True),
    "cross-attention cached": ("blip", (), True),
    "cross-attention, no cache": ("blip", (), False),
    "question encoder": ("blip-vqa", (), True),
    "image before the text": ("blip2", (), True),
    "image before the text, no cache": ("blip2", (), False),
}


def text_of(tokens: list[int], name: str) -> list[int]:
    """A row of transformers' result without its padding: up to the end token."""
    end, first = END[name], FIRST[name]
    return tokens[: tokens.index(end, first) + 1] if end in tokens[first:] else tokens


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tokens_and_text_are_those_of_transformers(
    layout: str, copy_of: Make, expected: Callable[[str], list[Any]], decoded: Callable[[int], Decoded]
) -> None:
    name, without, use_cache = LAYOUTS[layout]
    folder = copy_of(name, *without)
    lengths = set()
    for case in expected(name):
        options = case["settings"] | {"use_cache": use_cache}
        captioner = load_captioner(str(folder), case.get("prompt"), options)
        assert isinstance(captioner, GenerativeCaptioner)
        images = [captioner.prepare(decoded(seed)) for seed in case["seeds"]]
        wanted = [text_of(row, name) for row in case["tokens"]]
        for batch in (1, 2, 5):
            batches = [images[start : start + batch] for start in range(0, len(images), batch)]
            assert [row for each in batches for row in captioner.tokens(each)] == wanted, (batch, case["settings"])
        assert captioner.captions(images) == [text.strip() for text in case["text"]]
        lengths |= {len(row) for row in wanted}
    assert len(lengths) > 2, "texts that all end alike prove little"


def test_the_settings_are_those_of_the_models_own_file_unless_the_caller_says_otherwise(
    copy_of: Make, expected: Callable[[str], list[Any]], decoded: Callable[[int], Decoded]
) -> None:
    case, other = expected("blip")[3], expected("blip")[0]
    folder = copy_of("blip")
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | case["settings"]))
    captioner = load_captioner(str(folder))
    assert captioner.captions([captioner.prepare(decoded(1))]) == case["text"][:1]
    captioner = load_captioner(str(folder), options=other["settings"])
    assert captioner.captions([captioner.prepare(decoded(1))]) == other["text"][:1]


def test_twenty_tokens_follow_where_nobody_says_how_many(fixtures: Path, decoded: Callable[[int], Decoded]) -> None:
    captioner = load_captioner(str(fixtures / "vit-gpt2"), options={"min_length": 47})
    assert isinstance(captioner, GenerativeCaptioner)
    assert [len(row) for row in captioner.tokens([captioner.prepare(decoded(1))])] == [21]


@pytest.mark.parametrize(
    ("name", "prompt", "options", "error", "words"),
    [
        ("vit-gpt2", None, {"num_beam": 3}, TypeError, "did you mean 'num_beams'"),
        ("vit-gpt2", None, {"num_beams": 0}, ValueError, "num_beams=0"),
        ("vit-gpt2", None, {"do_sample": True}, TypeError, "unknown option 'do_sample'"),
        ("vit-gpt2", None, {"max_length": 49}, ValueError, "49 tokens are asked for, but it has room for 48"),
        ("vit-gpt2", "what is it", {}, ValueError, "vqa_prompt='what is it': model vit-gpt2 takes none"),
        ("blip", "a photo of", {"max_length": 4}, ValueError, "max_length=4: the text starts from 4 tokens"),
        ("blip2", None, {"max_length": 49}, ValueError, "49 tokens are asked for, but it has room for 48"),
        ("blip2", "a photo", {"max_length": 5}, ValueError, "max_length=5: the text starts from"),
        ("blip-vqa", None, {}, ValueError, "answers questions: give one as vqa_prompt"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_image(
    name: str, prompt: str | None, options: dict[str, Any], error: type[Exception], words: str, fixtures: Path
) -> None:
    with pytest.raises(error, match=words):
        load_captioner(str(fixtures / name), prompt, options)


def test_what_the_models_file_asks_for_and_is_not_done_here_is_refused(copy_of: Make) -> None:
    folder = copy_of("blip")
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"forced_eos_token_id": 3}))
    with pytest.raises(ValueError, match="forced_eos_token_id=3: not supported"):
        load_captioner(str(folder))


@pytest.mark.parametrize("missing", ["encoder_model.onnx", "tokenizer.json", "preprocessor_config.json", "config.json"])
def test_a_model_without_one_of_its_files_says_which(missing: str, copy_of: Make) -> None:
    with pytest.raises(FileNotFoundError, match=f"model blip has no {missing}"):
        load_captioner(str(copy_of("blip", missing)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text_config": {"model_type": "t5"}}, "text by 't5' is not supported; BLIP-2 with OPT is"),
        ({"image_token_index": None}, "config.json has no image_token_index or num_query_tokens"),
        ({"num_query_tokens": None}, "config.json has no image_token_index or num_query_tokens"),
    ],
)
def test_a_blip2_of_another_kind_is_refused(changed: dict[str, Any], words: str, copy_of: Make) -> None:
    folder = copy_of("blip2")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ValueError, match=words):
        load_captioner(str(folder))


@pytest.mark.parametrize("name", ["vit-gpt2", "blip-vqa"])
def test_openvino_writes_the_same_texts(
    name: str, fixtures: Path, expected: Callable[[str], list[Any]], decoded: Callable[[int], Decoded]
) -> None:
    case = expected(name)[0]
    captioner = load_captioner(str(fixtures / name), case.get("prompt"), case["settings"], ("openvino",))
    images = [captioner.prepare(decoded(seed)) for seed in case["seeds"]]
    assert captioner.captions(images) == [text.strip() for text in case["text"]]
