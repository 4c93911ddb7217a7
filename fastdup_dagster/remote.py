"""What is asked of object stores."""

from __future__ import annotations

from fastdup_dagster.sources.s3 import holds_anything


def s3_folder_exists_and_not_empty(s3_path: str) -> bool:
    """Whether a folder of a bucket holds anything: a listing of one object.

    Args:
        s3_path: `s3://bucket/folder`, or `s3://bucket`; `minio://server/bucket/folder` too.

    Raises:
        RemoteError: if the bucket cannot be listed.
        ValueError: if it is not such a path.
    """
    if not isinstance(s3_path, str):
        raise TypeError(f"s3_path={s3_path!r}: expected s3://bucket/folder")
    return holds_anything(s3_path)
