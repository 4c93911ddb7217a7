"""Where HTML pages go and how the Dagster UI links to them, as a Dagster resource."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import polars as pl
from pydantic import Field

from fastdup_dagster.datasets import captions_key, data_docs_key, leaks_key
from fastdup_dagster.resources import data_docs
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.settings import BUNDLED_MODEL
from fastdup_dagster.stages.caption_pages import CAPTIONS_PAGE, render_captions
from fastdup_dagster.stages.pages import IMAGE_FOLDER, page_set, write_page
from fastdup_dagster.stages.report import CheckOutcome, DatasetReport, render_dataset_report
from fastdup_dagster.storage import remove_tree
from fastdup_dagster.variables import VariableError

DEFAULT_PAGES_PORT = 3010
PAGES_URL = "FASTDUP_PAGES_URL"
REPORT = "report.html"
LINK_SECONDS = "FASTDUP_LINK_SECONDS"
_LONGEST_LINK = 7 * 24 * 3600  # that S3 signs


class PagesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Pages beside the tables of their data set.

    Browsers refuse `file://` links from a page that came over http, so the links that the Dagster UI shows go to
    the small server that `fastdup-dagster dev` runs; to pages in a bucket they are signed, unless it is known that such
    a server runs.
    """

    store: dg.ResourceDependency[StoreResource]
    base_url: str | None = Field(
        default=None,
        description="where they are served; by default what FASTDUP_PAGES_URL says, else port 3010 of this machine",
    )
    link_seconds: int | None = Field(
        default=None,
        ge=0,
        le=_LONGEST_LINK,
        description="how long a link to a page in a bucket lives; 0 signs none. By default what FASTDUP_LINK_SECONDS "
        "says, else 7 days, the longest that S3 signs; credentials of a role end it sooner",
    )

    data_docs: bool | None = Field(
        default=None,
        description="whether Great Expectations' own pages of all checks are written; by default what "
        "FASTDUP_DATA_DOCS says (1), else not",
    )

    def uri(self, key: str, page: str) -> str:
        """Where a published page is."""
        return self.store.of(key).page_uri(key, page)

    def place(self, key: str, page: str = "") -> str:
        """Where a published page, or their folder, is, as a person writes it."""
        return self.store.of(key).page_place(key, page)

    def write_data_docs(self, key: str, outcomes: Sequence[CheckOutcome]) -> dict[str, dg.UrlMetadataValue]:
        """Writes Great Expectations' own page of each table's checks, if they are asked for; their links by table.

        Args:
            key: of the partition.
            outcomes: of the step.

        Raises:
            ValueError: if FASTDUP_DATA_DOCS is neither 0 nor 1.
        """
        if not (data_docs.wanted() if self.data_docs is None else self.data_docs):
            return {}
        store, place = self.store.of(key), data_docs_key(key)
        found = {}
        for asset in dict.fromkeys(outcome.asset for outcome in outcomes if outcome.evidence):
            page = f"{asset}.html"
            own = [outcome for outcome in outcomes if outcome.asset == asset]
            write_page(store.pages(place) / page, data_docs.render(asset, key, own))
            store.publish_page(place, page, self._seconds)
            found[asset] = self.link(place, page)
        return found

    @contextmanager
    def leaks_folder(self, dataset: str) -> Iterator[Path]:
        """Folder of the page of leaks, to be written by one run at a time; no split's name starts with an underscore.

        Runs of two splits of a data set may well come to its comparison at once: one waits for the other.

        Raises:
            BusyError: if another one takes over a minute.
        """
        store, key = self.store.of(dataset), leaks_key(dataset)
        with store.lock("split_leakage", dataset, patience=60):
            yield store.pages(key)
            store.publish_pages(key, self._seconds)

    def publish_captions(self, key: str, captions: pl.DataFrame, manifest: pl.DataFrame) -> dg.UrlMetadataValue:
        """Writes the page of captions of a split, and returns the link to it; by one run at a time."""
        store, place = self.store.of(key), captions_key(key)
        settings = self.store.datasets.settings(key)
        home = "../../report.html"
        render_captions(captions, manifest, store.pages(place), key, settings, home=home)
        store.publish_pages(place, self._seconds)
        return self.link(place, CAPTIONS_PAGE)

    def publish_report(self, dataset: str, report: DatasetReport) -> str:
        """Writes the report of a data set, and returns where it is."""
        return self._publish_page(dataset, REPORT, report)

    def link(self, key: str, page: str) -> dg.UrlMetadataValue:
        """URL of a page of `key`."""
        signed = self.store.of(key).page_url(key, page, self._seconds)
        base = self._server or f"http://127.0.0.1:{DEFAULT_PAGES_PORT}"
        return dg.MetadataValue.url(signed or f"{base}/{quote(key)}/{quote(page)}")

    @property
    def _server(self) -> str | None:
        return self.base_url or os.environ.get(PAGES_URL)

    @property
    def _seconds(self) -> int:
        """How long signed links live; 0 where a server gives pages out, or none are wanted."""
        if self._server:
            return 0
        return link_seconds() if self.link_seconds is None else self.link_seconds

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

    def publish(self, staged: Path, key: str) -> None:
        """Moves staged pages to their place: whoever looks sees the old set or the new one.

        In a bucket that is so for each page: its pictures are in it.
        """
        store = self.store.of(key)
        with page_set(store.pages(key)) as part:
            (part / IMAGE_FOLDER).rmdir()
            for entry in staged.iterdir():
                entry.rename(part / entry.name)
        store.publish_pages(key, self._seconds)

    def write_failure(self, key: str, step: str, outcomes: Sequence[CheckOutcome]) -> str:
        """Writes the page that says why a step published nothing, and returns its name.

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
        self._publish_page(key, _failure(step), report)
        return _failure(step)

    def _publish_page(self, key: str, page: str, report: DatasetReport) -> str:
        store = self.store.of(key)
        render_dataset_report(store.pages(key) / page, report)
        store.publish_page(key, page, self._seconds)
        return store.page_place(key, page)

    def remove_failure(self, key: str, step: str) -> None:
        """Removes the page of an earlier stop."""
        self.store.of(key).remove_page(key, _failure(step))


def _failure(step: str) -> str:
    return f"gate_{step}.html"


def link_seconds() -> int:
    """What FASTDUP_LINK_SECONDS says, else the longest that S3 signs.

    Raises:
        ValueError: if it is no number of seconds up to that.
    """
    text = os.environ.get(LINK_SECONDS, str(_LONGEST_LINK))
    if not text.isdecimal() or int(text) > _LONGEST_LINK:
        raise VariableError(f"{LINK_SECONDS}={text!r}: expected seconds, 0 to {_LONGEST_LINK}")
    return int(text)
