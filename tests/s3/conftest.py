"""What the tests of the store in a bucket share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastdup_dagster.s3.objects import Objects
from fastdup_dagster.s3.store import S3TableStore


@pytest.fixture
def bucket(s3_server: Any) -> str:
    """A new bucket."""
    return s3_server.bucket()


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> S3TableStore:
    """A store in it, below a prefix with characters that URLs treat apart."""
    return S3TableStore(f"s3://{bucket}/re sults+1/é", tmp_path / "scratch")


@pytest.fixture
def objects(s3_server: Any) -> Objects:
    """The endpoint."""
    return Objects("")
