"""Every number that a report, the command line or the JSON says about a split, counted in this one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

import polars as pl

PAIR_THRESHOLDS = (0.80, 0.85, 0.90, 0.92, 0.94, 0.96, 0.98, 0.99, 1.0)
"""Similarities at which the pairs are counted, as `s >= threshold` with s rounded to 6 decimals (float32 noise)."""

KINDS: dict[str, str] = {
    "identical_bytes": "identical bytes",
    "identical_pixels": "identical pixels",
    "near_duplicate": "near duplicate",
    "similar": "similar",
}
"""Kinds of a pair, most alike first, and their name for people."""


@dataclass(frozen=True)
class SplitTables:
    """The tables of one split (of one partition), as `schemas` describes them.

    `embeddings` is optional and needs `index, error_code, error` only: with it, images whose feature vector is
    unusable count as invalid too. `missing` names the tables that are empty because they were not published.
    """

    manifest: pl.DataFrame
    img_stats: pl.DataFrame
    knn_graph: pl.DataFrame
    similarity: pl.DataFrame
    outliers: pl.DataFrame
    components: pl.DataFrame
    embeddings: pl.DataFrame | None = None
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SplitSummary:
    """The numbers of one split, or of several added up.

    None is 'not known': statistics or leakage switched off, or a table that a gate kept from being published.
    """

    images: int
    invalid: int
    exact_duplicates: int
    pixel_duplicates: int
    near_duplicate_pairs: int | None
    pairs: int | None
    clusters: int | None
    images_in_clusters: int | None
    largest_cluster: int | None
    outliers: int | None
    blurry: int | None
    dark: int | None
    bright: int | None
    leaked: int | None = None
    truncated: int = 0
    pairs_by_kind: dict[str, int] = field(default_factory=dict)
    pairs_at: dict[float, int] = field(default_factory=dict)
    invalid_by_code: dict[str, int] = field(default_factory=dict)

    @property
    def valid(self) -> int:
        """Images that were analysed."""
        return self.images - self.invalid

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; thresholds become text keys such as `0.90`."""
        values: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"valid": self.valid, "pairs_at": {f"{t:.2f}": n for t, n in self.pairs_at.items()}}


@dataclass(frozen=True)
class Measure:
    """One line of the summary: a field of `SplitSummary`, its name, what it counts, and the page that shows it."""

    field: str
    title: str
    meaning: str
    page: str | None = None


MEASURES: tuple[Measure, ...] = (
    Measure("images", "Images", "everything that was listed, broken files included"),
    Measure("invalid", "Invalid", "could not be read or analysed; listed with the reason"),
    Measure("truncated", "Truncated", "files that end early, analysed as far as they go: is_truncated in img_stats"),
    Measure(
        "exact_duplicates", "Exact copies", "files byte for byte equal to an earlier file of the split", "duplicates"
    ),
    Measure(
        "near_duplicate_pairs", "Near-duplicate pairs", "the same picture, edited: resized, cropped, …", "duplicates"
    ),
    Measure("clusters", "Clusters", "groups of two or more images that are alike", "clusters"),
    Measure("outliers", "Outliers", "images that resemble no other", "outliers"),
    Measure("blurry", "Blurry", "sharpness under the threshold", "blurry"),
    Measure("dark", "Dark", "mean brightness under the threshold", "dark"),
    Measure("bright", "Bright", "mean brightness over the threshold", "bright"),
    Measure("leaked", "Leaked", "images that also stand, exactly or edited, in another split", "leaks"),
)


def summarise(tables: SplitTables, leaked: int | None = None, *, clustered: bool = True) -> SplitSummary:
    """Counts what is wrong with one split.

    Args:
        tables: of the split.
        leaked: images of the split that stand in another one too (`leaked_images`); None if that was not looked at.
        clustered: whether clusters were looked for (`run_cc`).
    """
    invalid = invalid_instances(tables)
    valid = valid_stats(tables)
    pairs = unordered_pairs(tables.similarity)
    kinds = dict(pairs.group_by("kind").len().iter_rows())
    known = {table: table not in tables.missing for table in ("knn_graph", "similarity", "components", "outliers")}
    clustered = clustered and known["components"]
    codes = invalid.group_by("error_code").len().sort("len", "error_code", descending=[True, False])
    return SplitSummary(
        images=tables.manifest.height,
        invalid=invalid.height,
        exact_duplicates=exact_copies(tables.manifest, valid).height,
        pixel_duplicates=_pixel_duplicates(valid),
        near_duplicate_pairs=kinds.get("near_duplicate", 0) if known["similarity"] else None,
        pairs=pairs.height if known["similarity"] else None,
        clusters=tables.components["component_id"].n_unique() if clustered else None,
        images_in_clusters=tables.components.height if clustered else None,
        largest_cluster=int(tables.components["count"].max() or 0) if clustered else None,  # type: ignore[arg-type]
        outliers=tables.outliers.height if known["outliers"] else None,
        blurry=_flagged(valid, "is_blurry"),
        dark=_flagged(valid, "is_dark"),
        bright=_flagged(valid, "is_bright"),
        leaked=leaked,
        truncated=int(valid["is_truncated"].sum()),
        pairs_by_kind={kind: kinds.get(kind, 0) for kind in KINDS if known["similarity"]},
        pairs_at=pairs_at_thresholds(tables.knn_graph) if known["knn_graph"] else {},
        invalid_by_code=dict(codes.iter_rows()),
    )


