"""The command line: a whole run, its exit codes, what it prints, and how wrong usage is answered."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

import fastdup_dagster
from fastdup_dagster.cli import main
from fastdup_dagster.command_line import analyse
from fastdup_dagster.demo import KINDS
from fastdup_dagster.resources import datasets as listing
from fastdup_dagster.storage import TableStore

Invoke = Callable[..., Result]
MakePhotos = Callable[..., list[Path]]


@dataclass
class Finished:
    """A run over a healthy split `train` and a split `test` of which 30 % are broken."""

    home: Path
    images: Path
    result: Result
    invoke: Invoke

    @property
    def store(self) -> TableStore:
        return TableStore(self.home / "store")

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photos: MakePhotos) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("cli")
    images = folder / "images"
    photos(images / "train", 10)
    shutil.copy(images / "train" / "photo-0004.jpg", images / "train" / "copy.jpg")
    photos(images / "test", 7, first=50)
    for number in range(3):
        (images / "test" / f"broken [b]{number}.jpg").write_text("not an image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(folder / "home"))
        patch.delenv("FASTDUP_DATASETS", raising=False)

        def invoke(*arguments: object) -> Result:
            return CliRunner().invoke(main, [str(argument) for argument in arguments])

        result = invoke("run", images, "--name", "pets", "--num-threads", 2)
        yield Finished(folder / "home", images, result, invoke)


def test_a_broken_split_is_told_about_and_the_exit_code_is_1(finished):
    assert finished.result.exit_code == 1, finished.result.output
    text = " ".join(finished.result.stdout.split())
    assert "FAILED pets/test embeddings.share_of_unreadable: 3 of 10 rows (30.0%)" in text
    assert "accepted: at most 5.0% of the images (limits.max_invalid_share)" in text
    assert "broken [b]0.jpg" in text


def test_nothing_of_the_broken_split_is_published_and_the_healthy_one_is_complete(finished):
    tables = {
        split: {path.parent.parent.name for path in finished.store.root.glob(f"*/pets/{split}.parquet")}
        for split in ("train", "test")
    }
    assert tables["test"] == {"image_manifest"}
    assert tables["train"] == {
        *("image_manifest", "embeddings", "img_stats", "knn_graph"),
        *("similarity", "outliers", "components", "galleries"),
    }
    assert [page.name for page in finished.store.pages("pets/test").iterdir()] == ["gate_features.html"]


def test_the_report_names_check_limit_and_bad_rows_and_links_the_galleries(finished):
    path = finished.store.pages("pets") / "report.html"
    assert f"Report: {path}" in finished.result.stdout
    page = path.read_text()
    for words in (
        "share_of_unreadable",
        "30.0%",
        "limits.max_invalid_share",
        "broken [b]2.jpg",
        "train/duplicates.html",
    ):
        assert words in page
    assert (path.parent / "train" / "duplicates.html").exists()


def test_the_plan_is_told_beforehand(finished):
    lines = finished.result.stderr
    assert "pets/train  11 images" in lines
    assert "To read: 21 images" in lines
    assert "images/s" in lines
    assert "disk about" in lines
    assert "Memory up to about" in lines


def test_the_summary_counts(finished):
    rows = {
        cells[0]: cells[1:]
        for line in finished.result.stdout.splitlines()
        if line.startswith("│")
        for cells in [[cell.strip() for cell in line.strip("│").split("│")]]
    }
    assert rows["Images"] == ["–", "11"]
    assert rows["Exact copies"] == ["–", "1"]
    assert rows["Checks"] == ["2 failed", "35 passed"]
    assert rows["Stopped at"][0].startswith("embeddings,") and rows["Stopped at"][1] == ""


def test_the_runs_are_in_the_instance_that_the_ui_shows(finished):
    with finished.instance() as instance:
        status = {
            run.tags.get("dagster/partition"): run.status
            for run in instance.get_runs()
            if run.job_name.startswith("analyse")
        }
        assert set(instance.get_dynamic_partitions("split")) == {"pets/train", "pets/test"}
        assert instance.get_materialized_partitions(dg.AssetKey("galleries")) == {"pets/train"}
        observed = instance.get_latest_data_version_record(dg.AssetKey("embedding_model"), partition_key="pets/train")
    assert status["pets/train"] is dg.DagsterRunStatus.SUCCESS
    assert status["pets/test"] is dg.DagsterRunStatus.FAILURE
    assert observed is not None


@pytest.fixture
def changeable(finished, tmp_path) -> Iterator[Finished]:
    """The same at the same place, and afterwards as it was."""
    for folder in (finished.home, finished.images):
        shutil.copytree(folder, tmp_path / folder.name)
    yield finished
    for folder in (finished.home, finished.images):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / folder.name, folder)


def test_a_mended_split_completes_one_new_file_costs_one_inference_and_json_is_all_that_is_printed(changeable, photos):
    finished = changeable
    for path in finished.images.glob("test/broken*"):
        path.unlink()
    photos(finished.images / "train", 1, first=900)
    shutil.copy(finished.images / "train" / "photo-0004.jpg", finished.images / "test" / "leak.jpg")
    result = finished.invoke("run", finished.images, "--name", "pets", "--num-threads", 2, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["success"] is True
    assert told["splits"]["train"]["features"]["inferred_now"] == 1
    assert told["splits"]["train"]["features"]["reused"] == 11
    assert told["splits"]["test"]["features"]["inferred_now"] == 1
    assert told["splits"]["train"]["summary"]["leaked"] == 2
    assert told["splits"]["test"]["summary"]["leaked"] == 1
    assert {check["outcome"] for check in told["checks"]} == {"passed"}
    assert Path(told["report"]).exists()
    assert not (finished.store.pages("pets/test") / "gate_features.html").exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance is kept in memory."""
    with dg.DagsterInstance.ephemeral() as instance:

        @contextmanager
        def opened() -> Iterator[dg.DagsterInstance]:
            yield instance

        monkeypatch.setattr(analyse, "open_instance", opened)
        yield instance


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_local_run_needs_no_network(quick, photos, tmp_path, monkeypatch):
    def refuse(self: socket.socket, address: Any) -> None:
        if self.family is not socket.AF_UNIX:
            raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: refuse(socket.socket(), a))
    photos(tmp_path / "few", 4)
    result = invoke("run", tmp_path / "few", "--num-threads", 1)
    assert result.exit_code == 0, result.output


