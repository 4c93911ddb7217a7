"""YOLO in a bucket says what it says in a folder: images, labels and lists are found below the prefix of the YAML."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import faulty_proxy

import fastdup_dagster as fastdup
from fastdup_dagster.annotations import read_annotations
from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.images import image_size
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import NothingFoundError, open_source
from fastdup_dagster.sources.labels import LabelSet
from fastdup_dagster.sources.remote_errors import AccessDeniedError, NoSuchBucketError, RemoteFileNotFoundError
from fastdup_dagster.sources.yolo import open_yolo
from fastdup_dagster.sources.yolo_labels import read_yolo
from fastdup_dagster.stages.split_listing import list_split

_YAML = """path: {path}
train: images/train
val: [lists/val.txt, images/more]
names: {names}
"""
_LABELS = {
    "labels/train/photo-0000.txt": b"\xef\xbb\xbf0 .5 .5 .5 .5\r\n\r\n1 .2 .2 .2 .3\r\n9 .5 .5 .3 .3\r\n",
    "labels/train/photo-0001.txt": b"0 .1 .1 .9 .1 .5 .9\rcat .5 .5 .1 .1\r1 .9 .9 .8 .8\r",
    "labels/train/gone.txt": b"0 .5 .5 .5 .5\n",
    "labels/train/classes.txt": b"cat\ndog\n",
    "labels/val/photo-0010.txt": "0 .5 .5 .5 .5\n".encode("utf-16"),
    "labels/more/deep/photo-0020.txt": b"",
}


@pytest.fixture
def folder(tmp_path: Path, photos: Callable[..., Any]) -> Path:
    """Photos in three folders, some labelled, by lines of every kind."""
    root = tmp_path / "set"
    photos(root / "images" / "train", 3)
    (root / "images" / "train" / "photo-0001.jpg").rename(root / "images" / "train" / "photo-0001.JPG")
    photos(root / "images" / "val", 2, 10)
    photos(root / "images" / "more" / "deep", 1, 20)
    for name, data in _LABELS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "lists").mkdir()
    rows = "../images/val/photo-0010.jpg\r\nimages\\val\\photo-0011.jpg\r\n\r\nimages/val/none.jpg\r\n"
    (root / "lists" / "val.txt").write_bytes(rows.encode())
    (root / "data.yaml").write_text(_YAML.format(path=".", names="[cat, dog]"))
    (root / "conf").mkdir()
    (root / "conf" / "data.yaml").write_text(_YAML.format(path="..", names="{0: cat, 1: dog}"))
    return root


def _shown(found: LabelSet, root: str) -> Any:
    """What was read, without where the data set is."""
    images = [(image.filename.removeprefix(root), image.split, image.fields) for image in found.images]
    boxes = [
        (b.image, b.label, repr(b.box), b.fields, None if b.error is None else b.error.replace(root, ""))
        for b in found.boxes
    ]
    notes = [note.replace(root, "") for note in found.notes]
    return images, boxes, notes, found.header


@pytest.mark.parametrize("yaml", ["data.yaml", "conf/data.yaml"])
def test_a_data_set_in_a_bucket_is_that_of_the_folder_whatever_the_server_does(
    yaml: str, s3_server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_server.upload(folder, "a b/")
    here = read_yolo(folder / yaml, image_size)
    with faulty_proxy(s3_server.url, share=0.2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        there = read_yolo(f"s3://{bucket}/a b/{yaml}", image_size)
    assert sum(proxy.counts[fault] for fault in ("503", "500", "reset", "truncated")) > 0
    assert _shown(there, f"s3://{bucket}/a b/") == _shown(here, f"{folder}/")
    names = [Path(image.filename).name for image in here.images]
    assert names == [
        "photo-0000.jpg", "photo-0001.JPG", "photo-0002.jpg", "photo-0010.jpg", "photo-0011.jpg", "none.jpg",
        "photo-0020.jpg",
    ]  # fmt: skip
    assert [box.label for box in here.boxes] == ["cat", "dog", "9", "cat", None, "dog", "cat"]
    bad = here.boxes[4].error
    assert bad is not None and bad.startswith(f"{folder}/labels/train/photo-0001.txt:2: ")
    assert f"with .txt, and left out: {folder}/labels/train/gone.txt" in here.notes[-2]
    assert any("1 labels are of classes that" in note for note in here.notes)


def test_the_listing_of_a_bucket_is_that_of_the_folder_and_asks_for_no_image(s3_server: Any, folder: Path) -> None:
    bucket = s3_server.upload(folder)
    here = [entry.filename for entry in open_source(folder / "data.yaml").entries()]
    with faulty_proxy(s3_server.url, share=0) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        there = list(open_source(f"s3://{bucket}/data.yaml").entries())
    assert [entry.filename for entry in there] == here
    assert [entry.error_code for entry in there if entry.error_code] == ["MISSING_FILE"]
    assert f"/{bucket}/images/train/photo-0000.jpg" not in proxy.paths


def test_a_run_on_a_bucket_gives_the_rows_of_a_run_on_the_folder(s3_server: Any, folder: Path, tmp_path: Path) -> None:
    bucket = s3_server.upload(folder, "set/")
    shown = ["filename", "label", "split", "error_code", "col_x", "row_y", "width", "height"]
    frames = []
    for name, place in {"here": str(folder / "data.yaml"), "there": f"s3://{bucket}/set/data.yaml"}.items():
        fd = fastdup.create(tmp_path / name, place)
        fd.run(run_cc=False)
        rows = fd.annotations(valid_only=False)[shown]
        rows["filename"] = rows["filename"].str.replace(re.escape(place.rpartition("/")[0]) + "/", "", regex=True)
        frames.append(rows)
    assert frames[0].equals(frames[1])
    codes = frames[0]["error_code"].value_counts().to_dict()
    copied = fd.write_yolo(tmp_path / "out", copy_images=True).parent / "images"
    assert (copied / "val/more/deep/photo-0020.jpg").read_bytes() == (
        folder / "images/more/deep/photo-0020.jpg"
    ).read_bytes()
    with pytest.raises(ValueError, match=r"no link leads to s3://.*copy_images=True"):
        fd.write_yolo(tmp_path / "links")
    assert codes["BAD_BOUNDING_BOX"] == 2 and codes["MISSING_ANNOTATION"] == 3 and codes["MISSING_FILE"] == 1


def test_a_dagster_split_takes_its_boxes_from_the_yaml(s3_server: Any, folder: Path) -> None:
    bucket = s3_server.upload(folder, "set/")
    entry = DatasetEntry(
        root=f"s3://{bucket}/set", splits={"t": "train"}, annotations="data.yaml", split_column="split"
    )
    frame = list_split(entry, "t", Settings()).frame
    assert frame["label"].to_list() == ["cat", "dog", "9", "cat", None, "dog", None]
    assert [uri.rpartition("/")[2] for uri in frame["uri"]][-1] == "photo-0002.jpg"


def test_a_yaml_on_this_machine_may_name_a_bucket(s3_server: Any, folder: Path, tmp_path: Path) -> None:
    bucket = s3_server.upload(folder)
    yaml = tmp_path / "remote.yaml"
    yaml.write_text(_YAML.format(path=f"s3://{bucket}", names="[cat, dog]"))
    here, there = read_yolo(folder / "data.yaml", image_size), read_yolo(yaml, image_size)
    assert [box.box for box in there.boxes if not box.error] == [box.box for box in here.boxes if not box.error]
    yaml.write_text(f"train: s3://{bucket}/images/train\nnames: [cat]\n")
    assert [image.filename for image in read_yolo(yaml, image_size).images] == [
        f"s3://{bucket}/images/train/{name}" for name in ("photo-0000.jpg", "photo-0001.JPG", "photo-0002.jpg")
    ]


def test_splits_that_are_said_to_lie_above_the_yaml_but_lie_beside_it_are_found(s3_server: Any, folder: Path) -> None:
    (folder / "data.yaml").write_text("train: ../images/train\nval: ../lists/val.txt\nnames: [cat, dog]\n")
    bucket = s3_server.upload(folder, "set/")
    here, there = (read_annotations(place) for place in (folder / "data.yaml", f"s3://{bucket}/set/data.yaml"))
    assert len(here) == len(there) == 10


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("train: gone", FileNotFoundError, "train='gone': no such folder or list file: s3://{}/in/gone"),
        ("train: gone.txt", FileNotFoundError, "train='gone.txt': no such folder or list file: s3://{}/in/gone.txt"),
        ("path: /data/set\ntrain: images", ValueError, "path='/data/set': a path of a machine"),
        ("path: ../../..\ntrain: images", ValueError, "path='../../..': it leads out of the bucket"),
        ("train: https://example.com/a.zip", NotImplementedError, "only s3:// and minio://"),
        ("train: images.zip", ValueError, "expected a folder, or a text file"),
        ("train: labels", NothingFoundError, "no images found"),
        ("train: [", ValueError, "not YAML"),
        ("path: s3://no-such-bucket\ntrain: images", NoSuchBucketError, "no-such-bucket"),
    ],
)
def test_what_is_no_data_set_is_refused_by_name(
    text: str, error: type[Exception], message: str, s3_server: Any
) -> None:
    objects = {"in/data.yaml": text.encode(), "in/images.zip": b"x", "in/labels/a.txt": b"0 1 1 1 1"}
    bucket = s3_server.bucket(**objects)
    with pytest.raises(error, match=re.escape(message.format(bucket))):
        read_yolo(f"s3://{bucket}/in/data.yaml", image_size)


def test_a_yaml_that_is_not_there_or_denied_is_named(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_server.bucket(**{"a.yaml": b"train: images"})
    with pytest.raises(RemoteFileNotFoundError, match=f"s3://{bucket}/b.yaml"):
        read_annotations(f"s3://{bucket}/b.yaml")
    with faulty_proxy(s3_server.url, share=1, faults=("403",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(AccessDeniedError, match=f"s3://{bucket}/a.yaml: access denied"):
            read_annotations(f"s3://{bucket}/a.yaml")


def test_a_label_file_that_is_denied_is_a_row_that_names_it(
    s3_server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_server.upload(folder)
    with faulty_proxy(s3_server.url, share=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        begin = proxy.begin
        monkeypatch.setattr(
            proxy, "begin", lambda path: begin(path) or ("403" if path.endswith("photo-0001.txt") else None)
        )
        found = read_yolo(f"s3://{bucket}/data.yaml", image_size)
    (bad,) = [box for box in found.boxes if box.error is not None]
    assert bad.image == 1 and str(bad.error).startswith(f"s3://{bucket}/labels/train/photo-0001.txt: access denied")


@pytest.mark.parametrize(
    "row", ["minio://elsewhere.example:9000/bkt/a.jpg", r"minio:\\elsewhere.example:9000\bkt\a.jpg"]
)
def test_a_list_in_a_bucket_chooses_no_server_however_it_is_written(row: str, s3_server: Any) -> None:
    bucket = s3_server.bucket(**{"data.yaml": b"train: l.txt", "l.txt": row.encode(), "a.jpg": b"x"})
    with pytest.raises(ValueError, match=r"l\.txt: 'minio://elsewhere.*a server that the file chooses"):
        open_yolo(f"s3://{bucket}/data.yaml")