def add_up(summaries: Iterable[SplitSummary]) -> SplitSummary:
    """The numbers of several splits together: sums, the largest of the largest clusters, None where all are None."""
    parts = list(summaries)
    whole: dict[str, object] = {}
    always = (
        ("images", "invalid", "truncated", "exact_duplicates", "pixel_duplicates")
        if parts
        else SplitSummary.__annotations__
    )
    for item in fields(SplitSummary):
        values = [value for part in parts if (value := getattr(part, item.name)) is not None]
        if item.name == "largest_cluster":
            whole[item.name] = max(values, default=None if parts else 0)
        elif item.default_factory is dict:
            whole[item.name] = _add_counts(values)
        else:
            whole[item.name] = sum(values) if values or item.name in always else None
    return SplitSummary(**whole)  # type: ignore[arg-type]


def _add_counts(parts: Iterable[Mapping[object, int]]) -> dict[object, int]:
    whole: dict[object, int] = {}
    for part in parts:
        for key, value in part.items():
            whole[key] = whole.get(key, 0) + value
    return whole


def invalid_instances(tables: SplitTables) -> pl.DataFrame:
    """Every invalid image once, by index: `index, filename, error_code, error`.

    The first of the manifest's, the decode pass's and the model's reason counts.
    """
    sources = [tables.manifest, tables.img_stats] + ([] if tables.embeddings is None else [tables.embeddings])
    reasons = pl.concat([s.select("index", "error_code", "error") for s in sources]).drop_nulls("error_code")
    first = reasons.unique("index", keep="first", maintain_order=True)
    named = first.join(tables.manifest.select("index", "filename"), on="index", how="left")
    return named.select("index", "filename", "error_code", "error").sort("index")


def valid_stats(tables: SplitTables) -> pl.DataFrame:
    """The rows of img_stats whose image is valid in every table."""
    return tables.img_stats.join(invalid_instances(tables), on="index", how="anti", maintain_order="left")


def unordered_pairs(similarity: pl.DataFrame) -> pl.DataFrame:
    """Each unordered pair of `similarity` once: `from < to`, most alike first."""
    ends = (pl.min_horizontal("from", "to").alias("from"), pl.max_horizontal("from", "to").alias("to"))
    pairs = most_alike_first(similarity.with_columns(*ends))
    return pairs.unique(["from", "to"], keep="first", maintain_order=True)


def most_alike_first(pairs: pl.DataFrame) -> pl.DataFrame:
    """`similarity` or `split_leakage` by distance descending (6 decimals), kind, verified score descending, ids."""
    by_kind = pl.col("kind").replace_strict({kind: i for i, kind in enumerate(KINDS)}, default=len(KINDS))
    keys = [_rounded(), by_kind, pl.col("verified_score"), pl.col("from"), pl.col("to")]
    return pairs.sort(keys, descending=[True, False, True, False, False], nulls_last=True, maintain_order=True)


def pairs_at_thresholds(knn_graph: pl.DataFrame, thresholds: Iterable[float] = PAIR_THRESHOLDS) -> dict[float, int]:
    """Unordered pairs of the nearest-neighbour graph with similarity at or over each threshold (6 decimals)."""
    wanted = sorted(thresholds)
    pairs = (
        knn_graph.select(
            pl.min_horizontal("from", "to").alias("low"), pl.max_horizontal("from", "to").alias("high"),
            _rounded().alias("s"),
        )
        .filter(pl.col("s") >= min(wanted))
        .group_by("low", "high")
        .agg(pl.col("s").max())
    )  # fmt: skip
    return {threshold: int((pairs["s"] >= threshold).sum()) for threshold in wanted}


def leaked_images(leakage: pl.DataFrame) -> dict[str, int]:
    """Images per split that stand in another split too, each once; pairs of kind `similar` do not count."""
    leaks = leakage.filter(pl.col("kind") != "similar")
    ends = pl.concat(
        [
            leaks.select(pl.col("split_from").alias("split"), pl.col("from").alias("index")),
            leaks.select(pl.col("split_to").alias("split"), pl.col("to").alias("index")),
        ]
    ).unique()
    return dict(ends.group_by("split").len().iter_rows())


def _rounded() -> pl.Expr:
    return pl.col("distance").cast(pl.Float64).round(6)


def _flagged(valid: pl.DataFrame, flag: str) -> int | None:
    if valid.height and valid[flag].null_count() == valid.height:
        return None
    return int(valid[flag].sum())


def exact_copies(manifest: pl.DataFrame, stats: pl.DataFrame) -> pl.DataFrame:
    """Files whose bytes an earlier file has, and the first that has them: `index, first`.

    Crops and frames share their file's hash, so they are left out.

    Args:
        manifest: the table `image_manifest`.
        stats: rows of `img_stats`, in order; at least `index` and `content_hash`.
    """
    whole = manifest.filter(pl.col("media").is_in(["image", "member"])).select("index")
    hashed = stats.join(whole, on="index", how="semi", maintain_order="left").drop_nulls("content_hash")
    first = pl.col("index").first().over("content_hash").alias("first")
    return hashed.select("index", first).filter(pl.col("index") != pl.col("first"))


def _pixel_duplicates(valid: pl.DataFrame) -> int:
    """Images whose decoded pixels an earlier image has, though the files differ."""
    looks = valid.drop_nulls("pixel_hash").select("pixel_hash", "content_hash").unique()
    return looks.height - looks["pixel_hash"].n_unique()
