"""Every table's Arrow schema, with a description per column.

The single source of truth: stages build their results with it, storage writes it, the Dagster column
schemas, the checks, the docs and the tests read it. Column names and dtypes are a public contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

THUMBNAIL_SIDE = 16
THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3

ERROR_CODES: dict[str, str] = {
    "MISSING_FILE": "named by a list, an annotation or a link, but not there",
    "ZERO_SIZE_FILE": "the file has no bytes",
    "CORRUPT_IMAGE": "the bytes cannot be decoded as an image",
    "IMAGE_TOO_SMALL": "under 10 pixels on a side",
    "IMAGE_TOO_LARGE": "more pixels than the settings allow to decode",
    "BAD_BOUNDING_BOX": "outside the image, or under 10 pixels on a side",
    "MISSING_ANNOTATION": "an image without a row in the annotations, or in which a detector found nothing",
    "UNSUPPORTED_FORMAT": "a format, or a pixel type, that no decoder here reads",
    "READ_ERROR": "the bytes could not be read",
    "INVALID_EMBEDDING": "the model gave a zero or a non-finite feature vector",
}


_FLAT: dict[pa.DataType, pl.DataType] = {
    pa.bool_(): pl.Boolean(),
    pa.int32(): pl.Int32(),
    pa.int64(): pl.Int64(),
    pa.uint8(): pl.UInt8(),
    pa.float32(): pl.Float32(),
    pa.float64(): pl.Float64(),
    pa.string(): pl.String(),
}


def _polars(dtype: pa.DataType) -> pl.DataType:
    """The polars dtype of an Arrow type that a schema uses. By hand: asking pyarrow for it makes it import pandas."""
    if pa.types.is_fixed_size_list(dtype):
        return pl.Array(_polars(dtype.value_type), dtype.list_size)
    if pa.types.is_list(dtype):
        return pl.List(_polars(dtype.value_type))
    if pa.types.is_timestamp(dtype):
        return pl.Datetime(dtype.unit, dtype.tz)
    return _FLAT[dtype]


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, whether null is allowed, and what it holds."""

    name: str
    dtype: pa.DataType
    description: str
    nullable: bool = False
    in_digest: bool = True

    @property
    def polars_dtype(self) -> pl.DataType:
        """The polars dtype that this column has in a frame."""
        return _polars(self.dtype)


