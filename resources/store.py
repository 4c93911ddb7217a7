"""Where each data set's tables and pages are, as a Dagster resource."""

import dagster as dg

from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.storage import TableStore, open_store


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One store per data set: the folder or prefix of a bucket that its entry, or FASTDUP_STORE, names."""

    datasets: dg.ResourceDependency[DatasetsResource]

    def of(self, key: str) -> TableStore:
        """The store of a partition `<dataset>/<split>`, or of a data set."""
        return open_store(self.datasets.entry(key.partition("/")[0]).store_root())
