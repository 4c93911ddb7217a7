"""The workflows call commands and options that exist, and let no input of a person into a script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from fastdup_dagster.cli import main

WORKFLOWS = sorted((Path(__file__).resolve().parents[1] / ".github" / "workflows").glob("*.yml"))


def scripts(path: Path) -> list[str]:
    document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return [step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step]


def options(words: list[str]) -> set[str]:
    """The options of the command that these words name, all that it has."""
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_call_is_one_that_the_command_line_knows(path: Path):
    for script in scripts(path):
        for call in re.findall(r"fastdup-dagster ([^\n|]+)", script):
            words: list[Any] = call.split()
            given = {word for word in words if word.startswith("--")}
            assert given <= options([word for word in words if not word.startswith(("-", '"'))])
        if "fastdup-dagster backfill" in script:
            given = set(re.findall(r"\((--[a-z]+)", script))
            assert given == {"--split", "--missing", "--all", "--name"}
            assert given <= options(["backfill"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_input_is_pasted_into_a_script(path: Path):
    assert [script for script in scripts(path) if "${{" in script] == []


def test_data_sets_have_a_gate_and_a_backfill():
    called = {call for path in WORKFLOWS for s in scripts(path) for call in re.findall(r"fastdup-dagster (\w+)", s)}
    assert called >= {"datasets", "refresh", "backfill"}
