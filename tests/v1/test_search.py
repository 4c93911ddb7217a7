"""Search by image, by pixels and by vector: against brute force, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup, image_search
from fastdup_dagster.cli import main
from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages import neighbours
from fastdup_dagster.stages.neighbours import NeighbourIndex
from fastdup_dagster.storage import TableStore


@pytest.fixture
def opened(finished: Fastdup) -> Fastdup:
    """A reopened finished run."""
    return fastdup.create(finished.work_dir)


def brute(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ (query.ravel() / np.linalg.norm(query))


def test_searches_equal_brute_force(opened: Fastdup) -> None:
    names, vectors = opened.embeddings()
    assert opened.init_search(5) == 0
    for row in (0, 4, 7):
        found = opened.vector_search("query", vectors[row])
        expected = brute(vectors, vectors[row])
        order = np.argsort(-expected, kind="stable")[:5]
        assert list(found.columns) == ["from", "to", "distance"] and set(found["from"]) == {"query"}
        np.testing.assert_allclose(found["distance"], expected[order], atol=1e-6)
        assert found["distance"].is_monotonic_decreasing
        by_name = opened.search(names[row])
        assert by_name["distance"].tolist() == found["distance"].tolist()
        assert by_name["to"].tolist() == found["to"].tolist()
        assert names[row] in by_name["to"].tolist()[:3]


def test_pixels_in_memory_are_found_like_their_file(opened: Fastdup) -> None:
    name = opened[4]["filename"]
    opened.init_search(1)
    with Image.open(name) as image:
        pixels = np.asarray(image)
        for found in (
            opened.search("mine", image),
            opened.search("mine", img=image),
            opened.search("mine", pixels),
            opened.search("mine", np.dstack([pixels, pixels[:, :, 0]])),
            opened.search("mine", image.convert("RGBA")),
        ):
            assert found["from"].tolist() == ["mine"] and found["to"].tolist() == [name]
            assert found["distance"][0] == pytest.approx(1, abs=1e-5)
        assert len(opened.search("grey", pixels[:, :, 0])) == 1


def test_threshold_and_ids(opened: Fastdup) -> None:
    vector = opened.embeddings()[1][0]
    opened.init_search(999, store_int=1, threshold=0.9, verbose=True, license="x")
    found = opened.vector_search(vec=vector[None])
    assert found["to"].tolist() == [1, 2, 6] and found["to"].dtype == np.int64
    opened.init_search(999)
    assert len(opened.vector_search(vec=vector)) == opened.num_instances()
    opened.init_search(3, threshold=1)
    empty = opened.vector_search(vec=vector)
    assert empty.empty and list(empty.columns) == ["from", "to", "distance"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 2.5}, "k=2.5"),
        ({"k": 1, "d": 960}, "d=960"),
        ({"k": 1, "store_int": 2}, "store_int=2"),
        ({"k": 1, "threshold": float("nan")}, "nan"),
        ({"k": 1, "turi_param": "ccthreshold=1"}, "ccthreshold=1"),
    ],
)
def test_what_init_search_refuses(arguments: dict[str, Any], message: str, opened: Fastdup) -> None:
    with pytest.raises(ValueError, match=message):
        opened.init_search(**arguments)


def test_what_a_search_refuses(opened: Fastdup, images: Path, tmp_path: Path) -> None:
    opened.init_search(2)
    Image.new("RGB", (5, 5)).save(tmp_path / "tiny.png")
    for search, message in (
        (lambda: opened.search(images / "broken.jpg"), "CORRUPT_IMAGE"),
        (lambda: opened.search(tmp_path / "gone.jpg"), r"gone\.jpg.*MISSING_FILE"),
        (lambda: opened.search(tmp_path / "tiny.png"), "IMAGE_TOO_SMALL"),
        (lambda: opened.search("x", np.zeros((20, 20, 3), np.float32)), "float32"),
        (lambda: opened.search("x", np.zeros((20, 20, 2), np.uint8)), r"\(20, 20, 2\)"),
        (lambda: opened.search("x", "not an image"), "str"),
        (lambda: opened.vector_search(vec=None), "vec=None"),
        (lambda: opened.vector_search(vec=np.ones(5)), r"\(5,\)"),
        (lambda: opened.vector_search(vec=np.ones((2, 576))), r"\(2, 576\)"),
        (lambda: opened.vector_search(vec=np.zeros(576)), "zero"),
        (lambda: opened.vector_search(vec=np.full(576, np.nan)), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            search()
    with pytest.raises(ValueError, match=r"s3://a/b\.jpg"):  # no name of a bucket
        opened.search("s3://a/b.jpg")


def test_every_object_has_its_own_index_and_the_functions_one_of_theirs(
    finished: Fastdup, images: Path, tmp_path: Path
) -> None:
    other = fastdup.create(tmp_path / "other", images)
    other.run(subset=["photo-0001.jpg", "photo-0002.jpg"], print_summary=False)
    first = fastdup.create(finished.work_dir)
    first.init_search(20)
    other.init_search(20)
    assert fastdup.init_search(4, finished.work_dir) == 0
    query = images / "photo-0003.jpg"
    assert (len(first.search(query)), len(other.search(query)), len(fastdup.search(query))) == (12, 2, 4)
    assert len(fastdup.vector_search("q", first.embeddings()[1][0])) == 4
    other.init_search(20, work_dir=finished.work_dir)
    assert len(other.search(query)) == 12 and other.num_instances() == 2
    with pytest.raises(RuntimeError, match=r"call run\(\) first"):
        fastdup.init_search(1, tmp_path / "nothing")


def test_a_run_forgets_the_index_of_the_results_before_it(fd: Fastdup) -> None:
    fd.run(print_summary=False)
    fd.init_search(1)
    fd.run(print_summary=False)
    with pytest.raises(RuntimeError, match="init_search"):
        fd.vector_search(vec=np.ones(576))


def test_feature_vectors_leave_the_results_as_they_are(opened: Fastdup, images: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in opened.work_dir.rglob("*")}
    names, vectors = opened.embeddings()
    vector, file = opened.feature_vector(names[2])
    assert file == names[2] and vector.shape == (1, 576) and np.array_equal(vector[0], vectors[2])
    found, files = opened.feature_vectors(images)
    assert len(files) == 14 and found.shape == (14, 576) and all(Path(name).is_file() for name in files)
    again, same = opened.feature_vectors(files[::-1])
    assert same == files[::-1] and np.array_equal(again, found[::-1])
    assert opened.feature_vector(names[2], d=960)[0].shape == (1, 960)
    assert {path: path.stat().st_mtime_ns for path in opened.work_dir.rglob("*")} == before
    for bad, message in ((images / "broken.jpg", "CORRUPT_IMAGE"), (images / "gone.jpg", "MISSING_FILE")):
        with pytest.raises(ValueError, match=message):
            opened.feature_vector(bad)
    with pytest.raises(ValueError, match="d=100"):
        opened.feature_vector(names[2], d=100)
    assert Fastdup("unused").feature_vector(names[2])[0].shape == (1, 576)


def test_vectors_of_another_model_than_that_of_the_run_are_not_given_out_as_its_own(
    opened: Fastdup, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = images / "photo-0003.jpg"
    monkeypatch.setattr(EmbeddingModel, "id", property(lambda _: "newer@0"))
    for ask in (opened.feature_vector, opened.feature_vectors):
        with pytest.raises(ValueError, match=r"made by efficientnet.*this model is newer@0: run again"):
            ask(query)
    assert opened.feature_vector(query, d=960)[0].shape == (1, 960)


def test_a_thousand_searches_do_not_build_the_index_again(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def counting(vectors: np.ndarray, settings: Settings) -> NeighbourIndex:
        built.append(len(vectors))
        return NeighbourIndex(vectors, settings)

    monkeypatch.setattr(image_search, "NeighbourIndex", counting)
    vectors = np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32)
    index = image_search.ImageSearch(
        np.arange(1000), ["name"] * 1000, vectors, Settings(num_threads=1), "precomputed", 5, True
    )
    for row in range(1000):
        assert index.search_vector("query", vectors[row])["to"][0] == row
    assert built == [1000]


def test_the_command_line_searches_a_work_dir(finished: Fastdup, images: Path, tmp_path: Path) -> None:
    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(main, ["search", *(str(a) for a in arguments)])

    done = invoke(images / "copy-a.jpg", "--work-dir", finished.work_dir, "--k", 3, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert [Path(row["filename"]).name for row in found] == ["copy-a.jpg", "copy-b.jpg", "photo-0003.jpg"]
    assert "1.0000" in invoke(images / "copy-a.jpg", "--work-dir", finished.work_dir).output
    for arguments, message in (
        ((images / "broken.jpg", "--work-dir", finished.work_dir), "CORRUPT_IMAGE"),
        ((images / "copy-a.jpg", "--work-dir", tmp_path / "none"), "call run() first"),
        ((images / "copy-a.jpg", "--work-dir", tmp_path, "--name", "x"), "--work-dir"),
    ):
        refused = invoke(*arguments)
        assert refused.exit_code == 2 and message in refused.output


def test_the_command_line_searches_a_data_set(project: Any) -> None:
    query = project.images / "train" / "copy.jpg"
    done = CliRunner().invoke(main, ["search", str(query), "--k", "4", "--threshold", "0.9"])
    assert done.exit_code == 0, done.output
    lines = [line.split("  ") for line in done.output.splitlines()]
    assert [(split, Path(name).name) for _, split, name in lines] == [
        ("test", "leak.jpg"),
        ("train", "copy.jpg"),
        ("train", "photo-0003.jpg"),
    ]
    one = CliRunner().invoke(main, ["search", str(query), "--name", "pets", "--split", "train", "--k", "1"])
    assert "copy.jpg" in one.output and one.output.count("\n") == 1
    for arguments, message in ((("--name", "dogs"), "'dogs'"), (("--split", "dev"), "'dev'")):
        refused = CliRunner().invoke(main, ["search", str(query), *arguments])
        assert refused.exit_code == 2 and message in refused.output


def test_search_results_are_what_the_search_gallery_takes(opened: Fastdup, tmp_path: Path) -> None:
    opened.init_search(3)
    found = opened.search(opened[4]["filename"])
    page = fastdup.create_duplicates_gallery(found, tmp_path, input_dir=opened.input_dir)
    assert isinstance(found, pd.DataFrame) and Path(page).is_file()


def test_two_hundred_searches_of_a_hundred_thousand_vectors_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as HNSW would serve in a graph: nothing is built, nothing is read again, every result is the true one."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(100_000, 32)).astype(np.float32)
    frame = pd.DataFrame({"filename": [f"{n}.jpg" for n in range(len(vectors))]})
    fd = fastdup.create(tmp_path / "work")
    # the graph of these is another matter
    fd.run(embeddings=vectors, annotations=frame, nnf_mode="IVF64,Flat", nnf_param="nprobe=1", nearest_neighbors_k=1,
        run_cc=False, print_summary=False)  # fmt: skip
    assert fd.init_search(5, store_int=1) == 0

    def read_again(*_: object) -> None:
        raise AssertionError("the tables were read again")

    monkeypatch.setattr(TableStore, "scan", read_again)
    monkeypatch.setattr(neighbours, "new_index", read_again)
    queries = rng.normal(size=(200, 32)).astype(np.float32)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    for start in range(0, 200, 100):
        block = queries[start : start + 100].astype(np.float64)
        expected = (block / np.linalg.norm(block, axis=1, keepdims=True)) @ unit.T
        for query, scores in zip(queries[start : start + 100], expected, strict=True):
            best = np.argpartition(-scores, 5)[:5]
            best = best[np.argsort(-scores[best])]
            found = fd.vector_search(vec=query)
            assert found["to"].tolist() == best.tolist()
            np.testing.assert_allclose(found["distance"], scores[best], atol=1e-6)


def test_a_feature_vector_is_of_one_image(opened: Fastdup, images: Path) -> None:
    with pytest.raises(ValueError, match=f"img_path='{images}'.*feature_vectors"):
        opened.feature_vector(images)
    for wrong in (5, None, ""):
        with pytest.raises(TypeError, match=f"img_path={wrong!r}"):
            opened.feature_vector(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"img_path={wrong!r}"):
            opened.feature_vectors(wrong)  # type: ignore[arg-type]


def test_a_model_that_is_the_runs_scales_pixels_as_the_run_did(
    fd: Fastdup, tmp_path: Path, small_model: Callable[..., str]
) -> None:
    path = small_model(tmp_path / "small.onnx", 6, False)
    fd.run(model_path=path, model_preprocessing="clip", print_summary=False)
    names, vectors = fd.embeddings()
    for model_path in (None, path, Path(path)):
        assert np.array_equal(fd.feature_vector(names[4], model_path=model_path)[0][0], vectors[4])
        assert np.array_equal(fd.feature_vectors(names[4:6], model_path=model_path)[0], vectors[4:6])
    fd.init_search(1, model_path=path)
    assert fd.search(names[4])["distance"][0] == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match=r"d=7.*width 6"):
        fd.feature_vector(names[4], d=7)


def test_a_width_that_the_run_does_not_have_is_refused(fd: Fastdup) -> None:
    fd.run(high_accuracy=True, print_summary=False)
    name = fd.annotations()["filename"][0]
    assert fd.feature_vector(name)[0].shape == fd.feature_vector(name, d=960)[0].shape == (1, 960)
    with pytest.raises(ValueError, match=r"d=576: .*width 960"):
        fd.feature_vector(name, d=576)


def test_the_box_of_a_run_is_cut_out_of_a_query_file_too(fd: Fastdup, images: Path, tmp_path: Path) -> None:
    fd.run(bounding_box="row_y=5,col_x=10,height=40,width=60", augmentation_additive_margin=4, print_summary=False)
    fd.init_search(1)
    for number in (3, 7):
        name = fd[number]["filename"]
        found = fd.search(name)
        assert found["to"].tolist() == [name] and found["distance"][0] == pytest.approx(1, abs=1e-6)
    with Image.open(fd[5]["filename"]) as image:
        found = fd.search("mine", img=image.crop((6, 1, 74, 49)))
    assert found["to"].tolist() == [fd[5]["filename"]] and found["distance"][0] == pytest.approx(1, abs=1e-6)
    Image.new("RGB", (30, 30)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"small\.png.*BAD_BOUNDING_BOX"):
        fd.search(tmp_path / "small.png")
