"""What several groups of tests share: small images that look like photos, a Dagster home, an analysed data set."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import hypothesis
import numpy as np
import polars as pl
import pytest
from ports import reserved_port
from sqlalchemy import event
from sqlalchemy.engine import Engine
from workers import TOGETHER_AND_FIRST, Scheduling, file_of, steady_environment

from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.models import EmbeddingModel, load_model
from fastdup_dagster.schemas import EMBEDDINGS, KNN_GRAPH
from fastdup_dagster.settings import Settings
from fastdup_dagster.storage import TableStore

MakePhotos = Callable[..., list[Path]]

# The suite tries the same examples every time; `--hypothesis-profile=explore` looks for new ones, 500 a test:
#   pytest --hypothesis-profile=explore --hypothesis-show-statistics tests/sources/*_fuzz.py tests/images/*_fuzz.py
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None, max_examples=40)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=500)
hypothesis.settings.load_profile("suite")

steady_environment()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {file: number for number, file in enumerate(TOGETHER_AND_FIRST)}
    items.sort(key=lambda item: place.get(file_of(item.nodeid), len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """With `-n`, whatever `--dist` says."""
    config.option.loadscopereorder = False  # not the modules of the most tests first
    return Scheduling(config, log)


# What the machine decides, not what is installed on it.
_MACHINE = ("root reads everything", "root may read everything", "this file system takes UTF-8 names only")


def _no_skip(report: pytest.CollectReport | pytest.TestReport) -> None:
    """With FASTDUP_NO_SKIPS=1 (.ci/run) a test that is skipped for something that could be installed has failed."""
    if not (os.environ.get("FASTDUP_NO_SKIPS") and report.skipped and isinstance(report.longrepr, tuple)):
        return
    reason = report.longrepr[2]
    if not any(allowed in reason for allowed in _MACHINE):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may be skipped here, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _no_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _no_skip(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever its user has set and fetched: no home, no settings, no credentials, and an empty model store."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "DAGSTER_", "FASTDUP_"))]:
            if name != "FASTDUP_NO_SKIPS":
                patch.delenv(name)
        patch.setenv("FASTDUP_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture
def s3_credentials(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The AWS settings in the environment point to `s3_server` while the test runs."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _credentials_of_the_s3_server(request: pytest.FixtureRequest) -> None:
    """For tests that name `s3_server`, by whichever fixture; to all others AWS is as unknown as before."""
    if "s3_server" in request.fixturenames:
        request.getfixturevalue("s3_credentials")


@event.listens_for(Engine, "connect")
def _without_waiting_for_the_disk(connection: Any, _: object) -> None:
    """Dagster's SQLite files of a test need not survive a power cut; waiting for the disk is half of a run's time."""
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF")


def photo(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Colour patches, edges and grain: unlike any other seed's picture, and never blurry, dark or bright."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (rng.integers(2, 6), rng.integers(2, 6), 3), dtype=np.uint8)
    picture = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        corner, other = (tuple(int(v) for v in rng.integers(0, (width, height))) for _ in range(2))
        cv2.rectangle(picture, corner, other, tuple(int(v) for v in rng.integers(0, 256, 3)), int(rng.integers(1, 4)))
    return np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)


def write_photos(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Writes `count` different JPEGs, `photo-<seed>.jpg`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo-{seed:04}.jpg" for seed in range(first, first + count)]
    for seed, path in enumerate(paths, first):
        cv2.imwrite(str(path), photo(seed), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return paths


@pytest.fixture(scope="session")
def photos() -> MakePhotos:
    """Writes `count` different small photos into a folder: `photos(folder, count, first=0)`."""
    return write_photos


@pytest.fixture(scope="session")
def model() -> EmbeddingModel:
    """The bundled model."""
    return load_model(Settings())


@pytest.fixture(scope="session")
def embedded() -> Callable[..., pl.DataFrame]:
    """The table `embeddings` of given vectors: `embedded(vectors, ids=None)`; a vector that is None is invalid."""

    def make(vectors: Any, ids: Any = None) -> pl.DataFrame:
        rows = [None if row is None else np.asarray(row, dtype=np.float32).tolist() for row in vectors]
        width = next(len(row) for row in rows if row is not None)
        given = {
            "index": range(len(rows)) if ids is None else ids,
            "embedding": pl.Series(rows, dtype=pl.Array(pl.Float32, width)),
            "model": ["m"] * len(rows),
            "source_key": [""] * len(rows),
            "error_code": [None if row is not None else "CORRUPT_IMAGE" for row in rows],
        }
        return EMBEDDINGS.with_embedding_width(width).frame(given)

    return make


@pytest.fixture(scope="session")
def graph_of() -> Callable[..., pl.DataFrame]:
    """The table `knn_graph` of given edges: `graph_of((0, 1, 0.9), (1, 0, 0.9))`."""

    def make(*edges: tuple[int, int, float]) -> pl.DataFrame:
        columns = [[edge[part] for edge in edges] for part in range(3)]
        return KNN_GRAPH.frame(dict(zip(("from", "to", "distance"), columns, strict=True)) | {"rank": [1] * len(edges)})

    return make


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster home of this test alone."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    return folder


@dataclass
class Project:
    """A home with a data set in it, and an instance in memory."""

    home: Path
    images: Path
    instance: dg.DagsterInstance
    name: str = "pets"

    @property
    def store(self) -> TableStore:
        return TableStore(self.home / "store")

    def register(self, settings: dict[str, Any] | None = None, name: str | None = None) -> None:
        splits = {path.name: path.name for path in sorted(self.images.iterdir())}
        entry = DatasetEntry(root=str(self.images), splits=splits, settings=settings or {})
        register(name or self.name, entry)
        add_partitions(self.instance, name or self.name, list(splits))

    def run(self, partition: str, *assets: str, **config: Any) -> dg.ExecuteInProcessResult:
        """Materialises these assets of a partition; all of the split, or of the data set, if none is named."""
        defs = build_definitions(loggers={"quiet": _quiet})
        job = defs.resolve_job_def("analyse_split" if "/" in partition else "analyse_dataset")
        return job.execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
            run_config={"loggers": {"quiet": {}}, **config},
            raise_on_error=False,
        )


@dg.logger
def _quiet(_: dg.InitLoggerContext) -> Any:
    import logging

    made = logging.Logger("quiet")
    made.addHandler(logging.NullHandler())
    return made


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The data set `pets`: train and test of 10 and 8 photos; a copy in train, a leak into test; fully materialised.

    Shared by all tests: look, do not touch (`project` is a copy to work on). Its home is not in the environment.
    """
    folder = tmp_path_factory.mktemp("analysed")
    write_photos(folder / "images" / "train", 9)
    write_photos(folder / "images" / "test", 7, first=100)
    original = folder / "images" / "train" / "photo-0003.jpg"
    shutil.copy(original, folder / "images" / "train" / "copy.jpg")
    shutil.copy(original, folder / "images" / "test" / "leak.jpg")
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(folder / "home", folder / "images", instance)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(folder / "home"))
            patch.delenv("FASTDUP_DATASETS", raising=False)
            project.register({"num_threads": 2})
            for partition in ("pets/train", "pets/test", "pets"):
                assert project.run(partition).success
        yield project


