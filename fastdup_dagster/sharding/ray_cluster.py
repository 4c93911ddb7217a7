"""A Ray cluster to work on: one that is there, or one of this machine, started for a pass and stopped after it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MISSING = "the backend 'ray' needs Ray Data: pip install 'fastdup_dagster[ray]'"
_PATIENCE = 10.0
_OBJECT_STORE_BYTES = 100 * 1024 * 1024  # nothing but counts goes through it; Ray takes no less
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
# What Ray would tell its makers, and warn of; and a cluster of one's own is for nobody else: it listens on the
# loopback interface alone (this variable switches that on, whatever its name says). That it asks for a token is Ray's
# default, and is not said here: once Ray is imported, by whomever, it would not hear it.
_ALWAYS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_OF_OUR_OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True)
class RayOptions:
    """Where and how a pass runs on Ray.

    Attributes:
        address: `host:port` of a cluster, or `auto` for the one that this machine belongs to; None starts one here.
        workers: processes that work; None for as many as the cluster has room for.
        cpus: cores, and decoding threads, of a worker.
        gpus: of a worker, for a model that runs on them.
        shard_size: images of a shard at most.
        environment: names of variables whose values workers of a cluster get from here.

    Raises:
        ValueError: for a value that is none.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    shard_size: int = 10_000
    environment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("cpus", 1), ("gpus", 0), ("shard_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value!r} of the Ray backend: expected {least} or more")
        if self.address is not None and "://" in self.address:
            raise ValueError(
                f"address={self.address!r} of the Ray backend: expected host:port, or auto. Ray Client is not "
                "supported: run this process on a machine of the cluster"
            )
        if secret := [name for name in self.environment if any(word in name.upper() for word in _SECRETS)]:
            raise ValueError(
                f"{secret[0]} is not handed to workers: Ray shows their environment. Give the machines "
                "of the cluster credentials of their own (a role, or a profile)"
            )

    def handed_on(self) -> dict[str, str]:
        """The variables of `environment` that are set here."""
        return {name: os.environ[name] for name in self.environment if name in os.environ}


@contextlib.contextmanager
def cluster(options: RayOptions) -> Iterator[tuple[Any, bool]]:
    """The module `ray`, connected, and whether the cluster was started here; then it is stopped at the end.

    Raises:
        ModuleNotFoundError: if Ray Data is not installed, with the command that installs it.
        ConnectionError: if no cluster answers at the address.
    """
    ray = _import_ray(own=options.address is None)
    if ray.is_initialized():  # by whoever called, who will end it as well
        yield ray, False
        return
    shared: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signal_kept())
        if options.address is None:
            room = {"num_cpus": _local_workers(options) * options.cpus + 1, "object_store_memory": _OBJECT_STORE_BYTES}
            folder = stack.enter_context(_folder())
            stack.callback(ray.shutdown)
            ray.init("local", include_dashboard=False, _temp_dir=folder, **room, **shared)
        else:
            _require_answer(options.address)
            given = {"env_vars": options.handed_on()}
            stack.callback(ray.shutdown)
            ray.init(options.address, runtime_env=given if given["env_vars"] else None, **shared)
        yield ray, options.address is None


def workers_of(ray: Any, options: RayOptions) -> int:
    """How many workers share a pass.

    Raises:
        RuntimeError: if no machine of the cluster has room for one.
    """
    room = sum(int(node["Resources"]["CPU"] // options.cpus) for node in machines(ray, options))
    if not room:
        raise RuntimeError(
            f"no machine of the Ray cluster has {options.cpus} CPUs for a worker: ask for fewer (FASTDUP_RAY_CPUS)"
        )
    if options.address is None and not options.workers:
        return min(room, _local_workers(options))
    return options.workers or room


def machines(ray: Any, options: RayOptions) -> list[dict[str, Any]]:
    """The nodes of the cluster that have room for a worker."""
    alive = (node for node in ray.nodes() if node["Alive"])
    return [node for node in alive if node["Resources"].get("CPU", 0) >= options.cpus]


def _require_answer(address: str) -> None:
    """Ray itself would try for two minutes, and say little."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():  # auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}): start one with `ray start --head`, "
            "or correct FASTDUP_RAY_ADDRESS"
        ) from error


def _local_workers(options: RayOptions) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return options.workers or max(1, cores // options.cpus)


def _import_ray(own: bool) -> Any:
    """Ray, with what it reads from the environment when it is imported; what a person has set stays."""
    for name, value in (_ALWAYS | (_OF_OUR_OWN if own else {})).items():
        os.environ.setdefault(name, value)
    if own and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Else Ray writes one into the home folder. It is of this process and those that it starts alone.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_MISSING) from error
    return ray


@contextlib.contextmanager
def _signal_kept() -> Iterator[None]:
    """Puts back what SIGTERM does: Ray takes it over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder for a cluster's sockets and logs: a path of a socket has at most some 100 characters."""
    folder = tempfile.mkdtemp(prefix="ray-", dir=None if len(tempfile.gettempdir()) < 30 else "/tmp")  # noqa: S108
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
