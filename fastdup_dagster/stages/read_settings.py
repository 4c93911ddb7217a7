"""Which settings each table is made with: a change of one of them is a reason to make that table again."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

from fastdup_dagster.limits import LIMIT_OF
from fastdup_dagster.settings import CaptionSettings, Settings
from fastdup_dagster.stages.image_manifest import MANIFEST_SETTINGS
from fastdup_dagster.stages.knn_graph import GRAPH_SETTINGS


def _limits(*names: str) -> tuple[str, ...]:
    """Limits and severities of checks of data quality, by the names of `Severities`."""
    return (*(f"limits.{LIMIT_OF[name]}" for name in names), *(f"limits.severity.{name}" for name in names))


_CROPS = ("augmentation_horiz", "augmentation_vert", "augmentation_additive_margin")
_READ = ("max_pixels", "bounding_box", *_CROPS, *_limits("invalid"))  # faces have a margin of their own
_KINDS = ("distance", "threshold", "near_duplicate_threshold")
_CAPTIONS = tuple(f"captions.{name}" for name in CaptionSettings.model_fields)
_THREADS = "num_threads"  # how fast, never what

# Which model it is does not count here: that is observed by itself, by the hash of its file.
READ_SETTINGS: dict[str, tuple[str, ...]] = {
    "image_manifest": (*MANIFEST_SETTINGS, *_limits("label_imbalance")),
    "detections": (*MANIFEST_SETTINGS, "max_pixels", "providers", *_limits("invalid")),
    "embeddings": (*_READ, "providers", *_limits("embedding_drift")),
    "img_stats": (
        *_READ,
        "run_stats",
        "run_advanced_stats",
        "blur_threshold",
        "darkness_threshold",
        "brightness_threshold",
        *_limits("exact_duplicates", "truncated", "blurry", "dark", "bright", "statistics_drift"),
    ),
    "knn_graph": GRAPH_SETTINGS,
    "similarity": (*_KINDS, *_limits("near_duplicates")),
    "outliers": ("distance", "outlier_percentile"),
    "components": ("distance", "cc_threshold", "run_cc"),
    "captions": (*_READ, *_CAPTIONS),
    # A report lists every setting.
    "galleries": (
        *(name for name in Settings.model_fields if name not in ("captions", "limits", _THREADS)),
        *_CAPTIONS,
        *_limits(*LIMIT_OF),
    ),
    "split_leakage": (*GRAPH_SETTINGS, *_KINDS, "gallery_items", *_limits("leaks")),
}


def settings_version(table: str, settings: Settings, **more: Any) -> str:
    """The settings that a table is made with as JSON: equal texts, equal settings.

    Args:
        table: name of the table.
        settings: of its partition.
        **more: what else it is made with, as plain values.
    """
    values = {name: reduce(getattr, name.split("."), settings) for name in READ_SETTINGS[table]} | more
    return json.dumps(values, sort_keys=True, ensure_ascii=True)


def changed_settings(before: str, after: str) -> str:
    """What differs between two versions, in words: `threshold 0.9 → 0.92`."""
    old, new = json.loads(before), json.loads(after)
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return ", ".join(f"{name} {_shown(old.get(name))} → {_shown(new.get(name))}" for name in names)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
