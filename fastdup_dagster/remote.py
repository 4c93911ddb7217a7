"""What is asked of object stores."""

from __future__ import annotations


def s3_folder_exists_and_not_empty(s3_path: str) -> bool:
    """Whether a folder of a bucket holds anything: a listing of one object.

    Args:
        s3_path: `s3://bucket/folder`, or `s3://bucket`.

    Raises:
        ValueError: if it is not such a path.
    """
    if not isinstance(s3_path, str):
        raise TypeError(f"s3_path={s3_path!r}: expected s3://bucket/folder")
    bucket, _, prefix = s3_path.removeprefix("s3://").partition("/")
    if not s3_path.startswith("s3://") or not bucket:
        raise ValueError(f"s3_path={s3_path!r}: expected s3://bucket/folder")
    import boto3  # type: ignore[import-untyped]  # here, because it is slow to import and most runs are local

    folder = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    listing = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=folder, MaxKeys=1)
    return int(listing.get("KeyCount", 0)) > 0
