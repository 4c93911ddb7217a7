"""The pages of a split: report, duplicates, outliers, clusters, blurry, dark and bright images."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations
from fastdup_dagster.assets.dataset_report import ReportConfig, publish_dataset_report
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, rows
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import SPLITS
from fastdup_dagster.datasets import parse_key
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource
from fastdup_dagster.resources.pages import REPORT, PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import GALLERIES
from fastdup_dagster.stages.galleries import SplitTables, render_galleries
from fastdup_dagster.stages.published import manifest_of
from fastdup_dagster.stages.summary import SplitSummary, summarise
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


@dg.asset(
    partitions_def=SPLITS,
    deps=[settings_key("galleries")],
    check_specs=check_specs("galleries", SPLITS),
    **described("galleries", "report", {"html"}, code_version="1"),
)
def galleries(
    context: dg.AssetExecutionContext,
    config: ReportConfig,
    img_stats: pl.DataFrame,
    knn_graph: pl.DataFrame,
    similarity: pl.DataFrame,
    outliers: pl.DataFrame,
    components: pl.DataFrame,
    datasets: DatasetsResource,
    store: StoreResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """HTML pages that show what was found; they need nothing but the images folder beside them.

    The listing is read aside: a file that was only touched leaves the pages as they are, while the version of img_stats
    covers the names that they show.
    """
    key = context.partition_key
    dataset = parse_key(key)[0]
    manifest = manifest_of(store.of(key), key, "similarity", "outliers", "components", img_stats=img_stats)
    tables = SplitTables(manifest, img_stats, knn_graph, similarity, outliers, components)
    settings = datasets.settings(key)
    summary = summarise(tables, clustered=settings.run_cc)
    with pages.staged(key) as staged:
        frame = render_galleries(tables, staged, key, settings, home="../report.html")
        measured = _measured(frame, staged, summary)
        yield from gate(context, pages, gx.check(measured, "galleries", key, expectations.galleries()))
        pages.publish(staged, key)
    frame = frame.with_columns(pl.Series("uri", [pages.uri(key, f"{kind}.html") for kind in frame["kind"]]))
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(GALLERIES, frame)),
        metadata={
            **rows(frame.height),
            **{kind: pages.link(key, f"{kind}.html") for kind in frame["kind"]},
            "report of the data set": pages.link(dataset, REPORT),
            "folder": dg.MetadataValue.path(pages.place(key)),
            **{f"total, {kind}": total for kind, total in frame.select("kind", "total").iter_rows()},
        },
    )
    if config.report:
        publish_dataset_report(context.instance, datasets, pages, dataset)


def _measured(frame: pl.DataFrame, folder: Path, summary: SplitSummary) -> pl.DataFrame:
    """The pages with the size of each file, and the total that the tables give for it."""
    totals = {
        "report": summary.images,
        "duplicates": summary.pairs,
        "clusters": summary.clusters,
        "outliers": summary.outliers,
        "blurry": summary.blurry,
        "dark": summary.dark,
        "bright": summary.bright,
    }
    files = [folder / f"{kind}.html" for kind in frame["kind"]]
    return frame.with_columns(
        pl.Series("bytes", [path.stat().st_size if path.is_file() else 0 for path in files], dtype=pl.Int64),
        pl.Series("expected", [totals.get(kind) for kind in frame["kind"]], dtype=pl.Int64),
    )
