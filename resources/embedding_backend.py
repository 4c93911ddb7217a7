"""Who reads and embeds the images of a split, as a Dagster resource: this process, or a Ray cluster."""

from __future__ import annotations

import os
from typing import Any, Literal

import dagster as dg
from pydantic import Field, ValidationError

from fastdup_dagster.settings import readable
from fastdup_dagster.stages.embedding_backend import EmbeddingBackend, LocalBackend
from fastdup_dagster.variables import VariableError


class EmbeddingBackendResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Threads of the process that runs the step, or workers of a Ray cluster; the tables are the same."""

    kind: Literal["local", "ray"] = Field(
        "local", description="`local`: threads of the step's process; `ray`: Ray Data"
    )
    address: str | None = Field(
        None, description="of a Ray cluster, host:port, or auto for the one of this machine; without, one is started"
    )
    workers: int | None = Field(None, ge=1, description="worker processes; without, as many as there is room for")
    cpus: int = Field(1, ge=1, description="cores, and decoding threads, of a worker")
    gpus: float = Field(0.0, ge=0, description="of a worker; with a provider that uses them")
    shard_size: int = Field(10_000, ge=1, description="images that a worker does in one go, at most")
    environment: str = Field(
        "FASTDUP_MODELS,AWS_ENDPOINT_URL,AWS_REGION,AWS_DEFAULT_REGION",
        description="variables that workers of a cluster get from here, by name; none that hold secrets",
    )

    @classmethod
    def from_environment(cls) -> EmbeddingBackendResource:
        """What FASTDUP_BACKEND and FASTDUP_RAY_ADDRESS, _WORKERS, … say; without them, the defaults.

        Raises:
            VariableError: for a value that is refused, naming the variable.
        """
        given = {name: value for name in cls.model_fields if (value := os.environ.get(variable(name)))}
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            wrong: dict[str, Any] = {str(one["loc"][0]): one for one in error.errors()}
            names = ", ".join(f"{variable(name)}={given.get(name)!r}" for name in wrong)
            raise VariableError(f"{names}: {readable(error)}") from error

    def choose(self) -> EmbeddingBackend:
        """The backend.

        Raises:
            ValueError: for options that do not fit.
        """
        if self.kind == "local":
            return LocalBackend()
        from fastdup_dagster.sharding.ray_backend import RayBackend
        from fastdup_dagster.sharding.ray_cluster import RayOptions

        names = tuple(name for given in self.environment.split(",") if (name := given.strip()))
        return RayBackend(RayOptions(self.address, self.workers, self.cpus, self.gpus, self.shard_size, names))


def variable(field: str) -> str:
    """The environment variable of a field."""
    return "FASTDUP_BACKEND" if field == "kind" else f"FASTDUP_RAY_{field.upper()}"
