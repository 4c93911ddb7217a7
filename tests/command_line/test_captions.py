"""Captions on the command line: in the same run, reused, shown, kept up to date; a missing model is said beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from fastdup_dagster.cli import main
from fastdup_dagster.command_line import analyse
from fastdup_dagster.command_line.plan import resolve_entry
from fastdup_dagster.datasets import load_dataset, register
from fastdup_dagster.models.store import ModelStore
from fastdup_dagster.storage import TableStore, open_store

TINY = Path(__file__).parents[1] / "models" / "captioning" / "fixtures"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> Iterator[None]:
    """The instance is kept in memory; the model cache is empty."""
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    with dg.DagsterInstance.ephemeral() as instance:

        @contextmanager
        def opened() -> Iterator[dg.DagsterInstance]:
            yield instance

        monkeypatch.setattr(analyse, "open_instance", opened)
        yield


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def counts(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)["splits"].values()
    return {name: value for name, value in told["captions"].items() if name != "model"}


def test_a_run_captions_what_is_new_says_so_and_shows_it(photos, tmp_path, home):
    photos(tmp_path / "few", 3)
    assert json.loads(invoke("run", tmp_path / "few", "--json").stdout)["splits"]["all"]["captions"] is None
    assert not TableStore(home / "store").exists("captions", "few/all")
    first = invoke("run", tmp_path / "few", "--json", "--captions")
    assert counts(first) == {"captioned_now": 3, "reused": 0, "without_a_caption": 0}
    photos(tmp_path / "few", 1, first=50)
    again = invoke("run", tmp_path / "few", "--captions")
    assert again.exit_code == 0
    assert "Captions of images that have none yet, by tags@" in again.stderr
    assert "Captions" in again.stdout and "1 now, 3 reused" in again.stdout
    frame = TableStore(home / "store").read("captions", "few/all")
    pages = home / "store" / "pages" / "few"
    assert frame["caption"][0] in (pages / "_captions" / "all" / "captions.html").read_text(encoding="utf-8")
    report = (pages / "report.html").read_text(encoding="utf-8")
    assert '<a href="_captions/all/captions.html">Captions</a> <span class="count">4</span>' in report
    assert frame["caption"][0] in report


def test_images_and_results_in_a_bucket_have_captions_too(photos, tmp_path, s3_server, home):
    photos(tmp_path / "images", 4)
    bucket = s3_server.upload(tmp_path / "images", "set/")
    call = ("run", f"s3://{bucket}/set", "--name", "remote", "--store", f"s3://{bucket}/results", "--json")
    assert counts(invoke(*call, "--captions", "tags")) == {"captioned_now": 4, "reused": 0, "without_a_caption": 0}
    assert counts(invoke(*call, "--captions")) == {"captioned_now": 0, "reused": 4, "without_a_caption": 0}
    store = open_store(f"s3://{bucket}/results")
    caption = store.read("captions", "remote/all")["caption"][0]
    assert caption in store.page_bytes("remote/_captions/all/captions.html").decode()
    assert not (home / "store").exists()


@pytest.mark.parametrize(("model", "said"), [
    ("vitgpt2", "fastdup-dagster models pull vit-gpt2"), ("no-such", "neither automatic, tags")
])  # fmt: skip
def test_a_model_that_is_not_there_is_said_before_anything_begins(model, said, photos, tmp_path, home):
    photos(tmp_path / "few", 2)
    result = invoke("run", tmp_path / "few", "--captions", model)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (home / "datasets.yaml").exists()


def test_the_model_is_remembered_with_its_prompt_and_options_until_another_one_is_named(photos, tmp_path, home):
    photos(tmp_path / "few", 2)

    def remembered(**captions: object) -> dict[str, object]:
        changes = {"captions": captions} if captions else {}
        entry, _ = resolve_entry(tmp_path / "few", "few", (), changes, None, False)
        register("few", entry)
        return dict(load_dataset("few").settings.get("captions", {}))

    asked = {"model": "blip", "prompt": "a photo of", "options": {"num_beams": 2}}
    assert remembered(**asked) == asked
    assert remembered() == asked
    assert remembered(model="blip", batch_size=4) == {**asked, "batch_size": 4}
    assert remembered(model="tags") == {"model": "tags"}


def test_the_folder_of_a_model_is_remembered_by_its_whole_path(photos, tmp_path, monkeypatch):
    photos(tmp_path / "few", 2)
    monkeypatch.chdir(TINY)
    assert invoke("run", tmp_path / "few", "--captions", "age", "--json").exit_code == 2  # V1's name of a model
    monkeypatch.chdir(TINY.parent)
    assert invoke("run", tmp_path / "few", "--captions", "fixtures/age", "--json").exit_code == 0
    assert load_dataset("few").settings["captions"] == {"model": str(TINY / "age")}


def test_refresh_makes_captions_again_with_another_option_and_says_what_model_is_missing(photos, tmp_path, home):
    photos(tmp_path / "few", 2)
    assert invoke("run", tmp_path / "few", "--captions").exit_code == 0
    assert json.loads(invoke("refresh", "--dry-run", "--json").stdout)["stale"] == []
    entry = load_dataset("few")

    def settle(**captions: object) -> None:
        register("few", entry.model_copy(update={"settings": {"captions": captions}}))

    settle(model="tags", options={"top_k": 2})
    told = json.loads(invoke("refresh", "--json").stdout)
    assert (told["success"], told["made"]["few/all"]) == (True, ["captions", "galleries"])
    settle(model="vitgpt2")
    for arguments in (("--dry-run",), ()):
        result = invoke("refresh", *arguments)
        assert result.exit_code == 1
        said = " ".join(result.output.replace("│", " ").split())
        assert "captions" in said and "models pull vit-gpt2" in said
    before = TableStore(home / "store").read("captions", "few/all")
    pytest.importorskip("tokenizers", reason="the extra captions is not installed")
    ModelStore().add("vit-gpt2", TINY / "vit-gpt2", "Apache-2.0")
    assert invoke("refresh").exit_code == 0
    after = TableStore(home / "store").read("captions", "few/all")
    assert before["model"].str.starts_with("tags@").all()
    assert after["model"].str.starts_with("vit-gpt2@").all()


def test_backfill_captions_the_splits_that_have_none(photos, tmp_path, home):
    photos(tmp_path / "few", 2)
    assert invoke("run", tmp_path / "few").exit_code == 0
    assert "Nothing is missing." in invoke("backfill", "--missing").stdout
    result = invoke("backfill", "--missing", "--captions")
    assert result.exit_code == 0, result.output
    assert "captioned now 2, reused 0" in result.stdout
    assert "Nothing is missing." in invoke("backfill", "--missing", "--captions").stdout
