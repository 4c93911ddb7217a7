"""Images that stand in two splits of a data set: a model is then tested on what it was trained on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl

from fastdup_dagster.assets import expectations, quality
from fastdup_dagster.assets.array_checks import with_apart
from fastdup_dagster.assets.dataset_report import ReportConfig, publish_dataset_report
from fastdup_dagster.assets.gates import check_specs, gate
from fastdup_dagster.assets.metadata import described, histogram, leak_rates, rows, worst_leaks
from fastdup_dagster.assets.observed import settings_key
from fastdup_dagster.assets.partitions import DATASETS, SplitsOfDataset
from fastdup_dagster.datasets import leaks_key, partition_key
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.great_expectations import GreatExpectationsResource, flat
from fastdup_dagster.resources.io_manager import MADE_OF
from fastdup_dagster.resources.pages import REPORT, PagesResource
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import SPLIT_LEAKAGE
from fastdup_dagster.stages import split_leakage as stage
from fastdup_dagster.stages.dataset_report import embedded_from
from fastdup_dagster.stages.galleries import render_leaks
from fastdup_dagster.storage import table_digest

Result = dg.AssetCheckResult | dg.Output[pl.DataFrame]


def _published_splits() -> dg.AssetIn:
    return dg.AssetIn(partition_mapping=SplitsOfDataset(), metadata={"allow_missing_partitions": True})


@dg.asset(
    partitions_def=DATASETS,
    deps=[settings_key("split_leakage")],
    ins={"embeddings": _published_splits(), "img_stats": _published_splits()},
    check_specs=check_specs("split_leakage", DATASETS),
    **described("split_leakage", "report", {"faiss", "parquet"}, code_version="2"),
)
def split_leakage(
    context: dg.AssetExecutionContext,
    config: ReportConfig,
    embeddings: dict[str, pl.DataFrame],
    img_stats: dict[str, pl.DataFrame],
    datasets: DatasetsResource,
    store: StoreResource,
    gx: GreatExpectationsResource,
    pages: PagesResource,
) -> Iterator[Result]:
    """Pairs of images across the splits of one data set that are alike; splits that are not compared are named."""
    dataset, of = context.partition_key, store.of(context.partition_key)
    settings, entry = datasets.settings(dataset), datasets.entry(dataset)
    keys = {split: partition_key(dataset, split) for split in sorted(entry.splits)}
    manifests, left_out = stage.comparable(of, keys, embeddings, img_stats)
    origin = embedded_from(of, [keys[split] for split in manifests])
    vectors, stats = ({s: t[keys[s]] for s in manifests} for t in (embeddings, img_stats))
    frame = stage.split_leakage(vectors, stats, settings)
    rates = stage.leak_rates(frame, {split: table["embedding"].count() for split, table in vectors.items()})
    suite = expectations.split_leakage(list(manifests), settings)
    told = with_apart(with_known_ids(frame, vectors), "split_from", "split_to")
    outcomes = gx.check(told, "split_leakage", dataset, suite)
    [share] = gx.check(rates, "split_leakage", dataset, quality.leak_rates(settings))
    leaks = flat(stage.worst_leaks(frame, rates, manifests, settings.limits.max_leak_share))
    passed = share.passed and not stage.hides_leaks(left_out, settings.limits.max_leak_share)
    observed = stage.highest_rate(rates, left_out)
    share = replace(share, passed=passed, observed=observed, bad_rows=None if share.passed else leaks)
    try:
        yield from gate(context, pages, [*outcomes, share])
    except dg.Failure:
        if config.report:
            publish_dataset_report(context.instance, datasets, pages, dataset)
        raise
    with pages.leaks_folder(dataset) as folder:
        render_leaks(
            frame, rates, manifests, stats, folder, dataset, settings, home="../report.html", left_out=list(left_out)
        )
    yield dg.Output(
        frame,
        data_version=dg.DataVersion(table_digest(SPLIT_LEAKAGE, frame)),
        metadata={
            **_metadata(frame, rates, manifests),
            **({"notes": "; ".join(f"{s} is not compared: {why}" for s, why in left_out.items())} if left_out else {}),
            "page": pages.link(leaks_key(dataset), "leaks.html"),
            "report of the data set": pages.link(dataset, REPORT),
            MADE_OF: dg.JsonMetadataValue(origin),
        },
    )
    if config.report:
        publish_dataset_report(context.instance, datasets, pages, dataset)


def _metadata(frame: pl.DataFrame, rates: pl.DataFrame, manifests: dict[str, pl.DataFrame]) -> dict[str, Any]:
    highest = rates.select(pl.max_horizontal("rate_from", "rate_to").max()).item()
    return {
        **rows(frame.height),
        "compared": ", ".join(manifests) or "none",
        "pairs of the same picture": int(rates["pairs"].sum()),
        "highest leak rate": round(highest or 0.0, 4),
        "leak rates": leak_rates(rates),
        "similarity across splits": histogram(frame["distance"], "similarity"),
        "worst pairs": worst_leaks(frame, manifests),
    }


def with_known_ids(frame: pl.DataFrame, vectors: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The pairs with a column `known`: both ids are those of valid images of their splits."""
    none = pl.DataFrame(schema={"split": pl.String, "index": pl.Int64})
    ids = [
        v.filter(pl.col("embedding").is_not_null()).select(pl.lit(s).alias("split"), "index")
        for s, v in vectors.items()
    ]
    valid = pl.concat([none, *ids]).with_columns(pl.lit(True).alias("known"))
    for end in ("from", "to"):
        renamed = valid.rename({"split": f"split_{end}", "index": end, "known": f"known_{end}"})
        frame = frame.join(renamed, on=[f"split_{end}", end], how="left", maintain_order="left")
    both = pl.col("known_from").fill_null(False) & pl.col("known_to").fill_null(False)
    return frame.with_columns(both.alias("known"))
