"""The data sets of datasets.yaml, as a Dagster resource."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from fastdup_dagster.datasets import DatasetEntry, load_dataset, parse_key
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.image_manifest import FindBoxes, Listing
from fastdup_dagster.stages.split_listing import list_split


class DatasetsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Looks up what datasets.yaml says; the file is read anew each time, so a running server sees new entries."""

    path: str | None = Field(
        default=None, description="the file; by default what FASTDUP_DATASETS names, else <DAGSTER_HOME>/datasets.yaml"
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="settings of this process alone, such as num_threads"
    )

    def entry(self, dataset: str) -> DatasetEntry:
        """The entry of a data set.

        Raises:
            DatasetsError: if it is not there or wrong, naming file, line and key.
        """
        return load_dataset(dataset, Path(self.path) if self.path else None)

    def settings(self, key: str) -> Settings:
        """Settings of a partition `<dataset>/<split>`, or of a data set: defaults, entry, then `overrides`."""
        return self.entry(key.partition("/")[0]).typed_settings().with_changes(**self.overrides)

    def listing(self, key: str, find_boxes: FindBoxes | None = None) -> Listing:
        """Lists the files of a partition `<dataset>/<split>`; see `list_split` for what it raises."""
        dataset, split = parse_key(key)
        return list_split(self.entry(dataset), split, self.settings(key), find_boxes)
