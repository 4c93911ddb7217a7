"""Which captioner a name means."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdup_dagster.models.captioning import captioner_id, load_captioner, model_folder
from fastdup_dagster.models.store import ModelStore


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache."""
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_name_means_the_model_in_the_cache_and_a_path_the_folder(cache: Path, fixtures: Path) -> None:
    assert model_folder("tags") is None
    assert model_folder("automatic") is None
    for name in ("vit-gpt2", "blip", "vilt", "age"):
        ModelStore().add(name, fixtures / name, "Apache-2.0")
    found = {name: model_folder(name) for name in ("automatic", "vitgpt2", "vit-gpt2", "blip", "vqa", "age")}
    assert [folder and folder.path.name for folder in found.values()] == [
        "vit-gpt2", "vit-gpt2", "vit-gpt2", "blip", "vilt", "age"
    ]  # fmt: skip
    given = model_folder(str(fixtures / "vilt"))
    assert given is not None
    assert given.path == fixtures / "vilt"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("blip", FileNotFoundError, "fastdup-dagster models add blip "),
        ("vqa", FileNotFoundError, "fastdup-dagster models add vilt "),
        ("nobody", FileNotFoundError, "neither automatic, tags"),
        (__file__, ValueError, "is a file: give the folder"),
        ("", TypeError, "model_name=''"),
    ],
)
def test_what_is_not_there_says_what_to_do(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_captioner(name)


def test_the_id_changes_with_a_file_the_prompt_and_the_options(copy_of: Callable[..., Path]) -> None:
    folder = copy_of("blip")
    before = captioner_id(str(folder))
    assert before.startswith("blip@")
    assert captioner_id(str(folder), "a photo of") == f'{before}+prompt="a photo of"'
    assert captioner_id(str(folder), None, {"num_beams": 2}) == f"{before}+num_beams=2"
    assert captioner_id(str(folder), None, {"use_cache": False}) == before, "it changes no token"
    (folder / "README.md").write_text("about")
    assert captioner_id(str(folder)) == before
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    assert captioner_id(str(folder)) != before


def test_a_kind_of_model_that_is_not_known_is_refused(copy_of: Callable[..., Path]) -> None:
    folder = copy_of("blip")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"model_type": "blip"', '"model_type": "git"'))
    with pytest.raises(ValueError, match="model_type 'git' is not supported"):
        load_captioner(str(folder))
    for graph in folder.glob("*.onnx"):
        graph.unlink()
    with pytest.raises(FileNotFoundError, match=r"has neither decoder_model\.onnx nor model\.onnx"):
        load_captioner(str(folder))


def test_without_the_extra_the_command_is_named(fixtures: Path) -> None:
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from fastdup_dagster.models.captioning import load_captioner\n"
        "load_captioner('tags'); load_captioner(sys.argv[1] + '/age')\n"
        "load_captioner(sys.argv[1] + '/blip')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, fixtures], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'fastdup-dagster[captions]'")
