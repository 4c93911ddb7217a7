"""`models`: what is there and what is not, how it comes, and whether it is still what it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastdup_dagster.cli import main
from fastdup_dagster.models.registry import MODELS


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("FASTDUP_OFFLINE", "1")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def listed() -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(call("list", "--json").stdout)["models"]}


def test_the_list_has_every_model_and_says_what_is_here(tmp_path: Path) -> None:
    assert list(listed()) == list(MODELS)
    assert not any(row["here"] for row in listed().values())
    (tmp_path / "m.onnx").write_bytes(b"model")
    added = call("add", "clip", str(tmp_path / "m.onnx"), "--licence", "MIT")
    assert added.exit_code == 0, added.output
    assert (listed()["clip"]["here"], listed()["clip"]["bytes"]) == (True, 5)
    assert "by given" in call("list").stdout


def test_verify_tells_a_changed_file_by_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"model")
    call("add", "clip", str(tmp_path / "m.onnx"), "--licence", "MIT")
    assert call("verify").exit_code == 0
    (tmp_path / "models" / "clip" / "model.onnx").write_bytes(b"other")
    found = call("verify", "clip")
    assert (found.exit_code, "recorded is" in found.stdout) == (1, True)
    assert "models pull resnet50" in call("verify", "resnet50").output


def test_errors_say_what_to_do_instead_of_a_traceback(tmp_path: Path) -> None:
    for arguments, words in (
        (("pull", "resnet50"), "FASTDUP_OFFLINE is set"),
        (("pull", "clip"), "models add clip"),
        (("pull", "nothing"), "unknown model 'nothing'"),
        (("add", "clip", str(tmp_path / "gone.onnx"), "--licence", "MIT"), "no model at"),
        (("add", "clip", "ftp://host/m.onnx", "--licence", "MIT"), "expected an address"),
    ):
        found = call(*arguments)
        assert (found.exit_code, words in found.output) == (1, True), found.output
    assert "--licence" in call("add", "clip", "m.onnx").output


def test_a_run_with_a_model_that_is_not_here_says_the_command(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    found = CliRunner().invoke(main, ["run", str(tmp_path / "images"), "--model", "resnet50"])
    assert found.exit_code == 2
    assert "fastdup-dagster models pull resnet50" in found.output


def test_a_run_with_a_detector_that_is_not_here_says_the_command(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    (tmp_path / "images").mkdir()
    for detector, words in (("face", "fastdup-dagster models pull yunet"), ("ocr", "fastdup-dagster[ocr]")):
        (tmp_path / "settings.yaml").write_text(f"bounding_box: {detector}\n")
        found = CliRunner().invoke(
            main, ["run", str(tmp_path / "images"), "--settings", str(tmp_path / "settings.yaml"), "--name", "mine"]
        )
        assert (found.exit_code, words in found.output) == (2, True), found.output


@pytest.mark.parametrize("command", ["list", "pull", "add", "verify"])
def test_help_has_an_example(command: str) -> None:
    assert f"fastdup-dagster models {command}" in call(command, "--help").stdout