@pytest.fixture
def project(analysed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A copy of `analysed` for one test, with its tables published, and nothing yet in its instance."""
    shutil.copytree(analysed.home, tmp_path / "home")
    shutil.copytree(analysed.images, tmp_path / "images")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FASTDUP_DATASETS", raising=False)
    with dg.DagsterInstance.ephemeral() as instance:
        made = Project(tmp_path / "home", tmp_path / "images", instance)
        (tmp_path / "home" / "datasets.yaml").unlink()
        made.register({"num_threads": 2})
        yield made


@dataclass
class S3Server:
    """moto's S3 server, over HTTP, in a process of its own."""

    environment: dict[str, str]
    client: Any
    buckets: int = 0

    @property
    def url(self) -> str:
        return self.environment["AWS_ENDPOINT_URL"]

    def bucket(self, **objects: bytes) -> str:
        """A new bucket with these objects; its name."""
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        self.client.create_bucket(Bucket=name)
        for key, data in objects.items():
            self.client.put_object(Bucket=name, Key=key, Body=data)
        return name

    def upload(self, folder: Path, prefix: str = "") -> str:
        """A new bucket with all files below a folder; its name."""
        files = (path for path in folder.rglob("*") if path.is_file())
        return self.bucket(**{f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files})


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server, to which the AWS settings in the environment point during each test that names it."""
    import boto3

    nowhere = str(tmp_path_factory.mktemp("aws") / "none")
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with reserved_port() as port:
        environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                client = boto3.client("s3")
            yield S3Server(environment, client)
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "moto's server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("moto's server does not answer")
