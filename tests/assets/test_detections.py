"""The asset detections: of the step of the listing, published with it if its checks pass, by an observed detector."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from PIL import Image

from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.observed import DETECTOR_MODEL, observed_version
from fastdup_dagster.command_line.analyse import analyse
from fastdup_dagster.command_line.display import PlainDisplay
from fastdup_dagster.command_line.refresh import Refresh
from fastdup_dagster.command_line.selection import choose
from fastdup_dagster.datasets import load_dataset
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages import detections as stage
from fastdup_dagster.stages.image_manifest import list_images
from tests.conftest import Project
from tests.models.detectors.conftest import Write, raw_boxes, write_yolo

__all__ = ["write_yolo"]
KEY = "pets/train"
Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture
def model(write_yolo: Write, tmp_path: Path) -> Path:
    """A detector that finds the same boxes in every image that is not black."""
    path = tmp_path / "things.onnx"
    shutil.move(write_yolo(raw_boxes(3, 96, 3, 60), 96, names=["person", "cat", "tree"]), path)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Two bright images in train and a black one; nothing is registered or made yet."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(tmp_path / "home", tmp_path / "images", instance)
        for name, value in (("a", 255), ("b", 250), ("c", 0)):
            picture(project, name, value)
        yield project


@pytest.fixture
def found(bare: Project, model: Path) -> Project:
    """The same, with a detector in its settings."""
    use(bare, model)
    return bare


def picture(project: Project, name: str, value: int) -> None:
    noise = np.random.default_rng(value).integers(0, 5, (96, 96, 3), dtype=np.uint8)
    folder = project.images / "train"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(noise + max(value - 5, 0), 0, 255).astype(np.uint8)).save(folder / f"{name}.png")


def use(project: Project, model: Path | None, **settings: Any) -> None:
    asked = {} if model is None else {"bounding_box": str(model)}
    project.register({"num_threads": 2, "limits": {"max_invalid_share": 0.5}} | asked | settings)


def made(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    events = result.get_asset_materialization_events()
    return {
        e.asset_key.to_user_string(): {n: v.value for n, v in e.materialization.metadata.items()}
        for e in events
        if e.asset_key
    }


def listed(project: Project) -> dg.ExecuteInProcessResult:
    return project.run(KEY, "detections", "image_manifest")


def refreshed(project: Project, dry: bool = False) -> Any:
    work = Refresh(project.instance, PlainDisplay(lambda line: None), {})
    return [(s.table, s.why) for s in work.plan(choose((), ())) if s.certain] if dry else work.run(choose((), ())).made


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that a detector looks at from now on."""
    seen: list[str] = []
    plain = stage._found

    def noted(read: Any, uri: str, *given: Any) -> Any:
        seen.append(Path(uri).name)
        return plain(read, uri, *given)

    monkeypatch.setattr(stage, "_found", noted)
    return seen


def test_a_detector_makes_a_table_with_checks_beside_the_listing(found: Project) -> None:
    result = listed(found)
    assert result.success
    passed = {(c.asset_key.path[0], c.check_name): c.passed for c in result.get_asset_check_evaluations()}
    assert passed == {(table, name): True for table in ("detections", "image_manifest") for name in CHECKS[table]}
    boxes = found.store.read("detections", KEY)
    assert boxes["labels"].list.len().to_list() == [len(boxes["labels"][0])] * 2 + [0]
    assert boxes.select("img_w", "img_h").rows() == [(96, 96)] * 3
    manifest = found.store.read("image_manifest", KEY)
    assert manifest.filter(pl.col("media") == "crop").height == boxes["labels"].list.len().sum()
    told = made(result)["detections"]
    assert told["dagster/partition_row_count"] == 3
    assert (told["detections"], told["images without a detection"]) == (2 * len(boxes["labels"][0]), 1)
    assert told["share of images without a detection"] == pytest.approx(1 / 3)
    assert told["model"] == observed_version(found.instance, DETECTOR_MODEL, KEY)
    assert told["examples"].count("data:image/jpeg") == 2
    assert "svg" in told["confidence"] and "| cat | " in told["of each label"]


def test_without_a_detector_there_is_no_such_table_and_nothing_waits_for_it(bare: Project) -> None:
    use(bare, None)
    result = listed(bare)
    assert result.success
    assert set(made(result)) == {"image_manifest"}
    assert not bare.store.exists("detections", KEY)
    assert {c.asset_key.path[0] for c in result.get_asset_check_evaluations()} == {"image_manifest"}
    assert bare.run(KEY, "detections").success


