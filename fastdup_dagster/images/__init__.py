"""From bytes to pixels, statistics, hashes and thumbnails."""

from fastdup_dagster.images.crop import Margins, corners, crop, geometry
from fastdup_dagster.images.decode import Decoded, ImageError, decode, from_pillow
from fastdup_dagster.images.files import read_bytes, read_image, thumbnail_jpeg
from fastdup_dagster.images.hashing import content_hash, pixel_hash
from fastdup_dagster.images.size import image_size
from fastdup_dagster.images.statistics import ADVANCED_NAMES, BASIC_NAMES, Statistics, statistics
from fastdup_dagster.images.working import WORKING_SIDE, opencv_alone, thumbnail, to_square, working_image

__all__ = [
    "ADVANCED_NAMES",
    "BASIC_NAMES",
    "WORKING_SIDE",
    "Decoded",
    "ImageError",
    "Margins",
    "Statistics",
    "content_hash",
    "corners",
    "crop",
    "decode",
    "from_pillow",
    "geometry",
    "image_size",
    "opencv_alone",
    "pixel_hash",
    "read_bytes",
    "read_image",
    "statistics",
    "thumbnail",
    "thumbnail_jpeg",
    "to_square",
    "working_image",
]
