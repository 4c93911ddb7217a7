"""What a person sees of a materialisation: counts, a small chart, the worst pairs with thumbnails, a link."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, TypedDict

import dagster as dg
import numpy as np
import polars as pl

from fastdup_dagster.assets.automation import FIRST_BY_HAND, lineage_aware
from fastdup_dagster.images import ImageError, thumbnail_jpeg
from fastdup_dagster.resources.io_manager import MADE_OF
from fastdup_dagster.schemas import TABLES, Column
from fastdup_dagster.stages.galleries import shown_leaks
from fastdup_dagster.stages.gallery_items import StatPage, select_clusters, select_stat
from fastdup_dagster.stages.pages import data_uri, percent, visible
from fastdup_dagster.stages.published import MixedTablesError, manifest_of
from fastdup_dagster.storage import TableStore

_BINS = 24
_THUMBNAIL_SIDE = 96
_MEMBERS = 4
WORST = 6


class Description(TypedDict):
    """Arguments that `dg.asset` and `dg.AssetOut` have in common."""

    group_name: str
    kinds: set[str]
    code_version: str
    automation_condition: dg.AutomationCondition[dg.AssetKey]
    metadata: dict[str, Any]


def described(table: str, group: str, kinds: set[str], code_version: str) -> Description:
    """What every asset says about itself, taken from its schema."""
    schema = TABLES[table]
    return {
        "group_name": group,
        "kinds": kinds,
        "code_version": code_version,
        "automation_condition": lineage_aware(first=table not in FIRST_BY_HAND),
        "metadata": {
            "row": f"one row per {schema.row}",
            "dagster/column_schema": dg.TableSchema([_column(column) for column in schema.columns]),
        },
    }


def _column(column: Column) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=column.nullable)
    return dg.TableColumn(column.name, str(column.dtype), description=column.description, constraints=constraints)


def made_of(store: TableStore, key: str, *tables: str) -> dict[str, dg.JsonMetadataValue]:
    """What an output is made of, by digest: the IO manager keeps it in the file. Ask before anything is computed."""
    digests = {table: store.lineage(table, key).digest for table in tables}
    return {MADE_OF: dg.JsonMetadataValue({table: digest for table, digest in digests.items() if digest})}


def rows(count: int) -> dict[str, int]:
    """Number of rows of the partition, under the key that the UI plots."""
    return {"dagster/partition_row_count": count}


def histogram(values: pl.Series, title: str) -> dg.MarkdownMetadataValue | str:
    """A small SVG chart, short enough (under 1,000 characters) to be shown where it stands.

    Args:
        values: numbers; nulls and values that are not finite are left out.
        title: what they are.
    """
    numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return "no values"
    low, high = float(numbers.min()), float(numbers.max())
    counts, _ = np.histogram(numbers, bins=_BINS, range=(low, high if high > low else low + 1))
    heights = np.ceil(40 * counts / counts.max()).astype(int)
    bars = "".join(f"M{10 * i} 40v-{h}h9v{h}" for i, h in enumerate(heights) if h)
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 240 52' width='360'><path fill='#58a' d='{bars}'/>"
        f"<g font-size='9' fill='#777'><text y='50'>{low:.4g}</text>"
        f"<text x='240' y='50' text-anchor='end'>{high:.4g}</text></g></svg>"
    )
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{escape(title)}](data:image/svg+xml;base64,{encoded})")


def picture_table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue | str:
    """A markdown table for the dialog; cells made by `thumbnail` are shown as pictures."""
    body = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    if not body:
        return "none"
    return dg.MetadataValue.md("\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body]))


def thumbnail(uri: str, boxes: Sequence[Sequence[float]] = ()) -> str:
    """A cell with the picture in small, these boxes outlined; a dash if it cannot be read any more."""
    try:
        return f"![]({data_uri(thumbnail_jpeg(uri, _THUMBNAIL_SIDE, boxes))})"
    except (ImageError, OSError, ValueError):
        return "–"


def text(value: object) -> str:
    """A cell with text as it is: what markdown or HTML would take for its own is escaped."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~&" else c for c in visible(value))


def worst_pairs(
    pairs: pl.DataFrame, store: TableStore, key: str, tables: Mapping[str, pl.DataFrame], ends: tuple[str, str]
) -> dg.MarkdownMetadataValue | str:
    """The first pairs of a table side by side, with names, similarity and, if there is one, kind.

    The listing is read aside, not as an input of the asset: names are for people only, and must not make pairs stale.

    Args:
        pairs: rows with two ids and `distance`, worst first.
        store: holds the listing, for uri and filename.
        key: of the partition.
        tables: further ones that the ids come from, by name, besides `knn_graph`; if any is not one of the
            published listing, nothing is shown.
        ends: names of the two id columns.
    """
    shown = pairs.head(WORST)
    try:
        manifest = manifest_of(store, key, "knn_graph", **tables)
    except MixedTablesError as error:
        return f"not shown: {error}"
    images = _images(manifest, pl.concat([shown[end] for end in ends]))
    return _pair_table(ends, [(images[row[ends[0]]], images[row[ends[1]]], row) for row in shown.iter_rows(named=True)])