def test_settings_are_remembered_and_options_go_over_the_file_and_the_file_over_what_is_remembered(
    quick, photos, tmp_path, home
):
    photos(tmp_path / "few", 3)
    (tmp_path / "settings.yaml").write_text("threshold: 0.8\nouthlier: 1\n")
    result = invoke("run", tmp_path / "few", "--settings", tmp_path / "settings.yaml")
    assert result.exit_code == 2
    assert "outhlier" in result.output

    def remembered() -> dict[str, Any]:
        return YAML(typ="safe").load((home / "datasets.yaml").read_text())["datasets"]["few"]["settings"]

    assert invoke("run", tmp_path / "few", "--threshold", 0.7, "--k", 1, "--num-threads", 1).exit_code == 0
    assert remembered() == {"threshold": 0.7, "nearest_neighbors_k": 1}
    (tmp_path / "settings.yaml").write_text("threshold: 0.8\nlimits: {max_leak_share: 0.5}\n")
    arguments = ("--settings", tmp_path / "settings.yaml", "--max-invalid-share", 0.2, "--out", tmp_path / "out")
    assert invoke("run", tmp_path / "few", *arguments).exit_code == 0
    limits = {"max_leak_share": 0.5, "max_invalid_share": 0.2}
    assert remembered() == {"threshold": 0.8, "nearest_neighbors_k": 1, "limits": limits}
    assert (tmp_path / "out" / "pages" / "few" / "report.html").exists()
    graph = pl.read_parquet(tmp_path / "out" / "knn_graph" / "few" / "all.parquet")
    assert graph.height == 3


def test_a_list_file_is_one_split(quick, photos, tmp_path):
    paths = photos(tmp_path / "few", 4)
    (tmp_path / "list.txt").write_text("\n".join(str(path.relative_to(tmp_path)) for path in paths[:3]))
    result = invoke("run", tmp_path / "list.txt", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["name"], told["splits"]["all"]["summary"]["images"]) == ("list", 3)


