"""Settings are checked before any work starts; a refusal names the argument and the value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fastdup_dagster.settings import Settings, load_settings, settings_from


def test_the_defaults_are_those_of_v1() -> None:
    settings = Settings()
    assert (settings.threshold, settings.cc_threshold, settings.outlier_percentile) == (0.9, 0.96, 0.05)
    assert (settings.distance, settings.nnf_mode, settings.nearest_neighbors_k) == ("cosine", "HNSW32", 2)
    assert (settings.blur_threshold, settings.brightness_threshold, settings.darkness_threshold) == (150, 253, 4)
    assert settings.limits.max_invalid_share == 0.05


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nearest_neighbors_k", 0),
        ("nearest_neighbors_k", -3),
        ("outlier_percentile", 1.01),
        ("outlier_percentile", -0.01),
        ("outlier_percentile", math.nan),
        ("find_regex", "(["),
        ("distance", "cosinus"),
        ("num_images", 0),
        ("min_offset", -1),
        ("num_threads", 0),
        ("max_pixels", 0),
        ("near_duplicate_threshold", 2),
        ("d", 100),
        ("limits", {"max_invalid_share": 7}),
    ],
)
def test_a_value_out_of_range_is_a_value_error_that_names_argument_and_value(name: str, value: object) -> None:
    shown = value["max_invalid_share"] if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=name) as raised:
        settings_from({name: value})
    assert str(shown) in str(raised.value)
    with pytest.raises(ValidationError):
        Settings(**{name: value})


@given(
    st.sampled_from(["canberra", "l1", "linf", "braycurtis", "jensenshannon"]), st.sampled_from(["HNSW32", "IVF4,Flat"])
)
def test_metrics_other_than_cosine_and_euclidean_need_flat(distance: str, mode: str) -> None:
    with pytest.raises(ValueError, match=f"distance='{distance}' needs nnf_mode='Flat', not '{mode}'"):
        settings_from({"distance": distance, "nnf_mode": mode})
    assert settings_from({"distance": distance, "nnf_mode": "Flat"}).distance == distance
    assert settings_from({"distance": "euclidean", "nnf_mode": mode}).nnf_mode == mode


def test_the_nearest_known_argument_is_named_for_an_unknown_one() -> None:
    with pytest.raises(TypeError, match=r"unknown argument 'treshold'; did you mean 'threshold'\?"):
        settings_from({"treshold": 0.5})
    with pytest.raises(TypeError, match=r"unknown argument 'xyzzy'$"):
        Settings().with_changes(xyzzy=1)


def test_arguments_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="min_offset=5 is past max_offset=3"):
        settings_from({"min_offset": 5, "max_offset": 3})
    with pytest.raises(ValueError, match=r"d=576 with high_accuracy=True, which is d=960"):
        settings_from({"high_accuracy": True, "d": 576})
    assert settings_from({"model_path": "m.onnx", "d": 100}).d == 100


def test_a_changed_copy_keeps_the_rest_and_leaves_the_original_alone() -> None:
    first = settings_from({"threshold": 0.5, "limits": {"max_invalid_share": 0.3}})
    second = first.with_changes(nearest_neighbors_k=7)
    assert (second.threshold, second.nearest_neighbors_k, second.limits.max_invalid_share) == (0.5, 7, 0.3)
    assert first.nearest_neighbors_k == 2
    with pytest.raises(ValidationError):
        first.threshold = 0.1


def test_settings_survive_json() -> None:
    settings = settings_from({"threshold": 0.1, "providers": ("openvino", "cpu"), "limits": {"max_leak_share": 0.2}})
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_fingerprints_agree_exactly_when_the_named_settings_do() -> None:
    first, second = Settings(), settings_from({"threshold": 0.8, "d": 576})
    assert first.fingerprint("cc_threshold", "run_cc") == second.fingerprint("run_cc", "cc_threshold")
    assert first.fingerprint("threshold") != second.fingerprint("threshold")
    assert first.fingerprint("d") != second.fingerprint("d")
    assert len(first.fingerprint()) == 32
    with pytest.raises(KeyError, match="treshold"):
        first.fingerprint("treshold")


def test_threads_are_the_cores_of_this_process_unless_a_number_is_given() -> None:
    assert Settings().threads >= 1
    assert settings_from({"num_threads": 3}).threads == 3


def test_a_settings_file_is_read_and_its_mistakes_are_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("threshold: 0.7\nlimits:\n  max_invalid_share: 0.5\n")
    assert load_settings(path).limits.max_invalid_share == 0.5
    path.write_text("")
    assert load_settings(path) == Settings()
    for text, complaint in {
        "threshold: high": "threshold='high'",
        "treshold: 1": "did you mean 'threshold'",
        "threshold: 5": "threshold=5",
        "cc_threshold: -1.5": "cc_threshold=-1.5",
        "5: 0.5": "unknown argument 5",
        "max_invalid_share: 0.5": "limits: {max_invalid_share: 0.5}",
        "bounding_box: faces": "bounding_box='faces'",
        "- 1": "expected a mapping",
        "a: [": "settings.yaml",
        "nearest_neighbors_k: 0": "nearest_neighbors_k=0",
        "!!python/object/apply:os.getcwd []": "could not determine a constructor",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=r"settings file .*settings\.yaml") as raised:
            load_settings(path)
        assert complaint in str(raised.value)
    with pytest.raises(ValueError, match=r"missing\.yaml"):
        load_settings(tmp_path / "missing.yaml")


def test_a_model_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("model_path: models/mine.onnx\n")
    assert load_settings(path).model_path == str(tmp_path / "models" / "mine.onnx")
    path.write_text("model_path: /models/mine.onnx\n")
    assert load_settings(path).model_path == "/models/mine.onnx"
    path.write_text("model_path: null\n")
    assert load_settings(path).model_path is None
