"""Extensions of the files that are looked at, lower case without the dot; what a file holds decides once it is read."""

from __future__ import annotations

IMAGE_EXTENSIONS = frozenset(
    "jpg jpeg jfif jp2 tif tiff giff gif heif heic avif bmp png webp".split()  # noqa: SIM905
)
VIDEO_EXTENSIONS = frozenset("mp4 avi mov mkv m4v webm mpg".split())  # noqa: SIM905
