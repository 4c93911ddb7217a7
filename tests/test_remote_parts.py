"""Archives and videos in a bucket: read by ranges, the same tables as on disk."""

from __future__ import annotations

import io
import random
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import polars as pl
import pytest
from faulty_proxy import faulty_proxy

import fastdup_dagster as fastdup
from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.images import read_bytes
from fastdup_dagster.models.captioning import load_captioner
from fastdup_dagster.schemas import TABLES
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import blocks, find_splits, images_outside, open_source, path_of
from fastdup_dagster.stages.captions import stage_captions
from fastdup_dagster.stages.chunk_pool import worked
from fastdup_dagster.stages.decode_worker import Task, reading_runs
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.stages.read_ahead import remote_reader
from fastdup_dagster.stages.split_listing import list_split
from fastdup_dagster.storage import TableStore, table_digest

NAMES = ("a.tar", "b.tar.gz", "c.zip", "d.avi")
COUNT = 12


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, photos: Callable[..., list[Path]]) -> Path:
    """A folder of three archives and a video, with the same photos."""
    folder = tmp_path_factory.mktemp("parts")
    made = photos(folder / "photos", COUNT)
    (folder / "in").mkdir()
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz")):
        with tarfile.open(folder / "in" / name, mode) as tar:
            for photo in made:
                tar.add(photo, f"x/{photo.name}")
    with zipfile.ZipFile(folder / "in" / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for photo in made:
            archive.write(photo, f"x/{photo.name}")
    writer = cv2.VideoWriter(str(folder / "in" / "d.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 1, (128, 96))
    for photo in made:
        writer.write(cv2.imread(str(photo)))
    writer.release()
    return folder / "in"


@pytest.fixture(scope="module")
def bucket(s3_server: Any, local: Path) -> str:
    """The same in a bucket, below `my set`."""
    return s3_server.upload(local, "my set/")


def digests(work_dir: Path) -> dict[str, str]:
    names = ("image_manifest", "embeddings", "img_stats", "similarity", "components")
    store = TableStore(work_dir)
    return {n: table_digest(TABLES[n].with_embedding_width(576), store.read(n, "run/all")) for n in names}


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory, local: Path) -> dict[str, str]:
    """The tables of a run on the folder."""
    work_dir = tmp_path_factory.mktemp("disk")
    fastdup.create(work_dir, local).run(print_summary=False, num_threads=2)
    return digests(work_dir)


def test_archives_and_a_video_in_a_bucket_give_the_tables_of_the_folder(
    bucket: str, on_disk: dict[str, str], s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(s3_server.url, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        fd = fastdup.create(tmp_path, f"s3://{bucket}/my set")
        fd.run(print_summary=False, num_threads=2)
    assert digests(tmp_path) == on_disk
    assert fd.num_instances() == COUNT * len(NAMES)
    assert f"s3://{bucket}/my set/a.tar/x/photo-0003.jpg" in set(fd.annotations()["filename"])
    # Listed once and read once or twice, by either thread: never a request for each member.
    asked = {name: proxy.paths[f"/{bucket}/my%20set/{name}"] for name in NAMES}
    assert all(0 < asked[name] < COUNT for name in NAMES[:3]), asked
    page = fd.vis.duplicates_gallery(save_path=tmp_path / "pages", show=False)
    assert "data:image/jpeg" in Path(page).read_text()


def _packed(folder: Path) -> dict[str, bytes]:
    """600 members of 1 KB and more as a.tar, a.tar.gz and a.zip, and the first two cut off in the middle of one."""
    dice = random.Random(0)
    members = {f"{number:03}.jpg": dice.randbytes(dice.randint(500, 2500)) for number in range(600)}
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as tar:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    whole = {name: (folder / name).read_bytes() for name in ("a.tar", "a.tar.gz", "a.zip")}
    return whole | {f"cut-{name}": whole[name][: len(whole[name]) * 2 // 3] for name in ("a.tar", "a.tar.gz")}


def _read_by_threads(place: str | Path, threads: int) -> dict[str, object]:
    """Bytes, or the reason that there are none, of all members, read as a pass does it."""
    entries = list(open_source(place).entries())
    tasks = [
        Task(position, position, entry.uri, frozenset(), file_size=entry.file_size)
        for position, entry in enumerate(entries)
        if entry.error_code is None
    ]
    found: dict[str, object] = {entry.filename: entry.error for entry in entries}
    with remote_reader(tasks, threads) as (read, most_bytes):

        def work(chunk: list[Task]) -> list[tuple[str, bytes]]:
            made = []
            for task in chunk:
                made.append((entries[task.position].filename, read(task.uri)))
                time.sleep(0.0005)  # as if it were decoded: the other threads have their turn
            return made

        for made in worked(reading_runs(tasks, most_bytes), work, threads, 2 * threads):
            found.update(made)
    return found


@pytest.mark.parametrize("block", [32 * 1024, 256 * 1024], ids=["under a chunk", "over a chunk"])
def test_an_archive_is_transferred_once_to_be_listed_and_once_to_be_read(
    block: int, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdup_dagster.sources.opening.BLOCK_BYTES", block)
    for name, data in _packed(tmp_path).items():
        bucket = s3_server.bucket(**{name: data})
        (tmp_path / name).write_bytes(data)
        with faulty_proxy(s3_server.url, share=0.0) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            there = _read_by_threads(f"s3://{bucket}/{name}", threads=4)
            monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
        assert there == _read_by_threads(tmp_path / name, threads=4)
        assert sum(isinstance(read, bytes) for read in there.values()) >= 399
        # The directory of a zip lies at its end, behind it up to 64 KiB of a comment.
        listed = max(block, 2**16) if name == "a.zip" else len(data)
        assert proxy.sent[f"/{bucket}/{name}"] <= listed + len(data) + 2**16, (name, len(data), proxy.sent)
        assert not blocks.are_shared()


def test_an_archive_that_is_unchanged_is_not_read_again(
    bucket: str, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = fastdup.create(tmp_path, f"s3://{bucket}/my set/a.tar")
    fd.run(print_summary=False)
    monkeypatch.setattr("fastdup_dagster.stages.embedding_backend.DecodeWorker.__call__", None)
    fd.run(print_summary=False)
    assert fd.num_instances() == COUNT


@pytest.mark.parametrize("name", NAMES)
def test_a_part_that_is_wanted_alone_is_read_alone(
    name: str, bucket: str, local: Path, s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = list(open_source(local / name).entries())
    there = list(open_source(f"s3://{bucket}/my set/{name}").entries())
    assert [entry.filename for entry in there] == [entry.filename for entry in here]
    head = s3_server.client.head_object(Bucket=bucket, Key=f"my set/{name}")
    assert {entry.etag for entry in there} == {head["ETag"].strip('"')}
    assert path_of(there[5].uri).startswith(f"s3://{bucket}/my set/{name}/".encode())
    with faulty_proxy(s3_server.url, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        assert read_bytes(there[5].uri) == read_bytes(here[5].uri)
        assert proxy.counts.total() == 1 or name in ("b.tar.gz", "d.avi")  # of these the size is asked for, too


def test_a_member_of_a_tar_brings_no_more_than_itself(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdup_dagster.sources.object_store import ObjectStore

    (entry, *_) = open_source(f"s3://{bucket}/my set/a.tar").entries()
    sizes = []
    real = ObjectStore.get_tagged

    def watched(*given: Any) -> Any:
        sizes.append(len((answer := real(*given))[0]))
        return answer

    monkeypatch.setattr(ObjectStore, "get_tagged", watched)
    assert len(read_bytes(entry.uri)) == entry.file_size
    assert sizes and sum(sizes) <= (entry.file_size or 0) + 2048


def test_a_member_is_searched_and_shown_by_the_name_that_results_give_it(bucket: str, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path, f"s3://{bucket}/my set")
    fd.run(print_summary=False, num_threads=2)
    fd.init_search(k=3)
    name = f"s3://{bucket}/my set/a.tar/x/photo-0003.jpg"
    found = fd.search(name)
    assert name in set(found["to"]) and found["distance"].iloc[0] > 0.99
    page = fastdup.create_duplicates_gallery(found, save_path=tmp_path / "found.html", show=False)
    assert "data:image/jpeg" in Path(page).read_text()


def test_images_come_before_archives_and_tar_only_turns_that_round(bucket: str, s3_server: Any) -> None:
    for key in ("mixed/1.jpg", "mixed/t.tar"):
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"x" * 1024)
    images = open_source(f"s3://{bucket}/mixed")
    assert [entry.filename for entry in images.entries()] == ["1.jpg"]
    assert images.notes == ["left out, because images and archives or videos are not mixed: 1 .tar"]
    archives = open_source(f"s3://{bucket}/mixed", Settings(tar_only=True))
    assert [(entry.filename, entry.error_code) for entry in archives.entries()] == [("t.tar", "READ_ERROR")]
    assert "left out, because images and archives or videos are not mixed: 1 .jpg" in archives.notes


def test_archives_called_like_splits_are_splits_of_a_bucket(bucket: str, s3_server: Any) -> None:
    for key in ("splits/train.tar", "splits/Test.zip", "splits/other.tar", "splits/notes.txt"):
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    root = f"s3://{bucket}/splits"
    assert find_splits(root) == {"test": "Test.zip", "train": "train.tar"}
    assert images_outside(root, ["Test.zip", "train.tar"]) == 1


def test_copied_archives_are_removed_if_asked_for(bucket: str, on_disk: dict[str, str], tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path, f"s3://{bucket}/my set")
    fd.run(sync_s3_to_local=True, print_summary=False, num_threads=2)
    copies = tmp_path / "downloads" / bucket / "my set"
    assert sorted(path.name for path in copies.iterdir()) == list(NAMES)
    assert digests(tmp_path) == on_disk
    assert str(copies / "a.tar" / "x" / "photo-0003.jpg") in set(fd.annotations()["filename"])
    fd.run(sync_s3_to_local=True, delete_tar=True, print_summary=False, num_threads=2)
    assert not (tmp_path / "downloads").exists()
    assert digests(tmp_path) == on_disk
    assert f"s3://{bucket}/my set/a.tar/x/photo-0003.jpg" in set(fd.annotations()["filename"])
    assert not any("delete_tar" in note for note in fd.config["notes"])


def test_annotations_in_a_bucket_say_labels_and_splits(s3_server: Any) -> None:
    rows = "filename,label,subset\ntrain/1.jpg,cat,a\ntest/2.jpg,dog,b\ntest/gone.jpg,dog,b\n"
    bucket = s3_server.bucket(**{"train/1.jpg": b"1", "test/2.jpg": b"2", "test/3.jpg": b"3", "l.csv": rows.encode()})

    def listed(split: str, **given: Any) -> pl.DataFrame:
        entry = DatasetEntry(root=f"s3://{bucket}", annotations="l.csv", **given)
        return list_split(entry, split, Settings()).frame.select("filename", "label", "error_code")

    places = {"train": "train", "test": "test"}
    assert listed("train", splits=places).rows() == [("1.jpg", "cat", None)]
    assert sorted(listed("test", splits=places).rows()) == [
        ("2.jpg", "dog", None),
        ("3.jpg", None, None),
        ("test/gone.jpg", "dog", "MISSING_FILE"),
    ]
    by_column = listed("y", splits={"x": "a", "y": "b"}, split_column="subset")
    assert by_column.rows() == [("test/2.jpg", "dog", None), ("test/gone.jpg", "dog", "MISSING_FILE")]


def test_captions_of_archives_and_a_video_in_a_bucket_are_those_of_the_folder(
    bucket: str, local: Path, s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(num_threads=2)
    captioner = load_captioner("tags", threads=2)

    def captions(source: str, store: TableStore) -> list[str]:
        manifest = list_images(open_source(source), settings).frame
        with stage_captions(manifest, settings, captioner, 8, store, "run/all") as done:
            return done.staged.scan().collect()["caption"].to_list()

    with faulty_proxy(s3_server.url, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        there = captions(f"s3://{bucket}/my set", TableStore(tmp_path / "there"))
        asked = {name: proxy.paths[f"/{bucket}/my%20set/{name}"] for name in NAMES}
    assert there == captions(str(local), TableStore(tmp_path / "here"))
    assert len(there) == COUNT * len(NAMES)
    assert all(0 < asked[name] < COUNT for name in NAMES[:3]), asked
