"""The asset captions: made of the listing alone, by the observed model, published only if its checks pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fastdup_dagster.assets.array_checks import captions_against_manifest
from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.models.store import ModelStore
from fastdup_dagster.schemas import CAPTIONS
from fastdup_dagster.stages.table_plan import TablePlan

FIXTURES = Path(__file__).parents[1] / "models" / "captioning" / "fixtures"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache."""
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def run(project: Any, key: str = "pets/train", **config: Any) -> dg.ExecuteInProcessResult:
    job = build_definitions().resolve_job_def("caption_split")
    asked = {"ops": {"captions": {"config": config}}}
    return job.execute_in_process(asked, instance=project.instance, partition_key=key, raise_on_error=False)


def materialised(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_captions_are_published_beside_the_other_tables_and_cost_an_analysis_nothing(project: Any) -> None:
    assert "captions" not in SPLIT_ASSETS
    result = run(project)
    assert result.success
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "share_of_failed": True, "one_row_per_image": True, "caption_or_error": True
    }  # fmt: skip
    frame = project.store.read("captions", "pets/train")
    assert frame["index"].to_list() == list(range(10))
    assert frame["caption"].str.starts_with("Most likely ").all()
    told = materialised(result)
    assert told["model"] == frame["model"][0]
    assert told["dagster/partition_row_count"] == 10
    assert "data:image/jpeg" in told["examples"]


def test_the_settings_of_the_data_set_choose_model_prompt_and_options(project: Any) -> None:
    pytest.importorskip("tokenizers", reason="the extra captions is not installed")
    chosen = {"model": str(FIXTURES / "blip"), "prompt": "a photo of", "options": {"max_length": 9, "min_length": 6}}
    project.register({"num_threads": 2, "captions": {**chosen, "batch_size": 3}})
    assert run(project).success
    frame = project.store.read("captions", "pets/train")
    assert frame["caption"].str.starts_with("a photo of").all()
    assert frame["model"].str.ends_with('+prompt="a photo of"+max_length=9+min_length=6').all()


def test_the_observed_version_is_the_model_and_what_it_is_asked(project: Any, cache: Path) -> None:
    project.register({"captions": {"options": {"top_k": 3}}}, name="few")
    project.register({"captions": {"model": "blip"}}, name="none")
    asset = build_definitions().resolve_asset_graph().get(dg.AssetKey("caption_model"))
    assert not asset.is_materializable

    def observed() -> dict[str, str]:
        model = [dg.AssetKey("caption_model")]
        job = build_definitions().resolve_implicit_job_def_def_for_assets(model)
        assert job is not None
        assert job.execute_in_process(instance=project.instance, asset_selection=model).success
        records = project.instance.fetch_observations(dg.AssetKey("caption_model"), limit=100).records
        found: dict[str, str] = {}
        for record in records:
            observation = record.asset_observation
            found.setdefault(str(observation.partition), observation.data_version or "")
        return found

    before = observed()
    assert before["pets/train"].startswith("tags@")
    assert before["few/train"] == before["pets/train"] + "+top_k=3"
    assert "none/train" not in before
    ModelStore().add("vit-gpt2", FIXTURES / "vit-gpt2", "Apache-2.0")
    assert observed()["pets/train"].startswith("vit-gpt2@")


def test_what_was_captioned_before_is_reused_unless_a_run_asks_for_all(project: Any) -> None:
    def counts(**config: Any) -> tuple[Any, Any]:
        told = materialised(run(project, **config))
        return told["captioned now"], told["reused"]

    assert counts() == (9, 1), "one of the images is a copy of another"
    assert counts() == (0, 10)
    assert counts(recompute=True) == (9, 1)


def test_the_same_captions_have_the_same_version(project: Any) -> None:
    def version() -> str:
        assert run(project, recompute=True).success
        event = project.instance.get_latest_materialization_event(dg.AssetKey("captions"))
        return event.asset_materialization.tags["dagster/data_version"]

    assert version() == version()


def change_of(column: str, value: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    first = pl.int_range(pl.len()) == 0
    return lambda frame: frame.with_columns(pl.when(first).then(pl.lit(value)).otherwise(column).alias(column))


DEFECTS: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = [
    ("one_row_per_image", lambda frame: frame[1:]),
    ("one_row_per_image", lambda frame: pl.concat([frame, frame[:1]])),
    ("one_row_per_image", lambda frame: frame.with_columns(pl.col("index") + 1)),
    ("caption_or_error", change_of("caption", None)),
    ("caption_or_error", change_of("caption", "  ")),
    ("caption_or_error", change_of("error", "both")),
]


@pytest.mark.parametrize(("check", "change"), DEFECTS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(DEFECTS)])
def test_a_defect_trips_its_check_and_nothing_is_published(
    check: str, change: Callable[[pl.DataFrame], pl.DataFrame], project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TablePlan.blocks
    changed = lambda *given: (change(pl.DataFrame(block)).to_arrow() for block in right(*given))  # noqa: E731
    monkeypatch.setattr(TablePlan, "blocks", changed)
    result = run(project)
    assert not result.success
    failed = {e.check_name: e for e in result.get_asset_check_evaluations() if not e.passed}
    assert failed[check].blocking
    assert not project.store.exists("captions", "pets/train")
    assert (project.store.pages("pets/train") / "gate_captions.html").is_file()


def test_too_many_images_without_a_caption_stop_the_split(project: Any) -> None:
    assert project.run("pets/train", "image_manifest").success
    for path in sorted((project.images / "train").iterdir())[:2]:
        path.unlink()
    result = run(project)
    (failed,) = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert failed.check_name == "share_of_failed"
    assert failed.metadata["observed"].value == "2 of 10 rows (20.0%)"
    project.register({"num_threads": 2, "limits": {"max_invalid_share": 0.2}})
    result = run(project)
    assert result.success
    assert materialised(result)["without a caption"] == 2
    assert "MISSING_FILE" in json.dumps(project.store.read("captions", "pets/train")["error"].to_list())


def test_an_image_in_which_a_detector_found_nothing_is_no_failure(project: Any) -> None:
    store = project.store
    manifest = store.read("image_manifest", "pets/train")
    rows = CAPTIONS.frame({
        "index": [0, 1], "caption": [None, "a cat"], "model": ["m", "m"], "source_key": ["", ""],
        "error": ["MISSING_ANNOTATION: yolov5s found nothing in it", None],
    })  # fmt: skip
    joined = captions_against_manifest(rows.lazy(), manifest[:2])
    assert joined["error"].to_list() == [None, None]
    assert joined["either"].to_list() == [True, True]
