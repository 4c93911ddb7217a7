"""`fd.caption`: which images it is about, what stands beside the captions, which model `automatic` is."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup, v1_captions
from fastdup_dagster.models.captioning import opened
from fastdup_dagster.models.captioning.tags import TagsCaptioner
from fastdup_dagster.models.store import ModelStore
from fastdup_dagster.storage import TableStore

TINY = Path(__file__).parents[1] / "models" / "captioning" / "fixtures"
QUIET = {"print_summary": False, "num_threads": 2, "nnf_mode": "Flat"}
MADE = ["caption", "model", "error"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache."""
    monkeypatch.setenv("FASTDUP_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_annotations_come_first_and_every_valid_image_has_a_caption(finished: Fastdup) -> None:
    frame = finished.caption("tags")
    known = finished.annotations()
    assert list(frame.columns) == [*known.columns, *MADE]
    pd.testing.assert_frame_equal(frame[known.columns], known)
    assert frame["caption"].str.match(r"Most likely .+ \(\d+ %\), then .+ \(\d+ %\)\.$").all()
    assert frame["error"].isna().all()
    assert frame["model"].nunique() == 1


def test_automatic_is_tags_until_vit_gpt2_is_in_the_cache(finished: Fastdup, cache: Path) -> None:
    pytest.importorskip("tokenizers", reason="the extra captions is not installed")
    assert finished.caption(subset=[1])["model"].str.startswith("tags@").all()
    ModelStore().add("vit-gpt2", TINY / "vit-gpt2", "Apache-2.0")
    frame = finished.caption(subset=[1], kwargs={"max_length": 6, "min_length": 5})
    assert frame["model"].str.startswith("vit-gpt2@").all()
    assert frame["model"].str.endswith("+max_length=6+min_length=5").all()
    assert frame["caption"].str.len().gt(0).all()


@pytest.mark.parametrize(
    ("name", "model"), [("vitgpt2", "vit-gpt2"), ("vqa", "vilt"), ("age", "age"), ("blip2", "blip2")]
)
def test_a_missing_model_says_how_to_get_it(name: str, model: str, finished: Fastdup) -> None:
    with pytest.raises(FileNotFoundError, match=f"fastdup-dagster models (pull|add) {model} "):
        finished.caption(name)


def test_a_question_is_answered(finished: Fastdup, cache: Path) -> None:
    pytest.importorskip("tokenizers", reason="the extra captions is not installed")
    ModelStore().add("vilt", TINY / "vilt", "Apache-2.0")
    frame = finished.caption("vqa", vqa_prompt="what colour is the bus", batch_size=3)
    assert len(frame) == 12
    assert set(frame["caption"]) <= {"yes", "no", "one", "two", "red", "green", "a dog", "on the street"}
    assert frame["model"].str.contains('prompt="what colour is the bus"').all()


def test_an_image_that_is_gone_and_one_that_was_never_any_keep_a_row_with_the_reason(
    tmp_path: Path, photos: object
) -> None:
    photos(tmp_path / "in", 3)  # type: ignore[operator]
    (tmp_path / "in" / "a.jpg").write_text("not an image")
    fd = fastdup.create(tmp_path / "work", tmp_path / "in")
    fd.run(**QUIET)
    (tmp_path / "in" / "photo-0001.jpg").unlink()
    frame = fd.caption("tags", batch_size=2)
    assert frame["index"].tolist() == [1, 2, 3]
    assert frame["caption"].isna().tolist() == [False, True, False]
    assert frame["error"][1].startswith("MISSING_FILE: ")
    named = fd.caption("tags", subset=["a.jpg", 3])
    assert named["index"].tolist() == [0, 3]
    assert named["error"][0].startswith("CORRUPT_IMAGE: ")


def test_what_was_captioned_is_kept_for_each_captioner(
    tmp_path: Path, photos: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "in", 4)  # type: ignore[operator]
    fd = fastdup.create(tmp_path / "work", tmp_path / "in")
    fd.run(**QUIET)
    asked: list[int] = []
    right = TagsCaptioner.captions
    monkeypatch.setattr(
        TagsCaptioner, "captions", lambda self, images: asked.append(len(images)) or right(self, images)
    )
    some = fd.caption("tags", subset=[1, 2])
    three = fd.caption("tags", kwargs={"top_k": 3})
    every = fd.caption("tags")
    assert asked == [2, 4, 2], "of another captioner, everything; of the same one, what is left"
    monkeypatch.setattr(opened, "load_captioner", None)  # where nothing is to do, no model is opened
    pd.testing.assert_frame_equal(fastdup.create(tmp_path / "work").caption("tags"), every)
    pd.testing.assert_frame_equal(fd.caption("tags", subset=[2, 1]), some)
    assert every["index"].tolist() == [0, 1, 2, 3]
    assert set(three["caption"]).isdisjoint(every["caption"])
    fd.run(overwrite=True, **QUIET)
    pd.testing.assert_frame_equal(fd.caption("tags"), every)


def test_tables_of_the_captioners_used_last_stay_and_one_in_use_and_files_of_others_do(
    tmp_path: Path, photos: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v1_captions, "KEPT_CAPTIONERS", 2)
    photos(tmp_path / "in", 1)  # type: ignore[operator]
    fd = fastdup.create(tmp_path / "work", tmp_path / "in")
    fd.run(**QUIET)
    folder = tmp_path / "work" / "captions" / "run" / "all"

    def caption(top_k: int) -> set[str]:
        fd.caption("tags", kwargs={"top_k": top_k})
        return {path.stem for path in folder.glob("*.parquet")}

    (first,) = caption(1)
    (second,) = caption(2) - {first}
    caption(1)  # is used again, so the other one is the oldest
    (third,) = caption(3) - {first, second}
    assert caption(1) == {first, third}
    (folder / "mine.parquet").write_bytes(b"x")
    with TableStore(tmp_path / "work").lock("captions", f"run/all/{third}"):
        assert caption(4) > {first, third, "mine"}
    assert third not in caption(1)


def test_a_column_of_the_users_that_is_called_caption_keeps_its_values(tmp_path: Path, photos: object) -> None:
    made = photos(tmp_path / "in", 2)  # type: ignore[operator]
    fd = fastdup.create(tmp_path / "work", tmp_path / "in")
    fd.run(annotations=pd.DataFrame({"filename": [path.name for path in made], "caption": ["mine", "yours"]}), **QUIET)
    frame = fd.caption("tags")
    assert frame["caption_annotation"].tolist() == ["mine", "yours"]
    assert frame["caption"].str.startswith("Most likely").all()


def test_boxes_are_captioned_as_what_is_in_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves = [cv2.resize(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8), (60, 60)) for _ in range(2)]
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "both.png"), np.concatenate(halves, axis=1))
    for number, half in enumerate(halves):
        cv2.imwrite(str(tmp_path / "in" / f"half-{number}.png"), half)
    boxes = {"filename": "both.png", "col_x": [0, 60], "row_y": 0, "width": 60, "height": 60}
    annotations = pd.concat([
        pd.DataFrame(boxes),
        pd.DataFrame({"filename": ["half-0.png", "half-1.png"], "col_x": 0, "row_y": 0, "width": 60, "height": 60}),
    ])  # fmt: skip
    fd = fastdup.create(tmp_path / "work", tmp_path / "in")
    fd.run(annotations=annotations, **QUIET)
    first, second, *same = fd.caption("tags")["caption"]
    assert [first, second] == same
    assert first != second


def test_captions_before_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="call run"):
        fastdup.create(tmp_path / "nothing").caption()


def test_a_plain_run_does_not_load_what_captions_need() -> None:
    import subprocess
    import sys

    code = (
        "import sys, fastdup_dagster; from fastdup_dagster.models import load_model\n"
        "import fastdup_dagster.definitions\n"
        "assert not {'tokenizers', 'huggingface_hub'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")
