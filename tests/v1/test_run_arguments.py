"""Every argument of run(): what it does, and that a bad value raises with the value in the message."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup, analysis
from fastdup_dagster.models import EmbeddingModel

QUIET = {"print_summary": False, "num_threads": 2}
BOX = "row_y=5,col_x=10,height=40,width=60"


def names(fd: Fastdup) -> list[str]:
    return [Path(name).name for name in fd.annotations(valid_only=False)["filename"]]


# argument, value, what must be true of the run with it (and nothing else)
WORKS: tuple[tuple[str, Any, Callable[[Fastdup], Any]], ...] = (
    ("data_type", "image", lambda fd: fd.config["data_type_found"] == "image"),
    ("data_type", "infer", lambda fd: fd.num_instances() == 14),
    ("overwrite", False, lambda fd: fd.num_instances() == 14),
    ("subset", ["copy-a.jpg", "photo-0003.jpg"], lambda fd: fd.annotations()["index"].tolist() == [1, 6]),
    ("distance", "euclidean", lambda fd: fd.similarity()["distance"].between(0, 1).all()),
    ("nearest_neighbors_k", 5, lambda fd: fd.tables.knn_graph.height == 14 * 5),
    ("nearest_neighbors_k", 999, lambda fd: fd.tables.knn_graph.height == 14 * 13),
    ("threshold", 0.99999, lambda fd: set(fd.similarity()["from"]) == {1, 2, 6}),
    ("threshold", -2, lambda fd: len(fd.similarity()) == 28),
    ("cc_threshold", 0.99999, lambda fd: fd.connected_components()[0]["index"].tolist() == [1, 2, 6]),
    ("outlier_percentile", 1, lambda fd: len(fd.outliers()) == 14),
    ("outlier_percentile", 0, lambda fd: len(fd.outliers()) == 1),
    ("num_threads", 1, lambda fd: fd.num_instances() == 14),
    ("num_images", 4, lambda fd: fd.annotations(valid_only=False)["index"].tolist() == [0, 1, 2, 3]),
    ("min_offset", 12, lambda fd: fd.annotations()["index"].tolist() == [12, 13, 14]),
    ("max_offset", 2, lambda fd: fd.annotations(valid_only=False)["index"].tolist() == [0, 1]),
    ("find_regex", "copy-.", lambda fd: names(fd) == ["copy-a.jpg", "copy-b.jpg"]),
    ("min_file_size", 100, lambda fd: "broken.jpg" not in names(fd)),
    ("high_accuracy", True, lambda fd: fd.embeddings()[1].shape == (14, 960)),
    ("d", 960, lambda fd: fd.embeddings()[1].shape == (14, 960)),
    ("run_stats", False, lambda fd: fd.img_stats()["mean"].isna().all() and fd.img_stats()["img_w"].eq(128).all()),
    ("run_advanced_stats", True, lambda fd: fd.img_stats()["edge_density"].between(0, 1).all()),
    ("run_cc", False, lambda fd: fd.connected_components()[0].empty and fd.connected_components_grouped().empty),
    ("nnf_mode", "Flat", lambda fd: fd.config["index"] == "Flat"),
    ("nnf_mode", "IVF2,Flat", lambda fd: fd.config["index"] == "IVF2,Flat" and len(fd.tables.knn_graph) == 28),
    ("nnf_param", "efSearch=256,nprobe=32", lambda fd: len(fd.tables.knn_graph) == 28),
    ("bounding_box", BOX, lambda fd: fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[60, 40]] * 14),
    ("license", "a key", lambda fd: fd.num_instances() == 14),
    ("resume", True, lambda fd: fd.num_instances() == 14),
    ("resume", False, lambda fd: fd.num_instances() == 14),
    ("recompute", True, lambda fd: fd.num_instances() == 14),
    ("nn_provider", "nnf", lambda fd: fd.config["nn_provider"] == "nnf"),
    ("turi_param", "", lambda fd: fd.num_instances() == 14),
    ("nearest_neighbors_k", np.int64(3), lambda fd: fd.config["nearest_neighbors_k"] == 3),
    ("threshold", np.float32(0.5), lambda fd: fd.config["threshold"] == 0.5),
    ("verbose", True, lambda fd: fd.config["verbose"] is True),
    ("print_summary", 0, lambda fd: fd.config["print_summary"] is False),
    ("augmentation_horiz", 0.2, lambda fd: fd.config["augmentation_horiz"] == 0.2),
    ("augmentation_vert", 0.2, lambda fd: fd.config["augmentation_vert"] == 0.2),
    ("augmentation_additive_margin", 3, lambda fd: fd.config["augmentation_additive_margin"] == 3),
    ("model_path", None, lambda fd: fd.config["model"]["width"] == 576),
    ("input_dir", None, lambda fd: fd.num_instances() == 14),
    ("annotations", pd.DataFrame({"filename": ["copy-a.jpg"], "label": ["x"]}), lambda fd: fd[1]["label"] == "x"),
    ("embeddings", None, lambda fd: fd.config["embeddings"] is None),
    ("tar_only", False, lambda fd: fd.num_instances() == 14),
    ("sync_s3_to_local", False, lambda fd: fd.num_instances() == 14),
    ("sync_s3_to_local", True, lambda fd: fd.num_instances() == 14),
    ("delete_img", False, lambda fd: fd.num_instances() == 14),
    ("delete_img", True, lambda fd: fd.num_instances() == 14),
    ("delete_tar", False, lambda fd: fd.num_instances() == 14),
    ("delete_img", True, lambda fd: "delete_img: nothing was downloaded" in " ".join(fd.config["notes"])),
    ("delete_tar", True, lambda fd: "delete_tar: nothing was downloaded" in " ".join(fd.config["notes"])),
)


@pytest.mark.parametrize(("name", "value", "holds"), WORKS, ids=[f"{n}={v}" for n, v, _ in WORKS])
def test_an_argument_does_what_it_says(name: str, value: Any, holds: Callable[[Fastdup], Any], fd: Fastdup) -> None:
    assert fd.run(**{**QUIET, name: value}) == 0
    assert holds(fd)
    assert fastdup.create(fd.work_dir).config == fd.config


REFUSED: tuple[tuple[str, Any, type[Exception], str], ...] = (
    ("data_type", "video", ValueError, "video"),
    ("data_type", "bbox", ValueError, "bbox"),
    ("overwrite", "perhaps", ValueError, "perhaps"),
    ("subset", ["nowhere.jpg"], ValueError, "nowhere.jpg"),
    ("subset", [], ValueError, r"\[\]"),
    ("subset", "copy-a.jpg", ValueError, "copy-a.jpg"),
    ("distance", "manhattan", ValueError, "manhattan"),
    ("distance", "l1", ValueError, "l1.*Flat"),
    ("nearest_neighbors_k", 0, ValueError, "0"),
    ("nearest_neighbors_k", 2.5, ValueError, "2.5"),
    ("threshold", float("nan"), ValueError, "nan"),
    ("threshold", "high", ValueError, "high"),
    ("cc_threshold", float("inf"), ValueError, "inf"),
    ("outlier_percentile", 1.5, ValueError, "1.5"),
    ("outlier_percentile", -0.1, ValueError, "-0.1"),
    ("num_threads", 0, ValueError, "0"),
    ("num_images", 0, ValueError, "0"),
    ("min_offset", -1, ValueError, "-1"),
    ("min_offset", 99, ValueError, "99"),
    ("max_offset", -1, ValueError, "-1"),
    ("find_regex", "(", ValueError, r"'\('"),
    ("find_regex", "no such file", ValueError, "no such file"),
    ("min_file_size", -5, ValueError, "-5"),
    ("high_accuracy", "very", ValueError, "very"),
    ("d", 512, ValueError, "512"),
    ("run_stats", "some", ValueError, "some"),
    ("run_advanced_stats", 7, ValueError, "7"),
    ("run_cc", "x", ValueError, "x"),
    ("nnf_mode", "HNFW32", ValueError, "HNFW32"),
    ("nnf_mode", "IVF4096,Flat", ValueError, "IVF4096,Flat"),
    ("nnf_param", "efSearch", ValueError, "efSearch"),
    ("nnf_param", "probes=3", ValueError, "probes"),
    ("bounding_box", "row_y=1", ValueError, "row_y=1"),
    ("bounding_box", "row_y=-1,col_x=1,height=20,width=20", ValueError, "row_y=-1"),
    ("bounding_box", "face", FileNotFoundError, "bounding_box='face'.*models pull yunet"),
    ("bounding_box", "yolov5s", FileNotFoundError, "bounding_box='yolov5s'.*models pull yolov5s --trust-first-use"),
    ("bounding_box", "gone.onnx", FileNotFoundError, "gone.onnx"),
    ("bounding_box", "faces", ValueError, "'faces' is not name=number"),
    ("augmentation_horiz", 1.1, ValueError, "1.1"),
    ("augmentation_vert", -0.1, ValueError, "-0.1"),
    ("augmentation_additive_margin", -1, ValueError, "-1"),
    ("model_path", "gone.onnx", FileNotFoundError, "gone.onnx"),
    ("model_path", "dinov2s", FileNotFoundError, "model_path='dinov2s'.*models pull dinov2s --trust-first-use"),
    ("model_path", "resent50", FileNotFoundError, "model_path='resent50'.*models pull resnet50"),
    ("resume", "later", ValueError, "later"),
    ("recompute", "x", ValueError, "x"),
    ("nn_provider", "turi", ValueError, "turi"),
    ("turi_param", "nnmodel=2", ValueError, "nnmodel=2"),
    ("nearest_neighbors_k", True, ValueError, "True"),
    ("nearest_neighbors_k", "3", ValueError, "'3'"),
    ("threshold", 5, ValueError, "threshold=5"),
    ("threshold", "0.5", ValueError, "'0.5'"),
    ("cc_threshold", True, ValueError, "True"),
    ("cc_threshold", 1.5, ValueError, "cc_threshold=1.5"),
    ("num_images", "4", ValueError, "'4'"),
    ("run_stats", "no", ValueError, "'no'"),
    ("print_summary", "no", ValueError, "'no'"),
    ("verbose", "x", ValueError, "verbose='x'"),
    ("license", 5, ValueError, "license=5"),
    ("subset", 5, ValueError, "subset=5"),
    ("subset", [5], ValueError, r"subset=\[5\]"),
    ("input_dir", 5, ValueError, "input_dir=5"),
    ("input_dir", "", ValueError, "input_dir=''"),
    ("input_dir", ["a.jpg", 5], ValueError, "5"),
    ("embeddings", "abc", ValueError, "embeddings='abc'"),
    ("tar_only", True, ValueError, "no images found"),
    ("tar_only", "x", ValueError, "tar_only='x'"),
    ("sync_s3_to_local", "x", ValueError, "sync_s3_to_local='x'"),
    ("delete_img", "x", ValueError, "delete_img='x'"),
    ("delete_tar", "x", ValueError, "delete_tar='x'"),
    ("input_dir", "gs://bucket/images", NotImplementedError, "gs://"),
    ("input_dir", "s3://user:word@bucket/images", ValueError, "refused"),
    ("input_dir", "minio://server/bucket", ValueError, "FASTDUP_MINIO_SERVER"),
    ("input_dir", "nowhere", FileNotFoundError, "nowhere"),
    ("annotations", {"images": []}, ValueError, "a COCO dictionary: images is empty"),
    ("annotations", "gone.json", FileNotFoundError, "gone.json"),
    ("annotations", "gone.yaml", FileNotFoundError, "gone.yaml"),
    ("annotations", "page.xml", ValueError, "page.xml.*folder"),
    ("input_dir", "gone.yaml", FileNotFoundError, "gone.yaml"),
    ("annotations", "gone.csv", FileNotFoundError, "gone.csv"),
    ("annotations", 7, TypeError, "annotations=7 of type int"),
    ("annotations", pd.DataFrame({"name": ["a.jpg"]}), ValueError, "name"),
    ("annotations", pd.DataFrame({"filename": []}), ValueError, "no rows"),
    ("embeddings", np.zeros((2, 3, 4)), ValueError, r"\(2, 3, 4\)"),
    ("embeddings", np.ones((2, 3)), ValueError, r"\(2, 3\)"),
    ("lower_treshold", 1, TypeError, "lower_treshold"),
    ("tresholds", 1, TypeError, "'tresholds'; did you mean 'threshold'"),
)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"), REFUSED, ids=[f"{n}-{number}" for number, (n, *_) in enumerate(REFUSED)]
)
def test_a_bad_value_raises_and_is_named(
    name: str, value: Any, error: type[Exception], message: str, fd: Fastdup
) -> None:
    with pytest.raises(error, match=message):
        fd.run(**{**QUIET, name: value})
    with pytest.raises(RuntimeError, match=r"call run\(\) first"):
        fd.similarity()


def test_both_kinds_of_margin_are_refused_together(fd: Fastdup) -> None:
    with pytest.raises(ValueError, match=r"augmentation_additive_margin=3.*0\.2"):
        fd.run(augmentation_additive_margin=3, augmentation_horiz=0.2, **QUIET)


@pytest.mark.parametrize("distance", ["l1", "linf", "canberra", "braycurtis", "jensenshannon"])
def test_every_metric_works_with_exact_search(distance: str, fd: Fastdup) -> None:
    fd.run(distance=distance, nnf_mode="Flat", threshold=0.99, **QUIET)
    assert set(fd.similarity()["from"]) == {1, 2, 6}
    fd.init_search(3)
    assert fd.search(fd[1]["filename"])["distance"].tolist() == [1, 1, 1]


def test_inputs_are_folders_lists_and_list_files(fd: Fastdup, images: Path, tmp_path: Path) -> None:
    some = [str(images / name) for name in ("copy-a.jpg", "photo-0003.jpg")]
    (tmp_path / "list.txt").write_text("\n".join(some))
    (tmp_path / "list.csv").write_text("\n".join(["filename", *some]))
    for given in (some, [Path(path) for path in some], tmp_path / "list.txt", str(tmp_path / "list.csv")):
        fd.run(given, **QUIET)
        assert fd.annotations()["filename"].tolist() == some
    fd.run([str(images), some[0]], **QUIET)
    assert fd.num_instances() == 14


def test_a_relative_input_gives_relative_names(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images.parent)
    fd = fastdup.create(tmp_path / "work", "images")
    fd.run(**QUIET)
    assert fd.annotations()["filename"][0] == "images/copy-a.jpg"
    monkeypatch.chdir(tmp_path)
    assert Path(fastdup.create(tmp_path / "work").annotations()["filename"][0]).is_file()


def test_shards_keep_the_ids_of_the_full_list(fd: Fastdup, images: Path, tmp_path: Path) -> None:
    fd.run(**QUIET)
    whole = fd.annotations(valid_only=False)
    parts = []
    for number, (low, high) in enumerate(((None, 5), (5, 10), (10, None))):
        shard = fastdup.create(tmp_path / f"shard-{number}", images)
        shard.run(min_offset=low, max_offset=high, **QUIET)
        parts.append(shard.annotations(valid_only=False))
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


def test_a_finished_work_dir_is_opened_as_it_is_and_not_overwritten_unasked(fd: Fastdup, images: Path) -> None:
    fd.run(threshold=0.3, **QUIET)
    again = fastdup.create(fd.work_dir)
    assert again.similarity().equals(fd.similarity())
    with pytest.raises(FileExistsError, match=r"overwrite=False.*give overwrite=True"):
        again.run(overwrite=False, **QUIET)
    with pytest.raises(FileExistsError, match="overwrite=False"):
        fastdup.FastdupController(fd.work_dir, images).run()
    again.run(threshold=-1, **QUIET)
    assert len(again.similarity()) == 28 and again.input_dir == str(images)


def test_a_run_that_fails_leaves_the_results_before_it(fd: Fastdup) -> None:
    fd.run(threshold=0.3, **QUIET)
    before = fd.similarity()
    with pytest.raises(ValueError, match="IVF4096"):
        fd.run(threshold=0.3, nnf_mode="IVF4096,Flat", high_accuracy=True, **QUIET)
    assert fastdup.create(fd.work_dir).similarity().equals(before)
    assert fd.embeddings()[1].shape[1] == 576


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"model_path": "nowhere.onnx"}, FileNotFoundError, "nowhere.onnx"),
        ({"d": 960, "nnf_mode": "nonsense"}, ValueError, "nonsense"),
        ({"distance": "canberra", "nnf_mode": "IVF4,PQ7"}, ValueError, "IVF4,PQ7"),
    ],
)
def test_a_model_or_index_that_does_not_fit_is_refused_before_the_input_is_listed(
    fd: Fastdup, arguments: dict[str, Any], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "listed", lambda *_: pytest.fail("listed, which may take hours"))
    with pytest.raises(error, match=said):
        fd.run(**arguments, **QUIET)


def test_a_missing_input_is_said_whatever_opens_beside_the_listing(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fastdup.create(tmp_path / "work", tmp_path / "nowhere").run(**QUIET)
    assert not set(threading.enumerate()) - before


def test_other_annotations_and_settings_extract_nothing_unless_asked(
    fd: Fastdup, annotated: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    def through_the_model(**arguments: Any) -> int:
        capsys.readouterr()
        fd.run(verbose=True, **QUIET, **arguments)
        line = next(line for line in capsys.readouterr().out.splitlines() if "through the model" in line)
        return int(line.split(", ")[1].split()[0])

    assert through_the_model() == 12  # of 14 images: two are copies of others
    assert through_the_model(annotations=annotated, threshold=0.1, nearest_neighbors_k=3) == 0
    assert through_the_model(annotations=annotated.head(3)) == 0
    assert through_the_model(recompute=True) == 12


def test_files_of_others_are_left_alone(images: Path, tmp_path: Path) -> None:
    theirs = {"config.json": '{"mine": 1}', "embeddings/notes.txt": "x", "atrain_features.dat": "y", "a.parquet": "z"}
    for name, text in theirs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    fd = fastdup.create(tmp_path, images)
    fd.run(**QUIET)
    fd.run(threshold=0.1, **QUIET)
    assert fastdup.create(tmp_path).config["threshold"] == 0.1
    with pytest.raises(FileExistsError, match=r"atrain_features\.dat"):
        fd.export_v1()
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs


def test_a_work_dir_inside_the_images_is_no_input(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in images.glob("photo-*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    fd = fastdup.create(folder / "work", folder)
    boxes = pd.DataFrame(
        {"filename": [f"photo-000{n}.jpg" for n in range(3)], "col_x": 0, "row_y": 0, "width": 40, "height": 40}
    )
    fd.run(annotations=boxes, cc_threshold=-1, **QUIET)
    fd.connected_components_grouped(load_crops=True)
    fd.run(**QUIET)
    assert fd.num_instances() == 12


def test_module_level_run_and_the_printed_summary(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fastdup.run(images, tmp_path / "work", threshold=0.5) == 0
    assert "Dataset contains 15 images" in capsys.readouterr().out
    assert fastdup.create(tmp_path / "work").num_instances() == 14
    with pytest.raises(ValueError, match="input_dir"):
        fastdup.run("", tmp_path / "other")


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_model_of_ones_own_is_taken_as_it_is(
    channels_last: bool, fd: Fastdup, tmp_path: Path, small_model: Callable[..., str]
) -> None:
    path = small_model(tmp_path / "small.onnx", 6, channels_last)
    fd.run(model_path=path, model_preprocessing="unit", run_advanced_stats=True, **QUIET)
    vectors = fd.embeddings()[1]
    assert vectors.shape == (14, 6) and fd.embeddings(d=6)[1].shape == (14, 6)
    means = fd.img_stats()[["mean_r", "mean_g", "mean_b"]].to_numpy() / 255
    np.testing.assert_allclose(vectors[:, :3], means, atol=0.01)
    assert fd.config["model"]["name"] == "small"
    vector, file = fd.feature_vector(fd[3]["filename"])
    assert vector.shape == (1, 6) and file == fd[3]["filename"]
    with pytest.raises(ValueError, match="d=7"):
        fd.run(model_path=path, d=7, **QUIET)
    with pytest.raises(ValueError, match="model_preprocessing='rgb'"):
        fd.run(model_path=path, model_preprocessing="rgb", **QUIET)


def test_precomputed_embeddings_need_no_images(tmp_path: Path) -> None:
    """Every cosine to the fifth vector is exactly one half: pins both threshold rules."""
    vectors = np.vstack([np.eye(4), np.ones((1, 4))]).astype(np.float32)
    frame = pd.DataFrame({"filename": [f"{n}.jpg" for n in range(5)], "label": list("aabbc")})
    fd = fastdup.create(tmp_path / "work")
    for threshold, rows in ((0.5, 0), (0.4, 8)):
        fd.run(embeddings=vectors, annotations=frame, threshold=threshold, nearest_neighbors_k=4, **QUIET)
        assert len(fd.similarity()) == rows
    for cc_threshold, members in ((0.5, 5), (0.5001, 0)):
        fd.run(embeddings=vectors, annotations=frame, cc_threshold=cc_threshold, nearest_neighbors_k=4, **QUIET)
        assert len(fd.connected_components()[0]) == members
    assert fd.img_stats(data=False).drop(columns="index").isna().all(axis=None)
    assert fd.annotations()["label"].tolist() == list("aabbc")
    assert np.array_equal(fd.embeddings()[1], vectors)
    assert fd.config["model"] is None


def test_embeddings_that_cannot_be_are_invalid_and_what_does_not_fit_raises(tmp_path: Path) -> None:
    vectors = np.ones((4, 3))
    vectors[1] = 0
    vectors[2, 0] = np.nan
    frame = pd.DataFrame({"filename": list("abcd")})
    fd = fastdup.create(tmp_path / "work")
    fd.run(embeddings=vectors, annotations=pl.from_pandas(frame), **QUIET)
    assert fd.invalid_instances()["index"].tolist() == [1, 2]
    assert set(fd.invalid_instances()["error_code"]) == {"INVALID_EMBEDDING"}
    np.testing.assert_allclose(fd.similarity(data=False).to_numpy(), [[0, 3, 1], [3, 0, 1]], atol=1e-6)
    assert fd.tables.similarity["kind"].to_list() == ["near_duplicate"] * 2
    fd.run(embeddings=vectors, annotations=frame, subset=["a", "d"], **QUIET)
    assert fd.annotations()["index"].tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"\(4, 3\).*2 rows"):
        fd.run(embeddings=vectors, annotations=frame.head(2), **QUIET)
    with pytest.raises(ValueError, match="d=5"):
        fd.run(embeddings=vectors, annotations=frame, d=5, **QUIET)
    with pytest.raises(ValueError, match="given embeddings"):
        fd.init_search(1)
        fd.search("a.jpg", image=np.zeros((20, 20, 3), np.uint8))


def test_every_argument_of_run_is_in_both_tables() -> None:
    arguments = {*inspect.signature(Fastdup.run).parameters, "print_summary", "nn_provider", "turi_param", "d"}
    arguments |= {"min_offset", "max_offset", "min_file_size", "nnf_param", "resume", "recompute", "run_cc"}
    arguments |= {"delete_tar", "delete_img", "tar_only"}
    for table in (WORKS, REFUSED):
        assert arguments - {"self", "kwargs"} - {row[0] for row in table} == set()


def test_the_value_of_a_refused_text_is_said_once(fd: Fastdup) -> None:
    for name, value in (("bounding_box", "xyz"), ("nnf_param", "xyz"), ("find_regex", "(xyz")):
        with pytest.raises(ValueError, match="xyz") as refused:
            fd.run(**{name: value}, **QUIET)
        assert str(refused.value).count(f"{name}=") == 1


def test_annotations_of_other_kinds_of_text_files(fd: Fastdup, annotated: pd.DataFrame, tmp_path: Path) -> None:
    tabs, indexed = tmp_path / "a.tsv", tmp_path / "b.csv"
    annotated.to_csv(tabs, sep="\t", index=False)
    annotated.to_csv(indexed)
    for path in (tabs, indexed, pd.read_csv(indexed)):
        fd.run(annotations=path, **QUIET)
        columns = fd.annotations().columns.tolist()
        assert columns[-7:] == ["label", "split", "weight", "index", "filename", "error_code", "is_valid"]
        assert len(columns) == (8 if isinstance(path, pd.DataFrame) else 7)


def test_the_configuration_is_a_copy(fd: Fastdup) -> None:
    fd.run(subset=["copy-a.jpg", "photo-0001.jpg"], **QUIET)
    before = json.dumps(fd.config)
    fd.config["versions"].clear()
    fd.config["subset"].append("x")
    fd.config["limits"]["max_leak_share"] = 7
    assert json.dumps(fd.config) == before and fd.config["subset"] == ["copy-a.jpg", "photo-0001.jpg"]


def test_the_work_dir_may_not_be_a_file(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("x")
    with pytest.raises(ValueError, match=r"work_dir='.*file\.csv' is a file"):
        fastdup.create(tmp_path / "file.csv", images)


def test_an_index_that_cannot_be_loaded_is_said_by_the_first_images(
    photos: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "many", 200)
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = 0
    embed = EmbeddingModel.embed

    def counted(model: EmbeddingModel, images: np.ndarray) -> np.ndarray:
        nonlocal rows
        rows += len(images)
        return embed(model, images)

    monkeypatch.setattr(EmbeddingModel, "embed", counted)
    fd = fastdup.create(work_dir=tmp_path / "work", input_dir=tmp_path / "many")
    with pytest.raises(ModuleNotFoundError, match="faiss"):
        fd.run(num_threads=1, print_summary=False)
    assert rows < 150
