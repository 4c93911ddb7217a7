"""`fastdup-dagster datasets`: adding finds splits, checking finds what is wrong, listing shows broken entries too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastdup_dagster.cli import main
from fastdup_dagster.datasets import load_dataset


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["datasets", *map(str, arguments)])


@pytest.fixture
def root(home: Path, tmp_path: Path, photos) -> Path:
    folder = tmp_path / "images"
    photos(folder / "train", 3)
    photos(folder / "val", 2, first=10)
    (folder / "labels.csv").write_text(
        "filename,label,subset\ntrain/photo-0000.jpg,cat,fit\nval/photo-0010.jpg,dog,probe\nval/photo-0011.jpg,dog,\n"
    )
    return folder


def test_splits_are_found_or_given(root, tmp_path):
    assert invoke("add", "found", root).exit_code == 0
    assert load_dataset("found").splits == {"train": "train", "val": "val"}
    (tmp_path / "settings.yaml").write_text("threshold: 0.8\nlimits: {max_invalid_share: 0.2}\n")
    more = ("--settings", tmp_path / "settings.yaml", "--store", tmp_path / "store")
    assert invoke("add", "given", root, "--split", "mine=val", *more).exit_code == 0
    entry = load_dataset("given")
    assert (entry.splits, entry.store) == ({"mine": "val"}, str(tmp_path / "store"))
    assert entry.typed_settings().limits.max_invalid_share == 0.2


def test_a_column_gives_the_splits(root):
    arguments = ("--annotations", "labels.csv", "--split-column", "subset")
    assert invoke("add", "birds", root, *arguments).exit_code == 0
    assert load_dataset("birds").splits == {"fit": "fit", "probe": "probe"}


def test_a_remote_root_is_kept_as_it_is(root):
    assert invoke("add", "far", "s3://bucket/images", "--split", "all=.").exit_code == 0
    assert load_dataset("far").source("all") == "s3://bucket/images"


def test_check_counts_images_and_says_what_is_wrong(root, home):
    invoke("add", "pets", root)
    (root / "val" / "empty.jpg").touch()
    told = json.loads(invoke("check", "--json").stdout)
    assert [(row["split"], row["images"], row["invalid"]) for row in told] == [("train", 3, 0), ("val", 3, 1)]
    assert invoke("check", "pets").exit_code == 0
    invoke("add", "gone", root, "--split", "dev=nowhere")
    invoke("add", "birds", root, "--annotations", "labels.csv", "--split-column", "subset", "--split", "fit=fit")
    result = invoke("check", "--json")
    assert result.exit_code == 1
    problems = {row["name"]: row["problem"] for row in json.loads(result.stdout) if row["problem"]}
    assert "nowhere" in problems["gone"]
    assert problems["birds"] == "subset: in none of the splits: probe (1 rows), no value (1 rows)"
    (root / "labels.csv").unlink()
    told = {row["name"]: row["problem"] for row in json.loads(invoke("check", "birds", "--json").stdout)}
    assert "labels.csv" in told["birds"]


def test_a_wrong_entry_is_told_with_line_and_key_beside_the_others(root, home):
    invoke("add", "pets", root)
    with (home / "datasets.yaml").open("a") as file:
        file.write("  odd:\n    root: /x\n    splits: {all: .}\n    settings: {treshold: 1}\n")
    for command in ("list", "check"):
        result = invoke(command, "--json")
        assert "line 10, datasets.odd.settings.treshold" in result.stdout
        assert "did you mean 'threshold'" in result.stdout
        assert "pets" in result.stdout
    assert "treshold" in "".join(invoke("list").stdout.split())
    assert invoke("list").exit_code == 0
    assert invoke("check").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pets", "{root}/nowhere"], "is no folder"),
        (["a b", "{root}"], "use 1 to 100 letters"),
        (["pets", "{root}", "--split", "train"], "expected NAME=PLACE"),
        (["pets", "{root}", "--split-column", "subset"], "name their file in `annotations`"),
        (["pets", "{root}", "--annotations", "labels.csv", "--split-column", "set"], "'set' is no column"),
        (["pets", "{root}", "--annotations", "none.csv", "--split-column", "set"], "none.csv"),
        (["far", "gs://bucket/images"], "gs://"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_registers_nothing(root, home, arguments, said):
    result = invoke("add", *(argument.format(root=root) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert not (home / "datasets.yaml").exists()


def test_a_name_does_not_silently_change_what_it_stands_for(root):
    invoke("add", "pets", root)
    result = invoke("add", "pets", root / "train")
    assert result.exit_code == 2
    assert "--replace" in result.output
    assert invoke("add", "pets", root / "train", "--replace").exit_code == 0
    assert load_dataset("pets").splits == {"all": "."}
