"""Every name and argument of the V1 reference page exists, in its order."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import fastdup_dagster as fastdup
from fastdup_dagster import engine, fastdup_controller, fastdup_galleries

RUN = (
    "input_dir annotations embeddings subset data_type overwrite model_path distance nearest_neighbors_k threshold "
    "outlier_percentile num_threads num_images verbose license high_accuracy cc_threshold sync_s3_to_local run_stats "
    "run_advanced_stats nnf_mode find_regex bounding_box augmentation_additive_margin augmentation_vert "
    "augmentation_horiz kwargs"
)
SEARCH = "k work_dir d model_path verbose license store_int turi_param threshold"
VIEW = "data split include_unannotated"
F, C, M = engine.Fastdup, fastdup_controller.FastdupController, fastdup
NAMES: tuple[tuple[Any, str, str], ...] = (
    (M, "create", "work_dir input_dir"),
    (M, "run", "input_dir work_dir"),
    (M, "init_search", SEARCH),
    (M, "search", "filename image verbose"),
    (M, "vector_search", "filename vec verbose"),
    (F, "run", RUN),
    (C, "__init__", "work_dir input_dir"),
    (C, "run", "input_dir annotations subset embeddings data_type overwrite print_summary fastdup_kwargs"),
    (C, "num_instances", "valid_only"),
    (C, "annotations", "valid_only"),
    (C, "similarity", VIEW),
    (C, "outliers", VIEW),
    (C, "img_stats", VIEW),
    (C, "connected_components", VIEW),
    (C, "connected_components_grouped", "sort_by ascending metric load_crops"),
    (C, "embeddings", "d"),
    (C, "feature_vector", "img_path model_path d"),
    (C, "feature_vectors", "img_path model_path d"),
    (C, "init_search", SEARCH),
    (C, "search", "filename image verbose"),
    (C, "vector_search", "filename vec verbose"),
    (C, "invalid_instances", ""),
    (C, "summary", "verbose blur_threshold brightness_threshold darkness_threshold"),
    (C, "img_grouped_annot", "image_level_columns"),
    (C, "set_fastdup_kwargs", "input_kwargs"),
    (C, "fastdup_convert_to_relpath", "work_dir input_dir"),
    (C, "s3_folder_exists_and_not_empty", "s3_path"),
    (C, "caption", "model_name device batch_size subset vqa_prompt kwargs"),
    (C, "export_v1", ""),
    (C, "__getitem__", ""),
)


@pytest.mark.parametrize(("owner", "name", "arguments"), NAMES, ids=[f"{o.__name__}.{n}" for o, n, _ in NAMES])
def test_a_name_takes_the_arguments_of_the_reference_in_their_order(owner: Any, name: str, arguments: str) -> None:
    found = [parameter for parameter in inspect.signature(getattr(owner, name)).parameters if parameter != "self"]
    assert found[: len(arguments.split())] == arguments.split()


def test_defaults_are_those_of_the_reference() -> None:
    defaults = {name: p.default for name, p in inspect.signature(engine.Fastdup.run).parameters.items()}
    assert (defaults["threshold"], defaults["cc_threshold"], defaults["outlier_percentile"]) == (0.9, 0.96, 0.05)
    assert (defaults["nearest_neighbors_k"], defaults["nnf_mode"], defaults["distance"]) == (2, "HNSW32", "cosine")
    assert (defaults["overwrite"], defaults["data_type"], defaults["run_stats"]) == (True, "infer", True)
    assert inspect.signature(C.run).parameters["overwrite"].default is False
    assert inspect.signature(C.embeddings).parameters["d"].default == 576
    summary = inspect.signature(C.summary).parameters
    assert [summary[f"{n}_threshold"].default for n in ("blur", "brightness", "darkness")] == [150, 253, 4]


def test_the_modules_of_v1_are_there_and_fastdup_is_a_controller() -> None:
    assert issubclass(engine.Fastdup, fastdup_controller.FastdupController)
    assert fastdup_galleries.FastdupVisualizer is fastdup.FastdupVisualizer
    assert fastdup.FD.ANNOT_LABEL == "label"
    assert fastdup.FD.OUT_SCORE == fastdup.FD.SIM_SCORE == "distance"
    assert fastdup_controller.FD is fastdup.FD


def test_all_names_what_the_package_has() -> None:
    for name in fastdup.__all__:
        assert getattr(fastdup, name) is not None
        assert name in dir(fastdup)
    with pytest.raises(AttributeError, match="nonsense"):
        fastdup.nonsense  # noqa: B018


def test_importing_the_package_loads_nothing_heavy_and_modules_do_not_hide_functions() -> None:
    code = (
        "import sys, fastdup_dagster as f; heavy = {'polars', 'pandas', 'numpy', 'faiss', 'onnxruntime', 'dagster'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "import fastdup_dagster.image_search, fastdup_dagster.command_line.search; "
        "assert callable(f.search) and callable(f.run) and callable(f.load) and f.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("collecting", [True, False])
def test_the_first_use_of_a_name_leaves_the_garbage_collector_as_it_was(collecting: bool) -> None:
    code = (
        f"import gc; gc.enable() if {collecting} else gc.disable(); "
        f"import fastdup_dagster as f; f.create; assert gc.isenabled() is {collecting}; "
        "assert gc.get_freeze_count() < 2_000; assert len(gc.get_objects(generation=0)) < 5_000; "
        "import sys; assert 'faiss' not in sys.modules, 'it is loaded while images are read'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_first_use_of_a_name_lets_go_of_nothing_that_the_user_has_frozen() -> None:
    code = (
        "import gc; gc.freeze(); frozen = gc.get_freeze_count(); "
        "import fastdup_dagster as f; f.create; assert gc.get_freeze_count() > 0.9 * frozen"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