def test_the_listing_alone_looks_at_no_image_twice(found: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = looks(monkeypatch)
    assert set(made(found.run(KEY, "image_manifest"))) == {"image_manifest"}
    assert sorted(seen) == ["a.png", "b.png", "c.png"]
    assert set(made(found.run(KEY, "detections"))) == {"detections"}
    assert set(made(listed(found))) == {"detections", "image_manifest"}
    assert len(seen) == 3
    assert not found.store.staging("detections", KEY).exists()


def test_recompute_looks_at_every_image_again(found: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = looks(monkeypatch)
    entry, display = load_dataset("pets"), PlainDisplay(lambda line: None)
    for recompute, many in ((False, 3), (False, 3), (True, 6)):
        done = analyse(found.instance, "pets", entry, ["train"], display, {}, recompute)
        assert done.splits["train"].success
        assert len(seen) == many


def longer(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("labels").list.concat(pl.lit(["more"])))


def boxes(*box: float) -> Change:
    """The first image has this one box."""
    first = [[list(box)], *([[]] * 2)]
    given = {"boxes": first, "labels": [["cat"], [], []], "confidences": [[0.5], [], []]}
    return lambda frame: frame.with_columns(pl.Series(n, v, dtype=frame.schema[n]) for n, v in given.items())


def said(label: str, confidence: float | None) -> Change:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        made = boxes(1, 1, 20, 20)(frame)
        labels = pl.Series("labels", [[label], [], []], dtype=frame.schema["labels"])
        return made.with_columns(labels, pl.Series("confidences", [[confidence], [], []], dtype=pl.List(pl.Float64)))

    return change


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("share_of_failed", lambda f: f.with_columns(error_code=pl.lit("READ_ERROR"))),
        ("one_row_per_image", lambda f: f[1:]),
        ("one_row_per_image", lambda f: pl.concat([f, f[:1]])),
        ("lists_of_equal_length", longer),
        ("boxes_in_image", boxes(1, 1, 0, 20)),
        ("boxes_in_image", boxes(77, 1, 20, 20)),
        ("boxes_in_image", boxes(-1, 1, 20, 20)),
        ("boxes_in_image", boxes(float("nan"), 1, 20, 20)),
        ("boxes_in_image", boxes(0, 0, 20, 0, 20, 97, 0, 20)),
        ("boxes_in_image", boxes(0, 0, 20)),
        ("labels_and_confidences", said(" ", 0.5)),
        ("labels_and_confidences", said("cat", 1.2)),
        ("labels_and_confidences", said("cat", None)),
    ],
)
def test_a_defect_fails_its_check_and_neither_table_is_published(
    found: Project, monkeypatch: pytest.MonkeyPatch, check: str, change: Change
) -> None:
    plain = stage.look
    monkeypatch.setattr(stage, "look", lambda *given: change(plain(*given)))
    result = listed(found)
    failed = {c.check_name for c in result.get_asset_check_evaluations() if not c.passed}
    assert not result.success and check in failed
    assert not found.store.exists("detections", KEY) and not found.store.exists("image_manifest", KEY)


def test_good_boxes_at_the_edges_pass(found: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = stage.look
    for box in ((0, 0, 96, 96), (0, 0, 96, 0, 96, 96, 0, 96)):
        with monkeypatch.context() as patch:
            patch.setattr(stage, "look", lambda *given, box=box: boxes(*box)(plain(*given)))
            assert listed(found).success


def test_a_listing_without_images_closes_the_gate_of_either_table(found: Project) -> None:
    for image in (found.images / "train").iterdir():
        image.unlink()
    for table, check in (("detections", "one_row_per_image"), ("image_manifest", "has_rows")):
        (outcome,) = found.run(KEY, table).get_asset_check_evaluations()
        assert (outcome.asset_key.path[0], outcome.check_name, outcome.passed) == (table, check, False)


def test_a_changed_detector_is_told_and_makes_its_boxes_and_the_listing_again(
    found: Project, model: Path, write_yolo: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed(found).success
    assert found.run(KEY, "embeddings", "img_stats").success
    assert [table for table, _ in refreshed(found, dry=True)][:1] == ["knn_graph"]
    shutil.move(write_yolo(raw_boxes(4, 96, 3, 60), 96), model)
    seen = looks(monkeypatch)
    before = found.store.path("detections", KEY).read_bytes()
    (table, why), *_ = refreshed(found, dry=True)
    assert table == "detections" and why.startswith("the model: yolov5 things@")
    assert (seen, found.store.path("detections", KEY).read_bytes()) == ([], before), "a dry run makes nothing"
    done = refreshed(found)[KEY]
    assert done[:4] == ["detections", "image_manifest", "embeddings", "img_stats"]
    assert len(seen) == 3
    assert refreshed(found, dry=True) == []


def test_only_new_and_changed_images_are_looked_at_and_a_refresh_settles(
    found: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refreshed(found)[KEY][:2] == ["detections", "image_manifest"]
    assert refreshed(found, dry=True) == []
    picture(found, "d", 245)
    seen = looks(monkeypatch)
    assert refreshed(found, dry=True)[0] == ("detections", "files: 1 added, removed or changed")
    assert seen == []
    assert refreshed(found)[KEY][:2] == ["detections", "image_manifest"]
    assert seen == ["d.png"]
    (found.images / "train" / "d.png").unlink()
    assert refreshed(found)[KEY][:2] == ["detections", "image_manifest"]
    (found.images / "train" / "a.png").touch()
    assert refreshed(found)[KEY][:2] == ["detections", "image_manifest"]
    assert seen == ["d.png", "a.png"]
    assert refreshed(found) == {}


def test_dagster_itself_finds_both_tables_up_to_date(found: Project) -> None:
    assert listed(found).success
    graph = build_definitions().resolve_asset_graph()
    resolver = CachingStaleStatusResolver(found.instance, graph, LoadingContextForTest(found.instance))
    for table in ("detections", "image_manifest"):
        assert resolver.get_status(dg.AssetKey(table), KEY) is StaleStatus.FRESH, table


def test_published_rows_give_the_listing_without_a_detector(found: Project, model: Path) -> None:
    (found.images / "train" / "broken.png").write_bytes(b"")
    assert listed(found).success
    settings = Settings(bounding_box=str(model))
    published = stage.Published(settings, found.store, KEY, observed_version(found.instance, DETECTOR_MODEL, KEY) or "")
    files = list_images(open_source(str(found.images / "train")), Settings(), "train").frame
    manifest = found.store.read("image_manifest", KEY)
    assert published(files).drop("confidence", "image").equals(manifest)
    assert published.unknown == 0
    published(files[1:])
    assert published.unknown == 1
