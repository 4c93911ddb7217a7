"""Buckets in place of folders, through both faces: the same tables, whatever the network does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner
from faulty_proxy import faulty_proxy

import fastdup_dagster as fastdup
from fastdup_dagster.cli import main
from fastdup_dagster.datasets import load_dataset
from fastdup_dagster.schemas import TABLES
from fastdup_dagster.storage import TableStore, table_digest

TABLES_OF_A_RUN = ("image_manifest", "embeddings", "img_stats", "knn_graph", "similarity", "outliers", "components")
SECRET = "secret-of-the-tests"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, photos: Callable[..., list[Path]]) -> Path:
    """Photos in two folders, a copy, and some that are broken."""
    folder = tmp_path_factory.mktemp("remote") / "images"
    made = photos(folder / "train", 24)
    photos(folder / "test", 12, first=200)
    shutil.copy(made[3], folder / "train" / "a copy + 1%.jpg")
    (folder / "train" / "broken.jpg").write_text("not an image")
    (folder / "train" / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def bucket(s3_server: Any, local: Path) -> str:
    """The same in a bucket, below `some/set`."""
    return s3_server.upload(local, "some/set/")


@pytest.fixture(scope="module")
def run_local(tmp_path_factory: pytest.TempPathFactory, local: Path) -> fastdup.Fastdup:
    """A run on the folder."""
    fd = fastdup.create(tmp_path_factory.mktemp("local_run"), local)
    fd.run(print_summary=False, num_threads=2)
    return fd


def digests(work_dir: Path, key: str = "run/all") -> dict[str, str]:
    store = TableStore(work_dir)
    return {n: table_digest(TABLES[n].with_embedding_width(576), store.read(n, key)) for n in TABLES_OF_A_RUN}


def test_a_bucket_gives_the_tables_of_the_folder(bucket: str, run_local: Any, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path, f"s3://{bucket}/some/set")
    fd.run(print_summary=False, num_threads=2)
    assert digests(tmp_path) == digests(run_local.work_dir)
    names = fd.annotations(valid_only=False)["filename"]
    assert f"s3://{bucket}/some/set/train/a copy + 1%.jpg" in set(names)
    assert SECRET not in (tmp_path / "config.json").read_text()
    page = fd.vis.duplicates_gallery(save_path=tmp_path / "pages", show=False)
    assert "data:image/jpeg" in Path(page).read_text()


def test_faults_on_the_way_change_no_table(
    bucket: str, run_local: Any, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(s3_server.url, share=0.1, seed=5) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        fastdup.create(tmp_path, f"s3://{bucket}/some/set").run(print_summary=False, num_threads=2)
    assert len(proxy.counts) == 5, proxy.counts  # every kind of fault, and answers without one
    assert digests(tmp_path) == digests(run_local.work_dir)


def test_what_cannot_be_read_becomes_rows(
    bucket: str, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdup_dagster.sources.remote_errors._FIRST_DELAY", 0.001)
    from fastdup_dagster.stages import embedding_backend

    real = embedding_backend.remote_reader
    with faulty_proxy(s3_server.url, share=0.0, faults=("503",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)

        def overloaded(*given: Any) -> Any:
            proxy.share = 0.9
            return real(*given)

        monkeypatch.setattr(embedding_backend, "remote_reader", overloaded)
        fd = fastdup.create(tmp_path, f"s3://{bucket}/some/set/train")
        fd.run(print_summary=False, num_threads=2)
        lost = fd.invalid_instances().query("error_code == 'READ_ERROR'")
        assert len(lost) and lost["error"].str.contains("503, 8 times").all()
        proxy.share = 0.0
        monkeypatch.setattr(embedding_backend, "remote_reader", real)
        fd.run(print_summary=False, num_threads=2)  # they are tried again
    assert sorted(fd.invalid_instances()["error_code"]) == ["CORRUPT_IMAGE", "ZERO_SIZE_FILE"]


def test_unchanged_objects_are_not_read_again(
    bucket: str, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(s3_server.url, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        fd = fastdup.create(tmp_path, f"s3://{bucket}/some/set/test")
        fd.run(print_summary=False)
        proxy.paths.clear()
        fd.run(print_summary=False)
    assert [path for path in proxy.paths if "photo-" in path] == []


def test_annotations_name_objects_in_every_way(bucket: str, s3_server: Any, tmp_path: Path) -> None:
    s3_server.client.put_object(Bucket=bucket, Key="elsewhere/x.bin", Body=_photo(s3_server, bucket))
    root = f"s3://{bucket}/some/set/test"
    names = ["photo-0200.jpg", f"{root}/photo-0201.jpg", f"s3://{bucket}/elsewhere/x.bin", "gone.jpg"]
    fd = fastdup.create(tmp_path, root)
    fd.run(annotations=pd.DataFrame({"filename": names, "label": list("abcd")}), print_summary=False)
    found = fd.annotations(valid_only=False).set_index("label")
    assert [found.loc[label, "error_code"] for label in "abcd"] == ["VALID", "VALID", "VALID", "MISSING_FILE"]
    assert found.loc["a", "filename"] == f"{root}/photo-0200.jpg"
    assert fd.num_instances() == 3


def _photo(s3_server: Any, bucket: str) -> bytes:
    return s3_server.client.get_object(Bucket=bucket, Key="some/set/train/photo-0005.jpg")["Body"].read()


def test_boxes_in_a_bucket_are_cut_from_one_read(
    bucket: str, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = pd.DataFrame({"filename": ["photo-0200.jpg"] * 5, "col_x": range(5), "row_y": 0, "width": 40, "height": 40})
    with faulty_proxy(s3_server.url, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        fd = fastdup.create(tmp_path, f"s3://{bucket}/some/set/test")
        fd.run(annotations=boxes, print_summary=False)
    assert fd.num_instances() == 5
    assert [n for path, n in proxy.paths.items() if "photo-0200" in path] == [1]


def test_search_and_feature_vectors_take_remote_images(
    bucket: str, run_local: Any, local: Path, tmp_path: Path
) -> None:
    fd = fastdup.create(tmp_path / "new", local)
    place = f"s3://{bucket}/some/set/train/photo-0003.jpg"
    remote, name = fd.feature_vector(place)
    assert name == place
    assert (remote == fd.feature_vector(local / "train" / "photo-0003.jpg")[0]).all()
    vectors, names = fd.feature_vectors(f"s3://{bucket}/some/set/test")
    assert len(vectors) == 12 and names[0] == f"s3://{bucket}/some/set/test/photo-0200.jpg"
    with pytest.raises(ValueError, match="is a folder"):
        fd.feature_vector(f"s3://{bucket}/some/set/test")
    run_local.init_search(k=2)
    found = run_local.search(place)
    assert found["from"][0] == place and found["distance"][0] > 0.99
    with pytest.raises(ValueError, match="MISSING_FILE"):
        run_local.search(f"s3://{bucket}/gone.jpg")


@pytest.fixture
def in_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs the command line in a home of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(main, list(arguments))

    yield call


def test_the_command_line_runs_a_prefix(
    in_home: Callable[..., Any], home: Path, local: Path, s3_server: Any, tmp_path: Path
) -> None:
    for split, first, last in (("train", 0, 5), ("test", 200, 203)):
        for number in range(first, last):
            name = f"{split}/photo-{number:04}.jpg"
            (tmp_path / "few" / split).mkdir(parents=True, exist_ok=True)
            shutil.copy(local / name, tmp_path / "few" / name)
    bucket = s3_server.upload(tmp_path / "few", "set/")
    s3_server.client.put_object(Bucket=bucket, Key="set/stray.jpg", Body=b"x")
    done = in_home("run", f"s3://{bucket}/set/", "--name", "far")
    assert done.exit_code == 0, done.output
    assert f"1 images of s3://{bucket}/set lie in none of the splits" in " ".join(done.output.split())
    entry = load_dataset("far")
    assert (entry.root, entry.splits) == (f"s3://{bucket}/set", {"test": "test", "train": "train"})
    fastdup.create(tmp_path / "near", tmp_path / "few" / "train").run(print_summary=False)
    assert digests(home / "store", "far/train") == digests(tmp_path / "near")
    found = in_home("search", f"s3://{bucket}/set/train/photo-0003.jpg", "--name", "far", "--k", "1", "--json")
    assert json.loads(found.stdout)[0]["filename"] == f"s3://{bucket}/set/train/photo-0003.jpg"


def test_a_bucket_that_is_not_there_is_wrong_usage(in_home: Callable[..., Any], s3_server: Any) -> None:
    done = in_home("run", "s3://no-such-bucket/photos", "--name", "far")
    assert done.exit_code == 2 and "no bucket 'no-such-bucket'" in done.output
    refused = in_home("run", "s3://user:hush@bucket/photos", "--name", "far")
    assert refused.exit_code == 2 and "refused" in refused.output and "hush" not in refused.output


def test_given_embeddings_may_be_of_objects_that_nobody_looks_at(tmp_path: Path) -> None:
    names = [f"s3://nowhere/{n} %.jpg" for n in range(6)]
    vectors = pl.Series(range(24)).to_numpy().reshape(6, 4) % 7 + 1
    fd = fastdup.create(tmp_path)
    fd.run(annotations=pd.DataFrame({"filename": names}), embeddings=vectors, print_summary=False)
    assert list(fd.annotations()["filename"]) == names


def test_images_are_copied_first_if_asked_for_and_only_once(
    bucket: str, run_local: Any, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = fastdup.create(tmp_path, f"s3://{bucket}/some/set")
    fd.run(sync_s3_to_local=True, print_summary=False, num_threads=2)
    assert digests(tmp_path) == digests(run_local.work_dir)
    names = list(fd.annotations()["filename"])
    assert all(Path(name).is_file() for name in names)
    assert str(tmp_path / "downloads" / bucket / "some" / "set" / "test" / "photo-0200.jpg") in names
    (tmp_path / "downloads" / bucket / "some" / "set" / "test" / "photo-0201.jpg").unlink()
    with faulty_proxy(s3_server.url, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        fd.run(sync_s3_to_local=True, print_summary=False, num_threads=2)
    assert [path for path in proxy.paths if ".jpg" in path] == [f"/{bucket}/some/set/test/photo-0201.jpg"]
    assert digests(tmp_path) == digests(run_local.work_dir)


def test_copies_are_removed_if_asked_for_and_nothing_else_is(bucket: str, run_local: Any, tmp_path: Path) -> None:
    mine = tmp_path / "downloads" / bucket / "some" / "set" / "test"
    mine.mkdir(parents=True)
    (mine / "mine.jpg").write_text("mine")
    (mine / "photo-0200.jpg").write_text("mine too")
    fd = fastdup.create(tmp_path, f"s3://{bucket}/some/set")
    fd.run(sync_s3_to_local=True, delete_img=True, print_summary=False, num_threads=2)
    left = [path for path in (tmp_path / "downloads").rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert {path.name: path.read_text() for path in left} == {"mine.jpg": "mine", "photo-0200.jpg": "mine too"}
    lost = fd.invalid_instances().query("error_code == 'READ_ERROR'")
    assert list(lost["filename"]) == [f"s3://{bucket}/some/set/test/photo-0200.jpg"]
    page = fd.vis.duplicates_gallery(save_path=tmp_path / "pages", show=False)
    assert "data:image/jpeg" in Path(page).read_text()


def test_delete_img_removes_no_file_of_ones_own(local: Path, tmp_path: Path) -> None:
    before = sorted(local.rglob("*"))
    fd = fastdup.create(tmp_path, local / "test")
    fd.run(sync_s3_to_local=True, delete_img=True, print_summary=False, num_threads=2)
    assert sorted(local.rglob("*")) == before and fd.num_instances() == 12
