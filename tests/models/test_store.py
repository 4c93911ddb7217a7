"""A model of the store is what its record says, or refused; one that is not there is answered with the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastdup_dagster.models import load_model
from fastdup_dagster.models.registry import MODELS, named
from fastdup_dagster.models.store import ModelMissingError, ModelRefusedError, ModelStore
from fastdup_dagster.settings import NAMED_MODELS, settings_from
from tests.models.conftest import WriteModel


def test_every_entry_of_the_registry_is_a_whole_one() -> None:
    assert {*NAMED_MODELS} - {"resent50"} == {name for name, model in MODELS.items() if model.kind == "embedding"}
    for name, model in MODELS.items():
        assert all(file.url.startswith("https://") for file in model.files)
        assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in model.files if file.sha256)
        assert model.files or model.note, f"{name} says neither where it is nor how to come by it"
        if model.kind == "embedding":
            assert (model.width, bool(model.side), bool(model.preprocessing)) == (NAMED_MODELS[name], True, True)
    assert named("resent50").name == "resnet50"
    with pytest.raises(ValueError, match="unknown model 'dinov3': expected dinov2s, "):
        named("dinov3")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("resnet50", "fastdup-dagster models pull resnet50"),
        ("dinov2s", "fastdup-dagster models pull dinov2s --trust-first-use"),
        ("clip", "fastdup-dagster models add clip PATH|URL --licence LICENCE"),
    ],
)
def test_a_run_never_fetches_a_model_and_says_the_command(model_folder: Path, name: str, remedy: str) -> None:
    words = re.escape(f"model_path='{name}': this model is not in {model_folder}, and a run never downloads; ")
    with pytest.raises(ModelMissingError, match=words + ".*" + re.escape(remedy)):
        load_model(settings_from({"model_path": name}))


def test_a_file_is_copied_under_its_name_with_the_data_beside_it(
    model_folder: Path, tmp_path: Path, write_projection: WriteModel
) -> None:
    path = write_projection(
        tmp_path / "mine" / "big.onnx", 224, 512, save_as_external_data=True, location="big.data", size_threshold=0
    )
    stored = ModelStore().add("clip", path, "MIT")
    assert sorted(stored.files) == ["big.data", "model.onnx"]
    assert (stored.licence, stored.trusted, stored.source) == ("MIT", "given", str(path))
    assert load_model(settings_from({"model_path": "clip"})).width == 512


def test_a_model_stays_whole_until_the_one_that_replaces_it_is(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.onnx").write_bytes(b"one")
    (tmp_path / "two.onnx").write_bytes(b"two")
    ModelStore().add("clip", tmp_path / "one.onnx", "MIT")
    with monkeypatch.context() as patch:
        patch.setattr("fastdup_dagster.models.store.write_atomically", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ModelStore().add("clip", tmp_path / "two.onnx", "MIT")
    found = ModelStore().require("clip", "x")
    assert found.graph.read_bytes() == b"one"
    assert ModelStore().add("clip", tmp_path / "two.onnx", "MIT").graph.read_bytes() == b"two"


def test_a_folder_of_several_files_is_copied_whole(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "caption"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "encoder_model.onnx").write_bytes(b"e")
    (folder / "tokenizer.json").write_text("{}")
    assert sorted(ModelStore().add("vit-gpt2", folder, "unknown").files) == [
        "onnx/encoder_model.onnx",
        "tokenizer.json",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.onnx file"):
        ModelStore().add("vit-gpt2", tmp_path / "empty", "unknown")
    with pytest.raises(FileNotFoundError, match="no model at"):
        ModelStore().add("vit-gpt2", tmp_path / "gone", "unknown")


def test_a_file_of_another_hash_is_not_added(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"m")
    with pytest.raises(ModelRefusedError, match=r"m\.onnx: sha256 [0-9a-f]{64}, expected is 0{64}: not added"):
        ModelStore().add("clip", tmp_path / "m.onnx", "MIT", "0" * 64)
    assert ModelStore().find("clip") is None


@pytest.mark.parametrize("file", ["model.onnx", "big.data"])
def test_a_model_that_was_changed_since_it_came_is_refused(
    model_folder: Path, tmp_path: Path, write_projection: WriteModel, file: str
) -> None:
    path = write_projection(
        tmp_path / "big.onnx", 224, 512, save_as_external_data=True, location="big.data", size_threshold=0
    )
    stored = ModelStore().add("clip", path, "MIT")
    data = bytearray((stored.folder / file).read_bytes())
    data[-1] ^= 1
    (stored.folder / file).write_bytes(data)
    with pytest.raises(ModelRefusedError, match=rf"'clip' was changed.*{re.escape(file)}: sha256 .*models add clip"):
        load_model(settings_from({"model_path": "clip"}))
    (stored.folder / file).unlink()
    assert ModelStore().find("clip") is None
    assert stored.changed() == [f"{stored.folder / file} is not there"]


def test_a_model_of_another_width_or_side_than_its_name_says_is_refused(
    model_folder: Path, tmp_path: Path, write_projection: WriteModel
) -> None:
    ModelStore().add("clip", write_projection(tmp_path / "wrong.onnx", 224, 384), "MIT")
    with pytest.raises(ValueError, match=r"'clip' in .*: vectors of width 384 .* expected are 512 and 224"):
        load_model(settings_from({"model_path": "clip"}))
    ModelStore().add("clip336", write_projection(tmp_path / "wrong.onnx", 224, 768), "MIT")
    with pytest.raises(ValueError, match=r"224 pixels a side, expected are 768 and 336"):
        load_model(settings_from({"model_path": "clip336"}))


def test_the_folder_is_that_of_the_variable_else_of_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "m"))
    assert ModelStore().root == tmp_path / "m"
    monkeypatch.delenv("FASTDUP_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert ModelStore().root == tmp_path / "cache" / "fastdup_dagster" / "models"


def test_a_broken_record_is_as_good_as_none(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"m")
    stored = ModelStore().add("clip", tmp_path / "m.onnx", "MIT")
    for text in ("", "[]", '{"name": 1}'):
        (stored.folder / "model.json").write_text(text)
        assert ModelStore().find("clip") is None
