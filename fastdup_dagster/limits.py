"""What the checks of data quality accept, and what it means that they do not."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["warn", "block"]

LIMIT_OF: dict[str, str] = {
    "invalid": "max_invalid_share",
    "truncated": "max_truncated_share",
    "exact_duplicates": "max_exact_duplicate_share",
    "near_duplicates": "max_near_duplicate_share",
    "blurry": "max_blurry_share",
    "dark": "max_dark_share",
    "bright": "max_bright_share",
    "label_imbalance": "max_label_imbalance",
    "statistics_drift": "max_statistics_drift",
    "embedding_drift": "max_embedding_drift",
    "leaks": "max_leak_share",
}
"""Field of `Limits` by that of `Severities`."""


class Severities(BaseModel):
    """What follows when a limit is passed: `warn` says so, `block` keeps the table from being published."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    invalid: Severity = Field("block", description="of max_invalid_share")
    truncated: Severity = Field("warn", description="of max_truncated_share")
    exact_duplicates: Severity = Field("warn", description="of max_exact_duplicate_share")
    near_duplicates: Severity = Field("warn", description="of max_near_duplicate_share")
    blurry: Severity = Field("warn", description="of max_blurry_share")
    dark: Severity = Field("warn", description="of max_dark_share")
    bright: Severity = Field("warn", description="of max_bright_share")
    label_imbalance: Severity = Field("warn", description="of max_label_imbalance")
    statistics_drift: Severity = Field("warn", description="of max_statistics_drift")
    embedding_drift: Severity = Field("warn", description="of max_embedding_drift")
    leaks: Severity = Field("block", description="of max_leak_share")


class Limits(BaseModel):
    """What the checks of data quality accept in a partition; shares are 0 to 1. None: observed, and never too much."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_invalid_share: float = Field(0.05, ge=0, le=1, description="unreadable or broken files, among all")
    max_truncated_share: float | None = Field(
        0.05, ge=0, le=1, description="files that end early, among the valid images"
    )
    max_exact_duplicate_share: float | None = Field(
        0.2, ge=0, le=1, description="files byte for byte equal to an earlier one, among the valid images"
    )
    max_near_duplicate_share: float | None = Field(
        0.3, ge=0, le=1, description="near duplicates and copies of an earlier image, among the valid images"
    )
    max_blurry_share: float | None = Field(0.3, ge=0, le=1, description="is_blurry, among the valid images")
    max_dark_share: float | None = Field(0.3, ge=0, le=1, description="is_dark, among the valid images")
    max_bright_share: float | None = Field(0.3, ge=0, le=1, description="is_bright, among the valid images")
    max_label_imbalance: float | None = Field(
        None, ge=1, allow_inf_nan=False, description="images of the largest class for each one of the smallest"
    )
    max_statistics_drift: float | None = Field(
        0.3, ge=0, le=1, description="Kolmogorov-Smirnov distance of a statistic from what is published, 0 to 1"
    )
    max_embedding_drift: float | None = Field(
        0.3,
        ge=0,
        allow_inf_nan=False,
        description="squared distance of the mean vector from the published one, over the spread of the vectors",
    )
    max_leak_share: float = Field(1.0, ge=0, le=1, description="images that leaked between two splits, of one of them")
    severity: Severities = Field(default_factory=Severities, description="warn or block, by limit")