def test_split_chooses_also_a_sub_folder_with_an_unusual_name(quick, photos, tmp_path):
    for split in ("train", "winter", "other"):
        photos(tmp_path / "set" / split, 3)
    told = json.loads(invoke("run", tmp_path / "set", "--split", "winter", "--json").stdout)
    assert set(told["splits"]) == {"winter"}


def test_recompute_reads_everything_again(quick, photos, tmp_path):
    photos(tmp_path / "few", 3)
    assert invoke("run", tmp_path / "few").exit_code == 0
    for flags, inferred in (((), 0), (("--recompute",), 3)):
        told = json.loads(invoke("run", tmp_path / "few", "--json", *flags).stdout)
        assert told["splits"]["all"]["features"]["inferred_now"] == inferred


def test_an_interrupt_ends_the_run_in_order(quick, photos, tmp_path, monkeypatch):
    photos(tmp_path / "few", 3)

    def interrupt(*_: Any, **__: Any) -> None:  # the asset's: the plan has its own reference
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "list_split", interrupt)
    result = invoke("run", tmp_path / "few")
    assert result.exit_code == 130
    assert "goes on from there" in result.output
    assert {run.status for run in quick.get_runs() if run.job_name == "analyse_split"} <= {
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.CANCELED,
    }


def test_a_step_that_breaks_is_told_in_words_and_the_exit_code_is_1(quick, photos, tmp_path, monkeypatch):
    from fastdup_dagster.stages import outliers

    photos(tmp_path / "few", 3)

    def broken(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(outliers, "outliers", broken)
    result = invoke("run", tmp_path / "few")
    assert result.exit_code == 1
    assert "ERROR few/all: outliers: OSError: the disk is full" in result.stdout


def test_a_comparison_that_breaks_is_in_the_report_too(quick, photos, tmp_path, monkeypatch):
    from fastdup_dagster.stages import split_leakage

    for split in ("train", "test"):
        photos(tmp_path / "few" / split, 2)

    def broken(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(split_leakage, "split_leakage", broken)
    result = invoke("run", tmp_path / "few", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["errors"] == ["split_leakage: OSError: the disk is full"]
    page = Path(told["report"]).read_text()
    assert "few: split_leakage: OSError: the disk is full" in page
    assert "Not finished" in page


def test_pages_that_break_hide_no_numbers(quick, photos, tmp_path, monkeypatch):
    from fastdup_dagster.assets import galleries

    photos(tmp_path / "few", 3)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(galleries, "render_galleries", broken)
    result = invoke("run", tmp_path / "few", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)["splits"]["all"]
    assert (told["success"], told["summary"]["images"], told["pages"]) == (False, 3, None)


@pytest.mark.parametrize(
    ("stage", "unknown"),
    [
        ("knn_graph", {"near_duplicate_pairs", "clusters", "outliers"}),
        ("similarity", {"near_duplicate_pairs"}),
        ("components", {"clusters"}),
    ],
)
def test_a_late_gate_hides_no_number_that_was_published(quick, photos, tmp_path, monkeypatch, stage, unknown):
    photos(tmp_path / "few" / "train", 4)
    photos(tmp_path / "few" / "test", 3, first=50)
    shutil.copy(tmp_path / "few" / "train" / "photo-0000.jpg", tmp_path / "few" / "train" / "copy.jpg")
    module = importlib.import_module(f"fastdup_dagster.stages.{stage}")
    right = getattr(module, stage)

    def wrong(table: pl.DataFrame, *more: Any, **named: Any) -> pl.DataFrame:
        made = right(table, *more, **named)
        ids = [name for name in ("from", "index") if name in made.columns]
        return made if table.to_series(0).max() < 4 else made.with_columns(pl.lit(-3, pl.Int64).alias(ids[0]))

    monkeypatch.setattr(module, stage, wrong)
    result = invoke("run", tmp_path / "few", "--json")
    assert result.exit_code == 1, result.output
    told = json.loads(result.stdout)
    train = told["splits"]["train"]
    assert not train["success"] and train["failed_gates"] == [stage]
    assert (train["summary"]["images"], train["summary"]["exact_duplicates"]) == (5, 1)
    counted = ("near_duplicate_pairs", "clusters", "outliers")
    assert {name for name in counted if train["summary"][name] is None} == unknown
    assert told["splits"]["test"]["success"] and told["total"]["images"] == 8
    page = Path(told["report"]).read_text()
    assert f"{stage}" in page and "A gate kept from being published" in page
    assert "train was stopped: " in page


def test_what_is_left_out_and_what_was_compared_besides_is_told(quick, photos, tmp_path, home):
    for split in ("train", "test", "extra"):
        photos(tmp_path / "few" / split, 2)
    told = json.loads(invoke("run", tmp_path / "few", "--json").stdout)
    assert told["notes"] == [
        f"2 images of {tmp_path / 'few'} lie in none of the splits (test, train) and are left out; "
        "--split all takes all"
    ]
    result = invoke("run", tmp_path / "few", "--split", "train")
    assert "NOTE 2 images" in result.stderr
    said = "Leaks are looked for among all splits of few, as they were published last: also test, not part of this run"
    assert said in result.stdout
    assert said in (home / "store" / "pages" / "few" / "report.html").read_text()
    assert "nothing was left out" not in result.output


def test_what_was_chosen_of_the_model_can_be_undone(quick, photos, tmp_path, home, monkeypatch):
    """What is remembered is written before the run: one with a file of one's own is enough."""
    photos(tmp_path / "few", 2)

    def at_once(_: Any, __: Any, partition: str, *___: Any) -> analyse.PartitionRun:
        return analyse.PartitionRun(partition, True, "run", 0.0, [], [])

    really = analyse.run_partition

    def remembered() -> dict[str, Any]:
        return YAML(typ="safe").load((home / "datasets.yaml").read_text())["datasets"]["few"].get("settings", {})

    bundled = Path(fastdup_dagster.__file__).parent / "models" / "bundled" / "efficientnet_lite0_int8.onnx"
    for arguments, expected in (
        (("--high-accuracy",), {"high_accuracy": True}),
        (("--no-high-accuracy",), {"high_accuracy": False}),
        (("--model", bundled), {"high_accuracy": False, "model_path": str(bundled)}),
        (("--model", "bundled"), {"high_accuracy": False}),
    ):
        monkeypatch.setattr(analyse, "run_partition", really if bundled in arguments else at_once)
        assert invoke("run", tmp_path / "few", *arguments).exit_code == 0
        assert remembered() == expected


def test_the_demo_takes_no_other_data_sets_name(home, tmp_path):
    text = f"datasets: {{demo: {{root: {tmp_path}, splits: {{all: .}}}}}}\n"
    (home / "datasets.yaml").write_text(text)
    result = invoke("demo", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "which is no demo; choose another --name" in " ".join(result.output.split())
    assert (home / "datasets.yaml").read_text() == text
    assert not (tmp_path / "out").exists()


def test_the_demo_tells_its_score_and_ends_with_1_if_something_was_missed(quick, tmp_path, monkeypatch):
    from fastdup_dagster.command_line import demo as demonstrating

    result = invoke("demo", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["score"]
    assert {row["kind"]: row["planted"] - row["found"] for row in told} == dict.fromkeys([*KINDS, "cluster"], 0)
    right = demonstrating.score
    monkeypatch.setattr(demonstrating, "score", lambda *given: right(*given).with_columns(pl.col("found") - 1))
    assert invoke("demo", "--out", tmp_path / "out", "--json").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}/nowhere"], "does not exist; give a folder"),
        (["{tmp}/few", "--name", "a b"], "use 1 to 100 letters"),
        (["{tmp}/few", "--split", "val"], "there are: all"),
        (["{tmp}/few", "--threshold", "high"], "not a valid float"),
        (["{tmp}/few", "--outlier-percentile", "5"], "outlier_percentile=5.0"),
        (["{tmp}/few", "--max-invalid-share", "30"], "max_invalid_share=30.0"),
        (["{tmp}/few", "--model", "{tmp}/none.onnx"], "does not exist"),
        (["{tmp}/few", "--model", "{tmp}/few/photo-0000.jpg"], "photo-0000.jpg"),
        (["{tmp}/few", "--threshold", "5"], "threshold=5.0"),
        (["{tmp}/few", "--cc-threshold", "-1.01"], "cc_threshold=-1.01"),
        (["{tmp}/few", "--settings", "{tmp}/face.yaml"], "fastdup-dagster models pull yunet"),
        (["{tmp}/few", "--settings", "{tmp}/five.yaml"], "unknown argument 5"),
        (["{tmp}/few", "--settings", "{tmp}/index.yaml"], "nnf_mode='HNSW-32'"),
        (["{tmp}/few", "--out", "{tmp}/face.yaml/out"], "results cannot go to"),
        (["{tmp}/few/photo-0000.jpg"], "is an image, not a text file"),
        (["{tmp}/empty.txt"], "it names no path"),
        (["{tmp}/remote.txt"], "'gs://bucket/a.jpg': reading from gs:// is not supported yet"),
        (["{tmp}/my photos"], "choose one for"),
        (["{tmp}/few", "--k", "0"], "0 is not in the range"),
        (["{tmp}/few", "--nope"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_remedy_and_leaves_no_trace(home, photos, tmp_path, arguments, said):
    photos(tmp_path / "few", 2)
    photos(tmp_path / "my photos", 2)
    for name, text in {
        "face.yaml": "bounding_box: face\n",
        "five.yaml": "5: 0.5\n",
        "index.yaml": "nnf_mode: HNSW-32\n",
        "empty.txt": "\n",
        "remote.txt": "few/photo-0000.jpg\ngs://bucket/a.jpg\n",
    }.items():
        (tmp_path / name).write_text(text)
    result = invoke("run", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split()), result.output
    assert not (home / "datasets.yaml").exists()


def test_a_name_does_not_silently_change_what_it_stands_for(home, photos, tmp_path):
    (home / "datasets.yaml").write_text(f"datasets: {{pets: {{root: {tmp_path / 'few'}, splits: {{all: .}}}}}}\n")
    photos(tmp_path / "few", 2)
    photos(tmp_path / "others", 2)
    result = invoke("run", tmp_path / "others", "--name", "pets")
    assert result.exit_code == 2
    assert "--replace" in result.output


def test_help_answers_without_importing_what_is_heavy():
    heavy = "('dagster', 'polars', 'onnxruntime', 'rich')"
    code = f"import sys, fastdup_dagster.cli\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for command in ((), ("run",), ("demo",), ("dev",)):
        text = invoke(*command, "--help").output
        assert "Usage:" in text
        assert not command or "Example" in text


@pytest.mark.parametrize("command", [("backfill", "--all"), ("refresh", "--dry-run"), ("run", ".")])
def test_a_variable_that_says_what_cannot_be_is_wrong_usage(command: tuple[str, ...], tmp_path: Path) -> None:
    # In a fresh process: the code location reads the variable when it is imported.
    (tmp_path / "1.jpg").write_bytes(b"x")
    environment = {**os.environ, "FASTDUP_EXECUTOR": "threads", "DAGSTER_HOME": str(tmp_path / "home")}
    call = [sys.executable, "-c", "from fastdup_dagster.cli import main; main()", *command]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Error: FASTDUP_EXECUTOR='threads': expected one of in_process, multiprocess, docker" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_go_to_a_bucket_and_the_report_can_be_opened_from_there(quick, photos, tmp_path, s3_server, home):
    photos(tmp_path / "images", 4)
    place = f"s3://{s3_server.bucket()}/results"
    told = json.loads(invoke("run", tmp_path / "images", "--name", "pets", "--store", place, "--json").stdout)
    assert told["success"]
    assert told["report"] == f"{place}/pages/pets/report.html"
    assert told["splits"]["all"]["pages"] == f"{place}/pages/pets/all"
    assert b"<html" in urllib.request.urlopen(told["link"]).read()
    assert not (home / "store").exists()
    again = invoke("run", tmp_path / "images", "--name", "pets")  # the place is remembered
    assert f"Report: {place}/pages/pets/report.html" in again.stdout
    for text in (json.dumps(told), again.output, (home / "datasets.yaml").read_text()):
        assert "secret-of-the-tests" not in text


def test_a_bucket_that_is_not_there_is_said_before_anything_begins(quick, photos, tmp_path, s3_server, home):
    photos(tmp_path / "images", 2)
    result = invoke("run", tmp_path / "images", "--name", "pets", "--store", "s3://no-such-bucket/x")
    assert result.exit_code == 2
    assert "results cannot go to s3://no-such-bucket/x (no bucket 'no-such-bucket'" in " ".join(result.output.split())
    assert not (home / "datasets.yaml").exists()
