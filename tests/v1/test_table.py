"""The V1 page as a table: each method and argument has its default, does what it says, and refuses what it cannot be.

The arguments of `run()` have tables of their own in test_run_arguments, those of remote places in test_accessors.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup, FastdupController, FastdupVisualizer

QUIET = {"print_summary": False, "num_threads": 2}
VIEW = {"data": True, "split": None, "include_unannotated": False}
SEARCH = {"k": ..., "work_dir": None, "d": 576, "model_path": None, "verbose": False, "license": None, "store_int": 0,
    "turi_param": "", "threshold": None}  # fmt: skip
QUERY = {"filename": ..., "image": None, "verbose": 0}
VECTOR = {"filename": "query_vector", "vec": None, "verbose": False}
PAGE = {"save_path": None, "label_col": "label", "draw_bbox": True, "num_images": 20, "max_width": None,
    "lazy_load": False}  # fmt: skip
RUN = {"input_dir": None, "annotations": None, "embeddings": None, "subset": None, "data_type": "infer",
    "overwrite": True, "model_path": None, "distance": "cosine", "nearest_neighbors_k": 2, "threshold": 0.9,
    "outlier_percentile": 0.05, "num_threads": None, "num_images": None, "verbose": False, "license": None,
    "high_accuracy": False, "cc_threshold": 0.96, "sync_s3_to_local": False, "run_stats": True,
    "run_advanced_stats": False, "nnf_mode": "HNSW32", "find_regex": "", "bounding_box": None,
    "augmentation_additive_margin": 0, "augmentation_vert": 0, "augmentation_horiz": 0}  # fmt: skip
# what the seed's page says, in its order; `...` has no default
SEED: dict[tuple[Any, str], dict[str, Any]] = {
    (fastdup, "create"): {"work_dir": None, "input_dir": None},
    (fastdup, "init_search"): SEARCH,
    (fastdup, "search"): QUERY,
    (fastdup, "vector_search"): VECTOR,
    (Fastdup, "run"): RUN,
    (FastdupController, "run"): {"input_dir": None, "annotations": None, "subset": None, "embeddings": None,
        "data_type": "infer", "overwrite": False, "print_summary": True},
    (FastdupController, "num_instances"): {"valid_only": True},
    (FastdupController, "annotations"): {"valid_only": True},
    (FastdupController, "similarity"): VIEW,
    (FastdupController, "outliers"): VIEW,
    (FastdupController, "img_stats"): VIEW,
    (FastdupController, "connected_components"): VIEW,
    (FastdupController, "connected_components_grouped"): {"sort_by": "comp_size", "ascending": True, "metric": None,
        "load_crops": False},
    (FastdupController, "embeddings"): {"d": 576},
    (FastdupController, "feature_vector"): {"img_path": ..., "model_path": None, "d": 576},
    (FastdupController, "feature_vectors"): {"img_path": ..., "model_path": None, "d": 576},
    (FastdupController, "init_search"): SEARCH,
    (FastdupController, "search"): QUERY,
    (FastdupController, "vector_search"): VECTOR,
    (FastdupController, "invalid_instances"): {},
    (FastdupController, "summary"): {"verbose": True, "blur_threshold": 150.0, "brightness_threshold": 253.0,
        "darkness_threshold": 4.0},
    (FastdupController, "img_grouped_annot"): {"image_level_columns": None},
    (FastdupController, "set_fastdup_kwargs"): {"input_kwargs": ...},
    (FastdupController, "fastdup_convert_to_relpath"): {"work_dir": ..., "input_dir": ...},
    (FastdupController, "s3_folder_exists_and_not_empty"): {"s3_path": ...},
    (FastdupController, "caption"): {"model_name": "automatic", "device": "cpu", "batch_size": 8, "subset": None,
        "vqa_prompt": None, "kwargs": None},
    (FastdupVisualizer, "__init__"): {"controller": ..., "default_config": None},
    (FastdupVisualizer, "outliers_gallery"): {**PAGE, "how": "one", "slice": None, "sort_by": "distance",
        "ascending": True, "save_artifacts": False, "show": True},
    (FastdupVisualizer, "duplicates_gallery"): {**PAGE, "slice": None, "ascending": False, "threshold": None,
        "save_artifacts": False, "show": True},
    (FastdupVisualizer, "similarity_gallery"): {**PAGE, "slice": None, "ascending": False, "threshold": None,
        "show": True},
    (FastdupVisualizer, "stats_gallery"): {"save_path": None, "metric": "dark", "slice": None, "label_col": "label",
        "lazy_load": False, "show": True},
    (FastdupVisualizer, "component_gallery"): {**PAGE, "slice": None, "group_by": "visual", "min_items": None,
        "max_items": None, "threshold": None, "metric": None, "sort_by": "comp_size", "sort_by_reduction": None,
        "ascending": False, "save_artifacts": False, "show": True},
}  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), SEED, ids=[f"{o.__name__}.{n}" for o, n in SEED])
def test_arguments_come_in_the_order_and_with_the_defaults_of_the_page(owner: Any, name: str) -> None:
    found = {n: p for n, p in inspect.signature(getattr(owner, name)).parameters.items() if n != "self"}
    expected = SEED[owner, name]
    assert [n for n, p in found.items() if p.kind is p.POSITIONAL_OR_KEYWORD][: len(expected)] == list(expected)
    for argument, default in expected.items():
        assert found[argument].default == (inspect.Parameter.empty if default is ... else default), argument


GROUPED = "connected_components_grouped"
Check = Callable[[Fastdup, Path], Any]
Row = tuple[str, str, Check, Callable[[Fastdup, Path], Any], str]


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)


def views(name: str) -> list[Row]:
    """The three arguments of an accessor that gives a frame of several splits."""

    def frame(fd: Fastdup, **arguments: Any) -> pd.DataFrame:
        found = getattr(fd, name)(**arguments)
        return found[0] if isinstance(found, tuple) else found

    def of_split(fd: Fastdup, _: Path) -> bool:
        shown = frame(fd, split="train")
        columns = [column for column in shown.columns if re.fullmatch(r"split(_\w+)?", column)]
        return len(columns) >= 1 and all(set(shown[column]) <= {"train"} for column in columns)

    def unannotated(fd: Fastdup, _: Path) -> bool:
        with_them = frame(fd, include_unannotated=True, data=False)
        ids = set(with_them.iloc[:, 0]) | set(with_them.iloc[:, 1] if name in ("similarity", "outliers") else [])
        plain = frame(fd, data=False)
        before = set(plain.iloc[:, 0]) | set(plain.iloc[:, 1] if name in ("similarity", "outliers") else [])
        return not before & {13, 14} and (bool(ids & {13, 14}) or name == "outliers")

    return [
        (
            name,
            "data",
            lambda fd, _: set(frame(fd, data=False)) < set(frame(fd)),
            lambda fd, _: frame(fd, data="x"),
            "x",
        ),
        (name, "split", of_split, lambda fd, _: frame(fd, split=5), "5"),
        (name, "include_unannotated", unannotated, lambda fd, _: frame(fd, include_unannotated="zz"), "zz"),
    ]


def grouped(fd: Fastdup, **arguments: Any) -> pd.DataFrame:
    return fd.connected_components_grouped(**arguments)


def searched(fd: Fastdup, query: Any = None, **arguments: Any) -> pd.DataFrame:
    fd.init_search(**{"k": 4, **arguments})
    return fd.search(fd[1]["filename"] if query is None else query)


def page_of(fd: Fastdup, folder: Path, name: str, **arguments: Any) -> str:
    given = {"save_path": folder / f"{name}.html", "show": False, **arguments}
    return Path(getattr(fd.vis, f"{name}_gallery")(**given)).read_text()


def names_in(html: str) -> list[str]:
    return [Path(name).name for name in re.findall(r"(?:photo|copy)-[\w]+\.jpg", html)]


def captioned(fd: Fastdup, **arguments: Any) -> pd.DataFrame:
    return fd.caption(**{"model_name": "tags", "subset": [1, 2], **arguments})


TINY = Path(__file__).parents[1] / "models" / "captioning" / "fixtures"
AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "more than 70"]

TABLE: list[Row] = [
    ("num_instances", "valid_only", lambda fd, _: (fd.num_instances(), fd.num_instances(False)) == (12, 16),
        lambda fd, _: fd.num_instances(valid_only="zz"), "valid_only='zz'"),
    ("annotations", "valid_only", lambda fd, _: (len(fd.annotations()), len(fd.annotations(False))) == (12, 16),
        lambda fd, _: fd.annotations(valid_only="zz"), "valid_only='zz'"),
    *views("similarity"), *views("outliers"), *views("img_stats"), *views("connected_components"),
    (GROUPED, "sort_by", lambda fd, _: grouped(fd, sort_by="distance")["distance"].is_monotonic_increasing,
        lambda fd, _: grouped(fd, sort_by="size"), "sort_by='size'"),
    (GROUPED, "ascending", lambda fd, _: grouped(fd, ascending=False)["len"].is_monotonic_increasing,
        lambda fd, _: grouped(fd, ascending="zz"), "ascending='zz'"),
    (GROUPED, "metric", lambda fd, _: grouped(fd, metric="mean")["mean"].between(0, 255).all(),
        lambda fd, _: grouped(fd, metric="blurr"), "metric='blurr'"),
    (GROUPED, "load_crops", lambda fd, _: grouped(fd, load_crops=True)["files"].equals(grouped(fd)["files"]),
        lambda fd, _: grouped(fd, load_crops="yes"), "load_crops='yes'"),
    ("embeddings", "d", lambda fd, _: fd.embeddings(d=576)[1].shape == (12, 576),
        lambda fd, _: fd.embeddings(d=77), "d=77"),
    ("feature_vector", "img_path", lambda fd, _: fd.feature_vector(fd[1]["filename"])[0].shape == (1, 576),
        lambda fd, _: fd.feature_vector(5), "img_path=5"),
    ("feature_vector", "d", lambda fd, _: fd.feature_vector(fd[1]["filename"], d=960)[0].shape == (1, 960),
        lambda fd, _: fd.feature_vector(fd[1]["filename"], d=77), "d=77"),
    ("feature_vector", "model_path", lambda fd, _: fd.feature_vector(fd[1]["filename"], model_path=None)[0].any(),
        lambda fd, _: fd.feature_vector(fd[1]["filename"], model_path="nope.onnx"), "nope.onnx"),
    ("feature_vector", "model_path", lambda fd, _: fd.feature_vector(fd[1]["filename"], model_path=None)[0].any(),
        lambda fd, _: fd.feature_vector(fd[1]["filename"], model_path="dinov2s"), "models pull dinov2s"),
    ("feature_vectors", "img_path", lambda fd, _: len(fd.feature_vectors(fd.input_dir)[1]) == 14,
        lambda fd, _: fd.feature_vectors(5), "img_path=5"),
    ("feature_vectors", "d", lambda fd, _: fd.feature_vectors([fd[1]["filename"]], d=960)[0].shape == (1, 960),
        lambda fd, _: fd.feature_vectors(fd.input_dir, d="wide"), "d='wide'"),
    ("feature_vectors", "model_path", lambda fd, _: fd.feature_vectors([fd[1]["filename"]], None)[0].any(),
        lambda fd, _: fd.feature_vectors(fd.input_dir, model_path="nope.onnx"), "nope.onnx"),
    ("init_search", "k", lambda fd, _: len(searched(fd, k=2)) == 2, lambda fd, _: fd.init_search(0), "k=0"),
    ("init_search", "work_dir", lambda fd, _: len(searched(fd, work_dir=fd.work_dir)) == 4,
        lambda fd, _: fd.init_search(1, work_dir="nowhere"), "nowhere"),
    ("init_search", "d", lambda fd, _: len(searched(fd, d=576)) == 4, lambda fd, _: fd.init_search(1, d=77), "d=77"),
    ("init_search", "model_path", lambda fd, _: len(searched(fd, model_path=None)) == 4,
        lambda fd, _: fd.init_search(1, model_path="nope.onnx"), "nope.onnx"),
    ("init_search", "model_path", lambda fd, _: len(searched(fd, model_path=None)) == 4,
        lambda fd, _: fd.init_search(1, model_path="dinov2s"), "gives vectors of width 384"),
    ("set_fastdup_kwargs", "input_kwargs", lambda fd, _: fd.set_fastdup_kwargs({"model_path": "clip"})["d"] is None,
        lambda fd, _: fd.set_fastdup_kwargs({"model_path": "clip", "d": 576}), "gives vectors of width 512"),
    ("set_fastdup_kwargs", "input_kwargs",
        lambda fd, _: fd.set_fastdup_kwargs({"bounding_box": "face"})["bounding_box"] == "face",
        lambda fd, _: fd.set_fastdup_kwargs({"bounding_box": "faces"}), "faces"),
    ("init_search", "verbose", lambda fd, _: fd.init_search(1, verbose=True) == 0,
        lambda fd, _: fd.init_search(1, verbose="loud"), "verbose='loud'"),
    ("init_search", "license", lambda fd, _: fd.init_search(1, license="key") == 0,
        lambda fd, _: fd.init_search(1, license=5), "license=5"),
    ("init_search", "store_int", lambda fd, _: searched(fd, store_int=1)["to"].tolist()[:3] == [1, 2, 6],
        lambda fd, _: fd.init_search(1, store_int=2), "store_int=2"),
    ("init_search", "turi_param", lambda fd, _: fd.init_search(1, turi_param="") == 0,
        lambda fd, _: fd.init_search(1, turi_param="nnmodel=2"), "nnmodel=2"),
    ("init_search", "threshold", lambda fd, _: len(searched(fd, k=12, threshold=0.99)) == 3,
        lambda fd, _: fd.init_search(1, threshold="x"), "threshold='x'"),
    ("init_search", "threshold", lambda fd, _: len(searched(fd, k=12, threshold=-1)) == 12,
        lambda fd, _: fd.init_search(1, threshold=True), "threshold=True"),
    ("search", "filename", lambda fd, _: searched(fd)["from"].eq(fd[1]["filename"]).all(),
        lambda fd, _: fd.search(None), "filename=None"),
    ("search", "image", lambda fd, _: fd.init_search(1) == 0 and fd.search("me", pixels())["from"].tolist() == ["me"],
        lambda fd, _: fd.search("me", image="no pixels"), "str"),
    ("search", "img", lambda fd, _: fd.init_search(1) == 0 and len(fd.search("me", img=Image.fromarray(pixels()))) == 1,
        lambda fd, _: fd.search("me", img=5), "int"),
    ("search", "verbose", lambda fd, _: fd.init_search(1) == 0 and len(fd.search(fd[1]["filename"], verbose=1)) == 1,
        lambda fd, _: fd.search(fd[1]["filename"], verbose="loud"), "verbose='loud'"),
    ("vector_search", "filename", lambda fd, _: fd.init_search(1) == 0
        and fd.vector_search("v", np.ones(576))["from"].tolist() == ["v"],
        lambda fd, _: fd.vector_search(5, np.ones(576)), "filename=5"),
    ("vector_search", "vec", lambda fd, _: fd.init_search(1) == 0 and len(fd.vector_search(vec=[1.0] * 576)) == 1,
        lambda fd, _: fd.vector_search(vec="abc"), "vec='abc'"),
    ("vector_search", "verbose", lambda fd, _: fd.init_search(1) == 0
        and len(fd.vector_search(vec=np.ones(576), verbose=True)) == 1,
        lambda fd, _: fd.vector_search(vec=np.ones(576), verbose="loud"), "verbose='loud'"),
    ("summary", "verbose", lambda fd, _: len(fd.summary(verbose=False)) > 3,
        lambda fd, _: fd.summary(verbose="x"), "verbose='x'"),
    *[("summary", f"{name}_threshold",
        lambda fd, _, n=name: fd.summary(False, **{f"{n}_threshold": 120}) != fd.summary(False),
        lambda fd, _, n=name: fd.summary(False, **{f"{n}_threshold": "low"}), f"{name}_threshold='low'")
        for name in ("blur", "brightness", "darkness")],
    ("img_grouped_annot", "image_level_columns", lambda fd, _: len(fd.img_grouped_annot(["label"])) == 16,
        lambda fd, _: fd.img_grouped_annot("filename"), "image_level_columns='filename'"),
    ("img_grouped_annot", "image_level_columns", lambda fd, _: len(fd.img_grouped_annot([])) == 16,
        lambda fd, _: fd.img_grouped_annot(5), "image_level_columns=5"),
    ("set_fastdup_kwargs", "input_kwargs", lambda fd, _: fd.set_fastdup_kwargs({"d": 960})["d"] == 960,
        lambda fd, _: fd.set_fastdup_kwargs(5), "input_kwargs=5"),
    ("fastdup_convert_to_relpath", "work_dir",
        lambda fd, p: fd.fastdup_convert_to_relpath(fd.export_v1(p), fd.input_dir) is None,
        lambda fd, _: fd.fastdup_convert_to_relpath(5, 6), "work_dir=5"),
    ("fastdup_convert_to_relpath", "input_dir",
        lambda fd, p: fd.fastdup_convert_to_relpath(fd.export_v1(p / "x"), fd.input_dir) is None
        and "\n1,copy-a.jpg" in (p / "x" / "atrain_features.dat.csv").read_text(),
        lambda fd, p: fd.fastdup_convert_to_relpath(p, 6), "input_dir=6"),
    ("caption", "model_name", lambda fd, _: captioned(fd, model_name=TINY / "age")["caption"].isin(AGES).all(),
        lambda fd, _: fd.caption("blep"), "model_name='blep'"),
    ("caption", "model_name", lambda fd, _: captioned(fd)["model"].str.startswith("tags@").all(),
        lambda fd, _: fd.caption(5), "model_name=5"),
    ("caption", "device", lambda fd, _: len(captioned(fd, device="cpu")) == 2,
        lambda fd, _: captioned(fd, device="cpuu"), "did you mean 'cpu'"),
    ("caption", "batch_size", lambda fd, _: captioned(fd, batch_size=1).equals(captioned(fd)),
        lambda fd, _: captioned(fd, batch_size=0), "batch_size=0"),
    ("caption", "subset", lambda fd, _: captioned(fd, subset=["photo-0002.jpg"])["index"].tolist() == [5],
        lambda fd, _: captioned(fd, subset=["nobody.jpg"]), "nobody.jpg"),
    ("caption", "subset", lambda fd, _: captioned(fd, subset=None)["index"].equals(fd.annotations()["index"]),
        lambda fd, _: captioned(fd, subset="photo-0002.jpg"), "subset='photo-0002.jpg'"),
    ("caption", "vqa_prompt", lambda fd, _: captioned(fd, vqa_prompt=None)["caption"].notna().all(),
        lambda fd, _: captioned(fd, vqa_prompt="is it red?"), "vqa_prompt='is it red?'"),
    ("caption", "kwargs", lambda fd, _: (captioned(fd, kwargs={"top_k": 2})["caption"].str.count("%") == 2).all(),
        lambda fd, _: captioned(fd, kwargs={"top": 2}), "unknown option 'top'"),
    ("caption", "kwargs", lambda fd, _: captioned(fd, kwargs={}).equals(captioned(fd)),
        lambda fd, _: captioned(fd, kwargs=5), "kwargs=5"),
    ("export_v1", "folder", lambda fd, p: (fd.export_v1(p / "y") / "similarity.csv").is_file(),
        lambda fd, _: fd.export_v1(5), "folder=5"),
    ("export_v1", "overwrite", lambda fd, p: fd.export_v1(p / "z", overwrite=True) == p / "z",
        lambda fd, p: fd.export_v1(p, overwrite="yes"), "overwrite='yes'"),
    ("s3_folder_exists_and_not_empty", "s3_path", lambda fd, _: callable(fd.s3_folder_exists_and_not_empty),
        lambda fd, _: fd.s3_folder_exists_and_not_empty(5), "s3_path=5"),
    ("create", "work_dir", lambda fd, _: fastdup.create(fd.work_dir).num_instances() == 12,
        lambda _, __: fastdup.create(5), "work_dir=5"),
    ("create", "work_dir", lambda fd, _: fastdup.create(Path(os.path.relpath(fd.work_dir))).num_instances() == 12,
        lambda fd, p: fastdup.create(fd[1]["filename"], p), "copy-a.jpg"),
    ("create", "input_dir", lambda fd, p: fastdup.create(p, Path(fd.input_dir)).input_dir == fd.input_dir,
        lambda _, p: fastdup.create(p, 5), "input_dir=5"),
    ("create", "input_dir", lambda fd, p: fastdup.create(p, [fd.input_dir]).input_dir == [fd.input_dir],
        lambda _, p: fastdup.create(p, ["a", 5]), "5"),
]  # fmt: skip

# argument of a gallery: galleries, a value, what is true of the page (and of one without it), a bad value, the message
ALL = ("outliers", "duplicates", "similarity", "stats", "component")
GALLERIES: list[tuple[tuple[str, ...], str, Any, Callable[[str, str, Path], Any], Any, str]] = [
    (ALL, "save_path", "elsewhere", lambda html, _, p: len(html) > 1000, 5, "save_path=5"),
    (ALL, "label_col", "weight", lambda html, plain, _: html != plain, "lable", "label_col='lable'"),
    (ALL, "lazy_load", True, lambda html, plain, p: len(html) < len(plain) and "images/" in html,
        "yes", "lazy_load='yes'"),
    (ALL, "slice", "cat", lambda html, _, __: "Only label cat" in html, "cta", "slice='cta'"),
    (ALL, "show", True, lambda html, plain, _: html == plain, "maybe", "show='maybe'"),
    (ALL, "num_images", 1, lambda html, plain, _: len(html) < len(plain), 0, "num_images=0"),
    (ALL, "max_width", 40, lambda html, plain, _: len(html) < len(plain), -4, "max_width=-4"),
    (ALL, "draw_bbox", False, lambda html, plain, _: html == plain, "no", "draw_bbox='no'"),
    (ALL, "ascending", True, lambda html, _, __: "first" in html, "up", "ascending='up'"),
    (ALL, "save_artifacts", True, lambda _, __, p: len(list(p.glob("*_artifacts/*.csv"))) == 1,
        "x", "save_artifacts='x'"),
    (ALL, "threshold", 0.5, lambda html, plain, _: html != plain, "high", "threshold='high'"),
    (ALL, "get_extra_col_func", lambda name: "my fact", lambda html, _, __: "my fact" in html,
        3, "get_extra_col_func=3"),
    (ALL, "descending", True, lambda html, _, __: "first" in html, "down", "descending='down'"),
    (("outliers",), "how", "all", lambda html, plain, _: html != plain, "any", "how='any'"),
    (("outliers",), "sort_by", "weight", lambda html, _, __: "weight" in html, "wait", "sort_by='wait'"),
    (("stats",), "metric", "blur", lambda html, plain, _: html != plain, "blurr", "metric='blurr'"),
    (("component",), "group_by", "label", lambda html, _, __: "Label cat" in html, "colour", "group_by='colour'"),
    (("component",), "min_items", 4, lambda html, plain, _: len(html) <= len(plain), 0, "min_items=0"),
    (("component",), "max_items", 2, lambda html, plain, _: len(html) < len(plain), "two", "max_items='two'"),
    (("component",), "metric", "dark", lambda html, _, __: "mean dark" in html, "sharp", "metric='sharp'"),
    (("component",), "sort_by", "area", lambda html, _, __: "mean area" in html, "aera", "sort_by='aera'"),
    (("component",), "sort_by_reduction", "sum", lambda html, _, __: len(html) > 1000,
        "max", "sort_by_reduction='max'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, images: Path, annotated: pd.DataFrame) -> Fastdup:
    """Like `finished`, for these tests alone: some of them write into its work_dir."""
    fd = fastdup.create(tmp_path_factory.mktemp("table"), images)
    fd.run(annotations=annotated, threshold=0.2, cc_threshold=0.835, outlier_percentile=0.5, **QUIET)
    return fd


IDS = [f"{name}-{argument}-{number}" for number, (name, argument, *_) in enumerate(TABLE)]


@pytest.mark.parametrize("row", TABLE, ids=IDS)
def test_an_argument_works_and_a_bad_value_is_named(row: Row, ran: Fastdup, tmp_path: Path) -> None:
    _, __, holds, refused, words = row
    assert holds(ran, tmp_path)
    with pytest.raises((ValueError, TypeError, FileNotFoundError, RuntimeError), match=re.escape(words)):
        refused(ran, tmp_path)


ROWS = [(gallery, *rest) for galleries, *rest in GALLERIES for gallery in galleries]


@pytest.mark.parametrize(
    ("gallery", "argument", "value", "holds", "bad", "words"), ROWS, ids=[f"{g}-{a}" for g, a, *_ in ROWS]
)
def test_an_argument_of_a_gallery_works_and_a_bad_value_is_named(
    gallery: str,
    argument: str,
    value: Any,
    holds: Callable[..., Any],
    bad: Any,
    words: str,
    ran: Fastdup,
    tmp_path: Path,
) -> None:
    for name in ("plain", "page"):
        (tmp_path / name).mkdir()
    plain = page_of(ran, tmp_path / "plain", gallery)
    value = tmp_path / value if argument == "save_path" else value
    made = page_of(ran, tmp_path / "page", gallery, **{argument: value})
    if argument == "threshold" and gallery == "stats":
        assert "0.5" in made
    else:
        assert holds(made, plain, tmp_path / "page")
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        page_of(ran, tmp_path / "page", gallery, **{argument: bad})


def test_every_argument_of_the_page_is_in_a_table() -> None:
    inherited = {"run": set(RUN) | {"print_summary"}}
    covered = {(name, argument) for name, argument, *_ in TABLE}
    covered |= {(f"{gallery}_gallery", argument) for gallery, argument, *_ in ROWS}
    covered |= {(name, argument) for name, arguments in inherited.items() for argument in arguments}
    covered |= {("__init__", "controller"), ("__init__", "default_config")}  # below
    assert {(name, argument) for (_, name), arguments in SEED.items() for argument in arguments} <= covered


@pytest.mark.parametrize("controller", [None, 5, "work"])
def test_a_visualizer_is_of_a_controller(controller: Any, ran: Fastdup) -> None:
    with pytest.raises(TypeError, match=re.escape(f"controller={controller!r}")):
        FastdupVisualizer(controller)
    assert FastdupVisualizer(ran, {"cv2_imread_flag": 0}).stats_gallery(show=False).is_file()
    with pytest.raises(TypeError, match="default_config=5"):
        FastdupVisualizer(ran, 5)  # type: ignore[arg-type]
    assert FastdupVisualizer(Fastdup("nothing there")) is not None


def test_the_functions_of_the_module_are_those_of_an_object(ran: Fastdup, tmp_path: Path) -> None:
    assert fastdup.init_search(3, ran.work_dir, store_int=1) == 0
    assert fastdup.search(ran[1]["filename"], None, True)["to"].tolist() == [1, 2, 6]
    assert len(fastdup.vector_search("q", np.ones(576))) == 3
    for call, words in (
        (lambda: fastdup.init_search(0, ran.work_dir), "k=0"),
        (lambda: fastdup.search(7), "filename=7"),
        (lambda: fastdup.vector_search(vec=[1, 2]), "(2,)"),
        (lambda: fastdup.run(7, tmp_path), "input_dir=7"),
        (lambda: fastdup.run(ran.input_dir, 7), "work_dir=7"),
        (lambda: fastdup.run(ran.input_dir, tmp_path, treshold=1), "treshold"),
        (lambda: fastdup.create_duplicates_gallery(5), "df=5"),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(words)):
            call()