@dataclass(frozen=True)
class TableSchema:
    """A table's name, what one row stands for, its sort key and its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    @property
    def arrow(self) -> pa.Schema:
        """The schema as pyarrow writes it."""
        return pa.schema([pa.field(c.name, c.dtype, nullable=c.nullable) for c in self.columns])

    @property
    def volatile(self) -> frozenset[str]:
        """Columns that say where a row came from, not what it is: left out of `table_digest`."""
        return frozenset(c.name for c in self.columns if not c.in_digest)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name!r} has no column {name!r}; it has {', '.join(self.names)}")

    def frame(self, data: dict[str, Any] | pl.DataFrame | None = None, extra: Sequence[str] = ()) -> pl.DataFrame:
        """Builds the table as a polars frame: this schema's columns in order and dtype, then `extra` ones as they are.

        With no data, an empty frame of the right columns and dtypes. A nullable column that is missing is
        filled with nulls.

        Raises:
            ValueError: if a column that must not be null is missing or holds nulls.
        """
        given = pl.DataFrame({} if data is None else data)
        dtypes = {c.name: c.polars_dtype for c in self.columns}
        if data is None:
            return pl.DataFrame(schema=dtypes)
        missing = [c.name for c in self.columns if not c.nullable and c.name not in given.columns]
        if missing:
            raise ValueError(f"table {self.name!r}: missing columns {missing}")
        parts = [
            (pl.col(name) if name in given.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in dtypes.items()
        ]
        frame = given.select(*parts, *extra)
        holes = [c.name for c in self.columns if not c.nullable and frame[c.name].null_count()]
        if holes:
            raise ValueError(f"table {self.name!r}: nulls in columns {holes}, which must always be filled")
        return frame

    def with_embedding_width(self, width: int) -> TableSchema:
        """This schema with its `embedding` column set to `width` float32 values."""
        columns = tuple(
            Column(c.name, pa.list_(pa.float32(), width), c.description, c.nullable, c.in_digest)
            if c.name == "embedding"
            else c
            for c in self.columns
        )
        return TableSchema(self.name, self.row, columns)


_INDEX = Column("index", pa.int64(), "position in the full ordered listing, bad files included; the id in every table")
_ERROR_CODE = Column("error_code", pa.string(), "why the instance is invalid, null if it is valid", nullable=True)
_ERROR = Column("error", pa.string(), "the error in words, with the remedy where there is one", nullable=True)
_SOURCE_KEY = Column(
    "source_key",
    pa.string(),
    "hash of what the row was made from: path, change token, geometry, decode settings, model. Equal key, reused row",
    in_digest=False,
)
_CONTENT_HASH = Column("content_hash", pa.string(), "XXH3-128 of the file's bytes, hex", nullable=True)


def _float(name: str, description: str) -> Column:
    return Column(name, pa.float64(), description, nullable=True)


IMAGE_MANIFEST = TableSchema(
    "image_manifest",
    "instance",
    (
        _INDEX,
        Column("instance_id", pa.string(), "BLAKE2b-128 of path, member or frame, and box, hex: stable over time"),
        Column(
            "filename",
            pa.string(),
            "path relative to the input, `a.tar/1.jpg` in an archive; bytes that are not UTF-8 as \\xNN",
        ),
        Column(
            "uri", pa.string(), "where the bytes are, percent-encoded; which member or frame after `#`", in_digest=False
        ),
        # Which part of a data set the listing is, not what the image is: alone or as a split, it is the same listing.
        Column("split", pa.string(), "train, val, test, …; null where there is none", nullable=True, in_digest=False),
        Column("label", pa.string(), "class label from the annotations or the folder rule", nullable=True),
        Column("media", pa.string(), "image, frame, member or crop"),
        Column("parent", pa.int64(), "index of the image that a crop was cut from", nullable=True),
        Column(
            "box", pa.list_(pa.float64()), "x, y, width, height, or the four corners x1, y1 … x4, y4", nullable=True
        ),
        Column("timestamp", pa.float64(), "seconds from the first frame of the video", nullable=True),
        Column("file_size", pa.int64(), "bytes; null if the file is not there, or of a frame", nullable=True),
        Column(
            "mtime",
            pa.timestamp("ns", "UTC"),
            "time of last modification, of the archive or video for what is in it",
            nullable=True,
            in_digest=False,
        ),
        Column(
            "etag",
            pa.string(),
            "entity tag of the object store; of a member or frame, the archive's or video's, or its size",
            nullable=True,
            in_digest=False,
        ),
        _ERROR_CODE,
        _ERROR,
    ),
)

ANNOTATIONS = TableSchema(
    "annotations",
    "instance",
    (
        _INDEX,
        Column("is_annotated", pa.bool_(), "whether the annotations name it; true where there are no annotations"),
    ),
)

DETECTIONS = TableSchema(
    "detections",
    "image that a detector looked at",
    (
        _INDEX,
        Column("boxes", pa.list_(pa.list_(pa.float64())), "of each detection, as in `box`; the surest first"),
        Column("labels", pa.list_(pa.string()), "of each: the class, or the text"),
        Column("confidences", pa.list_(pa.float64()), "of each: 0 to 1"),
        Column("img_w", pa.int32(), "width of the upright image in pixels, null if it is broken", nullable=True),
        Column("img_h", pa.int32(), "height, likewise", nullable=True),
        _SOURCE_KEY,
        _ERROR_CODE,
        _ERROR,
    ),
)

EMBEDDINGS = TableSchema(
    "embeddings",
    "instance",
    (
        _INDEX,
        Column(
            "embedding",
            pa.list_(pa.float32(), 576),
            "feature vector as the model gives it; from the bundled model of length 1",
            nullable=True,
        ),
        Column("model", pa.string(), "name@sha256 of the model that made it"),
        _CONTENT_HASH,
        _SOURCE_KEY,
        _ERROR_CODE,
        _ERROR,
    ),
)

ADVANCED_STATISTICS: tuple[Column, ...] = (
    _float("rms_contrast", "sqrt of the mean over channels of (std / mean) squared"),
    _float("mean_r", "mean of red"),
    _float("mean_g", "mean of green"),
    _float("mean_b", "mean of blue"),
    _float("mean_rel_intensity_r", "share of red in the sum of the channel means"),
    _float("mean_rel_intensity_g", "share of green in the sum of the channel means"),
    _float("mean_rel_intensity_b", "share of blue in the sum of the channel means"),
    _float("mean_hue", "mean of OpenCV's H, 0 to 179"),
    _float("mean_saturation", "mean of OpenCV's S, 0 to 255"),
    _float("mean_val", "mean of OpenCV's V, 0 to 255"),
    _float("edge_density", "share of pixels that Canny(50, 150) marks"),
)

IMG_STATS = TableSchema(
    "img_stats",
    "instance",
    (
        _INDEX,
        _CONTENT_HASH,
        Column("pixel_hash", pa.string(), "XXH3-128 of size and of the pixels as decoded, hex", nullable=True),
        Column("format", pa.string(), "what the content says: jpeg, png, gif, …; ppm for a frame", nullable=True),
        Column("img_w", pa.int32(), "width in pixels, after EXIF orientation", nullable=True),
        Column("img_h", pa.int32(), "height in pixels, after EXIF orientation", nullable=True),
        Column("has_alpha", pa.bool_(), "an alpha channel was there and was dropped", nullable=True),
        Column("is_truncated", pa.bool_(), "a JPEG that ends early: decoded as far as it goes", nullable=True),
        Column("file_size", pa.int64(), "bytes", nullable=True),
        Column("unique", pa.int32(), "distinct byte values over all channels, at most 256", nullable=True),
        _float(
            "blur", "variance of the Laplacian of the grey working image, scaled to V1's threshold: higher is sharper"
        ),
        _float("mean", "mean over channels of the channel mean, 0 to 255"),
        Column("min", pa.int32(), "smallest value over all channels", nullable=True),
        Column("max", pa.int32(), "largest value over all channels", nullable=True),
        _float("stdv", "mean over channels of the channel's population standard deviation"),
        _float("contrast", "(max - min) / (max + min), 0 if both are 0"),
        *ADVANCED_STATISTICS,
        Column("thumbnail", pa.list_(pa.uint8(), THUMBNAIL_BYTES), "16 x 16 RGB, row by row", nullable=True),
        Column("is_blurry", pa.bool_(), "blur under the threshold of the settings", nullable=True),
        Column("is_dark", pa.bool_(), "mean under the threshold of the settings", nullable=True),
        Column("is_bright", pa.bool_(), "mean over the threshold of the settings", nullable=True),
        _SOURCE_KEY,
        _ERROR_CODE,
        _ERROR,
    ),
)

_DISTANCE = Column("distance", pa.float32(), "similarity, V1's misleading name: cosine, higher is more alike")
_KIND = Column("kind", pa.string(), "identical_bytes, identical_pixels, near_duplicate or similar")
_VERIFIED = Column(
    "verified_score",
    pa.float32(),
    "cosine (other metrics: 1) times how well the thumbnails match, -1 to 1; null where there are no images",
    nullable=True,
)

KNN_GRAPH = TableSchema(
    "knn_graph",
    "directed edge",
    (
        Column("from", pa.int64(), "index of the instance"),
        Column("to", pa.int64(), "index of one of its k nearest other instances"),
        Column("rank", pa.int32(), "1 for the nearest"),
        _DISTANCE,
    ),
)

SIMILARITY = TableSchema(
    "similarity",
    "edge over the threshold, most alike first",
    (
        Column("from", pa.int64(), "index of the instance"),
        Column("to", pa.int64(), "index of its neighbour"),
        _DISTANCE,
        _KIND,
        _VERIFIED,
    ),
)

OUTLIERS = TableSchema(
    "outliers",
    "instance, least alike first",
    (
        Column("outlier", pa.int64(), "index of the instance"),
        Column("nearest", pa.int64(), "index at the other end of its lowest edge"),
        _DISTANCE,
        Column("rank", pa.int32(), "1 for the strongest outlier"),
    ),
)

COMPONENTS = TableSchema(
    "components",
    "instance in a component of two or more",
    (
        _INDEX,
        Column("component_id", pa.int64(), "numbered from 0 by smallest member"),
        Column("count", pa.int64(), "instances in the component"),
        Column("mean_distance", pa.float64(), "mean similarity of the component's edges"),
        Column("min_distance", pa.float64(), "lowest similarity of the component's edges"),
        Column("max_distance", pa.float64(), "highest similarity of the component's edges"),
    ),
)

CAPTIONS = TableSchema(
    "captions",
    "instance",
    (
        _INDEX,
        Column("caption", pa.string(), "the text, null if there is none", nullable=True),
        Column("model", pa.string(), "name@sha256 of the captioner, with the prompt and the options it was given"),
        _CONTENT_HASH,
        _SOURCE_KEY,
        Column("error", pa.string(), "why there is no caption: code and reason, null if there is one", nullable=True),
    ),
)

SPLIT_LEAKAGE = TableSchema(
    "split_leakage",
    "cross-split pair over the threshold, most alike first",
    (
        Column("split_from", pa.string(), "split of the first image; alphabetically before split_to"),
        Column("from", pa.int64(), "index in its own split"),
        Column("split_to", pa.string(), "split of the second image"),
        Column("to", pa.int64(), "index in its own split"),
        _DISTANCE,
        _KIND,
        _VERIFIED,
    ),
)

GALLERIES = TableSchema(
    "galleries",
    "page",
    (
        Column("kind", pa.string(), "report, duplicates, outliers, clusters, blurry, dark or bright"),
        Column("uri", pa.string(), "where the HTML page is", in_digest=False),
        Column("items", pa.int64(), "how many items the page shows"),
        Column("total", pa.int64(), "how many there are in all"),
    ),
)

TABLES: dict[str, TableSchema] = {
    table.name: table
    for table in (
        IMAGE_MANIFEST,
        ANNOTATIONS,
        DETECTIONS,
        EMBEDDINGS,
        IMG_STATS,
        KNN_GRAPH,
        SIMILARITY,
        OUTLIERS,
        COMPONENTS,
        CAPTIONS,
        SPLIT_LEAKAGE,
        GALLERIES,
    )
}
