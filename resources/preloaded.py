"""What a forkserver loads once, so that no step's process has to: the code location, and Great Expectations."""

from fastdup_dagster import definitions
from fastdup_dagster.resources.great_expectations import imported

__all__ = ["definitions"]

imported()
