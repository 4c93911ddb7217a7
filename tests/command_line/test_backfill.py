"""Backfills in one process: which splits, what is computed, exit codes, and what CI reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from xml.etree import ElementTree as Xml

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from fastdup_dagster.cli import main
from fastdup_dagster.command_line import analyse
from fastdup_dagster.command_line.ci_report import write_github_summary, write_junit
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.storage import TableStore


@pytest.fixture
def invoke(home, photos, tmp_path, monkeypatch) -> Iterator[Callable[..., Result]]:
    """Runs the command on `pets` (train, val) and `one` (train), of which nothing is made yet."""
    folder = tmp_path / "images"
    photos(folder / "pets" / "train", 3)
    photos(folder / "pets" / "val", 2, first=100)
    photos(folder / "one" / "train", 2, first=200)
    with dg.DagsterInstance.ephemeral() as instance:

        @contextmanager
        def opened() -> Iterator[dg.DagsterInstance]:
            yield instance

        monkeypatch.setattr(analyse, "open_instance", opened)
        register("pets", DatasetEntry(root=str(folder / "pets"), splits={"train": "train", "val": "val"}))
        register("one", DatasetEntry(root=str(folder / "one"), splits={"train": "train"}))
        yield lambda *arguments: CliRunner().invoke(main, ["backfill", "--num-threads", "2", *map(str, arguments)])


def inferred(result: Result) -> dict[str, int]:
    """Images that went through the model, by partition."""
    assert result.exit_code == 0, result.output
    return {
        f"{told['name']}/{split}": run["features"]["inferred_now"]
        for told in json.loads(result.stdout)
        for split, run in told["splits"].items()
    }


def test_all_is_made_once_and_a_second_time_nothing_is_inferred(invoke, tmp_path):
    assert inferred(invoke("--name", "pets", "--split", "val", "--json")) == {"pets/val": 2}
    assert inferred(invoke("--missing", "--json")) == {"pets/train": 3, "one/train": 2}
    assert json.loads(invoke("--missing", "--json").stdout) == []
    again = invoke("--all", "--json", "--junit", tmp_path / "junit.xml")
    assert inferred(again) == {"pets/train": 0, "pets/val": 0, "one/train": 0}
    suites = {suite.get("name"): suite for suite in Xml.parse(tmp_path / "junit.xml").getroot()}
    assert set(suites) == {"pets/train", "pets/val", "pets", "one/train"}
    assert {suite.get("failures") for suite in suites.values()} == {"0"}
    assert suites["pets"].find("testcase").get("classname") == "pets.split_leakage"


def test_a_table_that_is_gone_is_missing(invoke, home):
    assert inferred(invoke("--missing", "--name", "one", "--json")) == {"one/train": 2}
    TableStore(home / "store").remove("outliers", "one/train")
    result = invoke("--missing", "--name", "one")
    assert result.exit_code == 0
    assert "one/train  computed now 0, inferred now 0, reused 2" in result.stdout


def test_a_broken_split_ends_with_1_and_the_others_are_made(invoke, home, tmp_path, photos, monkeypatch):
    photos(tmp_path / "bad" / "train", 2, first=300)
    photos(tmp_path / "bad" / "val", 1, first=310)
    (tmp_path / "bad" / "val" / "broken <|>.jpg").write_text("no image")
    register("bad", DatasetEntry(root=str(tmp_path / "bad"), splits={"val": "val", "train": "train"}))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    result = invoke("--name", "bad", "--name", "pets", "--all", "--junit", tmp_path / "junit.xml")
    assert result.exit_code == 1
    suites = {suite.get("name"): suite for suite in Xml.parse(tmp_path / "junit.xml").getroot()}
    assert {name for name, suite in suites.items() if suite.get("failures") != "0"} == {"bad/val"}
    assert set(suites) == {"bad/val", "bad/train", "bad", "pets/train", "pets/val", "pets"}
    assert (home / "store" / "split_leakage" / "pets.parquet").exists()
    failure = suites["bad/val"].find("testcase/failure")
    assert "1 of 2 rows (50.0%)" in failure.get("message")
    assert "broken <|>.jpg" in failure.text
    summary = (tmp_path / "summary.md").read_text()
    assert "| bad/val | :x: | 2 of " in summary
    assert "| bad/train | :white_check_mark: |" in summary


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one of --split, --all and --missing"),
        (["--all", "--missing"], "give one of"),
        (["--split", "dev"], "no split 'dev'; there are: train, val"),
        (["--all", "--name", "nope"], "no data set 'nope'"),
    ],
)
def test_wrong_usage_is_exit_code_2(invoke, arguments, said):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def run_of(*checks: CheckOutcome, errors: tuple[str, ...] = ()) -> analyse.PartitionRun:
    return analyse.PartitionRun("a/b", not errors, "id", 1.0, list(checks), list(errors))


def test_a_step_that_breaks_is_an_error_and_odd_names_break_no_file(tmp_path, monkeypatch):
    odd = CheckOutcome("embeddings", "finite", "a/b", passed=False, observed="x\x00|\n<y>", limit="`z`")
    warning = CheckOutcome("embeddings", "soft", "a/b", passed=False, blocking=False, observed=1, limit=0)
    runs = [run_of(odd, warning, errors=("features: OSError: disk \x1b[31m full",))]
    write_junit(tmp_path / "junit.xml", runs)
    [suite] = Xml.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert suite.find("testcase/error").get("message").startswith("OSError: disk")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    write_github_summary("Backfill", runs)
    write_github_summary("Backfill", [])
    text = (tmp_path / "summary.md").read_text()
    assert "**warning** a/b" in text
    assert text.count("Nothing had to be made.") == 1
    assert all(line.count(" | ") == 4 for line in text.splitlines() if line.startswith("| a/b"))
