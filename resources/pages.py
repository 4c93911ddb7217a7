"""Where HTML pages go and how the Dagster UI links to them, as a Dagster resource."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import dagster as dg
from pydantic import Field

from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.settings import BUNDLED_MODEL
from fastdup_dagster.stages.pages import IMAGE_FOLDER, page_set
from fastdup_dagster.stages.report import CheckOutcome, DatasetReport, render_dataset_report
from fastdup_dagster.storage import remove_tree

DEFAULT_PAGES_PORT = 3010
PAGES_URL = "FASTDUP_PAGES_URL"


class PagesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Pages beside the tables of their data set.

    Browsers refuse `file://` links from a page that came over http, so the links that the Dagster UI shows go to
    the small server that `fastdup-dagster dev` runs.
    """

    store: dg.ResourceDependency[StoreResource]
    base_url: str | None = Field(
        default=None,
        description="where they are served; by default what FASTDUP_PAGES_URL says, else port 3010 of this machine",
    )

    def folder(self, key: str) -> Path:
        """Folder of the pages of a partition, or of a data set."""
        return self.store.of(key).pages(key)

    @contextmanager
    def leaks_folder(self, dataset: str) -> Iterator[Path]:
        """Folder of the page of leaks, to be written by one run at a time; no split's name starts with an underscore.

        Runs of two splits of a data set may well come to its comparison at once: one waits for the other.

        Raises:
            BusyError: if another one takes over a minute.
        """
        with self.store.of(dataset).lock("split_leakage", dataset, patience=60):
            yield self.folder(dataset) / "_leaks"

    def link(self, key: str, path: Path) -> dg.UrlMetadataValue:
        """URL of a page below the folder of `key`."""
        below = path.relative_to(self.folder(key)).as_posix()
        base = self.base_url or os.environ.get(PAGES_URL) or f"http://127.0.0.1:{DEFAULT_PAGES_PORT}"
        return dg.MetadataValue.url(f"{base}/{quote(key)}/{quote(below)}")

    @contextmanager
    def staged(self, key: str) -> Iterator[Path]:
        """A folder for pages that are not published yet; removed at the end.

        Raises:
            BusyError: if another run makes pages of the same partition.
        """
        store = self.store.of(key)
        folder = store.staging("galleries", key)
        with store.lock("galleries", key):
            remove_tree(folder)
            try:
                yield folder / "pages"
            finally:
                remove_tree(folder)

    @staticmethod
    def publish(staged: Path, folder: Path) -> None:
        """Moves staged pages to their place: whoever looks sees the old set or the new one."""
        with page_set(folder) as part:
            (part / IMAGE_FOLDER).rmdir()
            for entry in staged.iterdir():
                entry.rename(part / entry.name)

    def write_failure(self, key: str, step: str, outcomes: Sequence[CheckOutcome]) -> Path:
        """Writes the page that says why a step published nothing, and returns its path.

        Args:
            key: of the partition.
            step: that was stopped.
            outcomes: the failed checks, with observed value, limit and bad rows.
        """
        settings = self.store.datasets.settings(key)
        report = DatasetReport(
            name=key,
            splits={key: None},
            settings=settings,
            model=settings.model_path or BUNDLED_MODEL,
            version=version("fastdup-dagster"),
            created=datetime.now(UTC),
            checks=outcomes,
        )
        return render_dataset_report(self._failure(key, step), report)

    def remove_failure(self, key: str, step: str) -> None:
        """Removes the page of an earlier stop."""
        self._failure(key, step).unlink(missing_ok=True)

    def _failure(self, key: str, step: str) -> Path:
        return self.folder(key) / f"gate_{step}.html"
