"""Real defects in real images trip the checks of data quality: as warnings, and where a setting says so they block."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np

from fastdup_dagster.assets.check_history import outcome_of
from fastdup_dagster.assets.checks import QUALITY
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.limits import LIMIT_OF

TIGHT: dict[str, Any] = dict.fromkeys(LIMIT_OF.values(), 0.0) | {"max_label_imbalance": 2.0}
OF_STATISTICS = {"exact_duplicates", "truncated", "blurry", "dark", "bright", "statistics_drift"}


def spoil(folder: Path) -> None:
    """Adds one of each: a copy, a near duplicate, a cut, a blurred, a black, a white and a broken image."""
    photos = sorted(folder.glob("photo-*.jpg"))
    picture = cv2.imread(str(photos[0]))
    shutil.copy(photos[0], folder / "z-copy.jpg")
    cv2.imwrite(str(folder / "z-near.jpg"), cv2.resize(picture, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(folder / "z-blurry.jpg"), cv2.GaussianBlur(picture, (0, 0), 12))
    data = photos[1].read_bytes()
    (folder / "z-cut.jpg").write_bytes(data[: len(data) * 3 // 4])
    for name, value in (("dark", 0), ("bright", 255)):
        flat = np.full((96, 128, 3), value, np.uint8)
        cv2.circle(flat, (40, 40), 3, (9, 9, 9) if value == 0 else (249, 249, 249), -1)
        cv2.imwrite(str(folder / f"z-{name}.png"), flat)
    (folder / "z-broken.jpg").write_text("no image")


def labelled(project, limits: dict[str, Any]) -> None:
    """Registers the data set with limits, and with labels: three cats, one dog."""
    names = [f"train/photo-{n:04}.jpg,{label}" for n, label in enumerate(("cat", "cat", "cat", "dog"))]
    (project.images / "labels.csv").write_text("\n".join(["filename,label", *names]) + "\n")
    splits = {"train": "train", "test": "test"}
    entry = DatasetEntry(
        root=str(project.images),
        splits=splits,
        annotations="labels.csv",
        settings={"num_threads": 2, "limits": limits},
    )
    register("pets", entry)


def results(run: dg.ExecuteInProcessResult, table: str) -> dict[str, dg.AssetCheckEvaluation]:
    found = [e for e in run.get_asset_check_evaluations() if e.asset_key == dg.AssetKey(table)]
    return {e.check_name: e for e in found if e.check_name in QUALITY[table]}


def told(evaluation: dg.AssetCheckEvaluation, name: str) -> Any:
    return evaluation.metadata[name].value


def worst(evaluation: dg.AssetCheckEvaluation) -> set[object]:
    return {record.data["filename"] for record in evaluation.metadata["bad rows"].records}


def made(run: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in run.get_asset_materialization_events()}


def test_every_defect_is_a_warning_that_names_the_files_and_stops_nothing(project):
    spoil(project.images / "train")
    warn = dict.fromkeys(("invalid", "leaks"), "warn")
    labelled(project, TIGHT | {"severity": warn})
    tables = ("image_manifest", "embeddings", "img_stats", "knn_graph", "similarity")
    run = project.run("pets/train", *tables)
    assert run.success
    assert made(run) == set(tables)
    found = {f"{table}.{name}": e for table in tables if table in QUALITY for name, e in results(run, table).items()}
    found |= {f"split_leakage.{name}": e for name, e in results(project.run("pets"), "split_leakage").items()}
    elsewhere = ("captions", "detections")  # of which this data set has none
    assert set(found) == {f"{t}.{c}" for t, checks in QUALITY.items() if t not in elsewhere for c in checks}
    for name, evaluation in found.items():
        assert not evaluation.passed, name
        assert evaluation.severity is dg.AssetCheckSeverity.WARN, name
        assert told(evaluation, "observed"), name
        assert "limits.max_" in told(evaluation, "limit"), name
        assert evaluation.metadata["bad rows"].records, name
        assert outcome_of(evaluation, "pets/train").outcome == "warning"
    assert worst(found["img_stats.exact_duplicates"]) == {"photo-0003.jpg", "z-copy.jpg"}  # copy.jpg comes before
    for defect, file in (("blurry", "z-blurry.jpg"), ("truncated", "z-cut.jpg")):
        assert file in worst(found[f"img_stats.{defect}"])
    assert worst(found["img_stats.dark"]) == {"z-dark.png"}
    assert worst(found["img_stats.bright"]) == {"z-bright.png"}
    assert worst(found["embeddings.share_of_unreadable"]) == {"z-broken.jpg"}
    near = found["similarity.near_duplicates"].metadata["bad rows"].records
    assert ("z-near.jpg", "photo-0000.jpg") in {(r.data["filename"], r.data["copy_of"]) for r in near}
    assert told(found["image_manifest.label_balance"], "observed") == "3: 3 cat, 1 dog, of 2 classes"
    assert "16 images, 10 published" in told(found["embeddings.embedding_drift"], "observed")

    again = project.run("pets/train", "embeddings", "img_stats")
    for table, check in (("embeddings", "embedding_drift"), ("img_stats", "statistics_drift")):
        assert told(results(again, table)[check], "observed") == "0: the rows are the published ones"


def test_a_limit_that_blocks_stops_its_table_and_what_is_below_and_keeps_what_is_published(project):
    spoil(project.images / "train")
    tables = ("image_manifest", "embeddings", "img_stats", "knn_graph", "similarity")

    def run(*blocking: str) -> tuple[dg.ExecuteInProcessResult, set[str], set[str]]:
        """The run, the checks that failed and block, and the tables that it published; the others stay as they were."""
        severity = {"invalid": "warn"} | dict.fromkeys(blocking, "block")
        labelled(project, TIGHT | {"severity": severity})
        paths = {table: project.store.path(table, "pets/train") for table in tables}
        before = {table: path.read_bytes() for table, path in paths.items()}
        done = project.run("pets/train", *tables)
        failed = [e for e in done.get_asset_check_evaluations() if not e.passed]
        blocked = {e.check_name for e in failed if e.severity is dg.AssetCheckSeverity.ERROR}
        changed = {table for table, path in paths.items() if path.read_bytes() != before[table]}
        assert changed <= made(done)
        return done, blocked, made(done)

    stopped, blocked, published = run("label_imbalance")
    assert (stopped.success, blocked, published) == (False, {"label_balance"}, set())
    assert "dog" in (project.store.pages("pets/train") / "gate_image_manifest.html").read_text()

    stopped, blocked, published = run("embedding_drift", *OF_STATISTICS)
    assert (stopped.success, blocked, published) == (False, {"embedding_drift", *OF_STATISTICS}, {"image_manifest"})
    page = (project.store.pages("pets/train") / "gate_features.html").read_text()
    assert "statistics_drift" in page
    assert "z-blurry.jpg" in page

    stopped, blocked, published = run("near_duplicates")
    assert (stopped.success, blocked, published) == (False, {"near_duplicates"}, set(tables) - {"similarity"})


def test_without_limits_and_statistics_checks_pass_and_say_what_there_is(project):
    unset = {name: None for name in TIGHT if name not in ("max_invalid_share", "max_leak_share")}
    project.register({"num_threads": 2, "run_stats": False, "limits": unset})
    project.store.remove("img_stats", "pets/train")
    run = project.run("pets/train", "image_manifest", "img_stats")
    assert run.success
    found = results(run, "img_stats") | results(run, "image_manifest")
    assert all(evaluation.passed for evaluation in found.values())
    observed = {name: told(evaluation, "observed") for name, evaluation in found.items()}
    assert observed["label_balance"] == "no labels"
    assert observed["blurry"] == observed["dark"] == observed["bright"] == "not computed"
    assert observed["exact_duplicates"] == "1 of 10 rows (10.0%)"
    assert observed["statistics_drift"] == "first materialisation"
    assert told(found["blurry"], "limit") == "no limit (limits.max_blurry_share is not set)"
