"""Which data sets and splits a command is about."""

from __future__ import annotations

from collections.abc import Sequence

from fastdup_dagster.datasets import DatasetEntry, DatasetsError, dataset_names, datasets_path, load_dataset

Chosen = tuple[str, DatasetEntry, list[str]]  # name, entry, splits


def choose(names: Sequence[str], splits: Sequence[str]) -> list[Chosen]:
    """The data sets of these names, all if there are none, with those of their splits that are asked for.

    Raises:
        DatasetsError: if a data set or a split is not known, or an entry is wrong.
    """
    found = [(name, load_dataset(name)) for name in (names or dataset_names())]
    if not found:
        raise DatasetsError(f"no data set in {datasets_path()}; register one: fastdup-dagster datasets add")
    known = {split for _, entry in found for split in entry.splits}
    missing = [split for split in splits if split not in known]
    if missing:
        raise DatasetsError(f"no split {missing[0]!r}; there are: {', '.join(sorted(known))}")
    chosen = [(name, entry, [s for s in entry.splits if not splits or s in splits]) for name, entry in found]
    return [(name, entry, own) for name, entry, own in chosen if own]