def worst_images(valid: pl.DataFrame, manifest: pl.DataFrame, page: StatPage) -> dg.MarkdownMetadataValue | str:
    """The images that stand out most by one statistic, with its value.

    Args:
        valid: the rows of img_stats of valid images.
        manifest: the listing that they are of.
        page: the statistic; the images that its flag marks are shown.
    """
    if valid.height and valid[page.flag].null_count() == valid.height:
        return "not computed (run_stats=False)"
    shown = select_stat(valid, page).rows.head(WORST)
    images = _images(manifest, shown["index"])
    lines = [
        (thumbnail(images[index][0]), f"{value:.2f}", text(images[index][1])) for index, value in shown.iter_rows()
    ]
    return picture_table(("image", page.name, "file"), lines)


def largest_clusters(components: pl.DataFrame, store: TableStore, key: str) -> dg.MarkdownMetadataValue | str:
    """The largest components, with the first few of their images; the listing is read aside, as by `worst_pairs`."""
    try:
        manifest = manifest_of(store, key, "knn_graph")
    except MixedTablesError as error:
        return f"not shown: {error}"
    lines = []
    for row in select_clusters(components).rows.head(WORST).iter_rows(named=True):
        members = row["members"][:_MEMBERS]
        images = _images(manifest, pl.Series(members))
        seen = [images[index] for index in members]
        pictures = [thumbnail(uri) for uri, _ in seen] + [""] * (_MEMBERS - len(seen))
        lines.append((row["count"], f"{row['mean_distance']:.4f}", *pictures, text(seen[0][1])))
    return picture_table(("images", "mean similarity", *(f"no. {i + 1}" for i in range(_MEMBERS)), "first"), lines)


def per_code(codes: pl.Series) -> dict[str, int]:
    """Images per error code, commonest first, each as a number of its own, which the UI plots over time."""
    counted = codes.drop_nulls().value_counts(sort=True).sort("count", codes.name, descending=[True, False])
    return {f"error, {code}": count for code, count in counted.iter_rows()}


def leak_rates(rates: pl.DataFrame) -> dg.MarkdownMetadataValue | str:
    """What leaked between every two splits, those with the largest share first: a narrow table, shown where it stands.

    Args:
        rates: what `split_leakage.leak_rates` gives.
    """
    ordered = rates.sort(pl.max_horizontal("rate_from", "rate_to"), descending=True, maintain_order=True)
    lines = [
        (
            text(row["split_from"]),
            text(row["split_to"]),
            row["pairs"],
            *(text(f"{row[f'leaked_{end}']} ({percent(row[f'rate_{end}'], 1)})") for end in ("from", "to")),
        )
        for row in ordered.iter_rows(named=True)
    ]
    return picture_table(("first", "second", "pairs", "leaked of the first", "of the second"), lines)


def worst_leaks(pairs: pl.DataFrame, manifests: Mapping[str, pl.DataFrame]) -> dg.MarkdownMetadataValue | str:
    """The first pairs of split_leakage side by side, of every two splits some; file names are led by their split's.

    Args:
        pairs: the table split_leakage.
        manifests: image_manifest of each split.
    """
    shown = shown_leaks(pairs, WORST)
    found = {}
    for split, manifest in manifests.items():
        ends = [shown.filter(pl.col(f"split_{end}") == split)[end] for end in ("from", "to")]
        for index, (uri, name) in _images(manifest, pl.concat(ends)).items():
            found[split, index] = uri, f"{split}/{name}"
    lines = [
        (found[row["split_from"], row["from"]], found[row["split_to"], row["to"]], row)
        for row in shown.iter_rows(named=True)
    ]
    return _pair_table(("from", "to"), lines)


_Image = tuple[str, str]


def _images(manifest: pl.DataFrame, ids: pl.Series) -> dict[int, _Image]:
    known = manifest.filter(pl.col("index").is_in(ids.unique().implode())).select("index", "uri", "filename")
    return {index: (uri, name) for index, uri, name in known.iter_rows()}


def _pair_table(
    ends: tuple[str, str], pairs: Iterable[tuple[_Image, _Image, Mapping[str, Any]]]
) -> dg.MarkdownMetadataValue | str:
    lines = [
        [
            thumbnail(one[0]),
            thumbnail(other[0]),
            f"{row['distance']:.4f}",
            str(row.get("kind", "")).replace("_", " "),
            text(one[1]),
            text(other[1]),
        ]
        for one, other, row in pairs
    ]
    return picture_table([*ends, "similarity", "kind", "first", "second"], lines)
