"""YOLO: which images a yaml means, what the lines of its labels say, and what is refused by name."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fastdup_dagster.label_tables import label_table
from fastdup_dagster.sources import NothingFoundError, open_source
from fastdup_dagster.sources.labels import LabelSet
from fastdup_dagster.sources.yolo import open_yolo
from fastdup_dagster.sources.yolo_labels import label_path, read_yolo

SIZE = (200, 100)


def data_set(root: Path, labels: dict[str, str | None], more: str = "") -> Path:
    """`images/train/a.jpg: label lines`; None writes no label file. The images are empty: nobody looks in here."""
    for name, text in labels.items():
        image = root / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"x")
        if text is not None:
            label = Path(label_path(str(image).encode()).decode())
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    path = root / "data.yaml"
    path.write_text(more or "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return path


def read(path: Path) -> LabelSet:
    return read_yolo(path, lambda uri: SIZE)


def one(tmp_path: Path, line: str, more: str = "") -> Any:
    text = f"train: images/train\nnames: {{0: cat, 1: dog}}\n{more}"
    (box,) = read(data_set(tmp_path, {"images/train/a.jpg": line}, text)).boxes
    return box


def test_splits_labels_and_images_without_labels(tmp_path: Path) -> None:
    labels = {
        "images/train/a.jpg": "0 0.5 0.5 0.2 0.4\n\n1 0.1 0.2 0.1 0.2\n",
        "images/val/b.png": None,
        "images/val/c.jpg": "",
    }
    path = data_set(tmp_path, labels)
    found = read(path)
    assert [(Path(i.filename).name, i.split) for i in found.images] == [
        ("a.jpg", "train"),
        ("b.png", "val"),
        ("c.jpg", "val"),
    ]
    assert [(box.label, box.box, box.fields) for box in found.boxes] == [
        ("cat", (80, 30, 40, 40), {"category_id": 0}),
        ("dog", (10, 10, 20, 20), {"category_id": 1}),
    ]
    assert found.images[0].fields == {"id": 0, "width": 200, "height": 100}
    assert [entry.filename for entry in open_source(path).entries()] == list(labels)


def test_six_digits_are_enough_for_whole_pixels(tmp_path: Path) -> None:
    line = f"0 {15 / 6000:.6f} {50 / 4000:.6f} {10 / 6000:.6f} {10 / 4000:.6f}"
    path = data_set(tmp_path, {"images/train/a.jpg": line}, "train: images/train\nnames: [cat]")
    (box,) = read_yolo(path, lambda uri: (6000, 4000)).boxes
    assert box.box == (10, 45, 10, 10)


def test_a_polygon_keypoints_and_a_confidence_are_carried(tmp_path: Path) -> None:
    box = one(tmp_path / "polygon", "0 0.1 0.1 0.5 0.1 0.5 0.9")
    assert box.box == (20, 10, 80, 80) and box.fields["segmentation"] == [[20, 10, 100, 10, 100, 90]]
    assert one(tmp_path / "conf", "0 0.5 0.5 0.2 0.4 0.75").fields["confidence"] == 0.75
    box = one(tmp_path / "pose", "0 0.5 0.5 0.2 0.4 0.1 0.2 1 0.3 0.4 0", "kpt_shape: [2, 3]\n")
    assert box.box == (80, 30, 40, 40) and box.fields["keypoints"] == [20, 20, 1, 60, 40, 0]
    box = one(tmp_path / "flat", "0 0.5 0.5 0.2 0.4 0.1 0.2 0.3 0.4", "kpt_shape: [2, 2]\n")
    assert box.fields["keypoints"] == [20, 20, 2, 60, 40, 2]


def test_eight_numbers_are_a_rotated_box_unless_there_are_polygons(tmp_path: Path) -> None:
    line = "0 0.2 0.1 0.3 0.2 0.2 0.3 0.1 0.2"
    assert one(tmp_path / "obb", line).box == (40, 10, 60, 20, 40, 30, 20, 20)
    assert one(tmp_path / "told", line, "task: segment\n").box == (20, 10, 40, 20)
    other = {"images/train/a.jpg": line, "images/train/b.jpg": "1 0.1 0.1 0.5 0.1 0.5 0.9"}
    boxes = read(data_set(tmp_path / "both", other, "train: images/train\nnames: [cat, dog]")).boxes
    assert [len(box.box) for box in boxes] == [4, 4]


NO_LABELS = ["0", "cat 0.5 0.5 0.2 0.4", "0 0.5 x 0.2 0.4", "0 0.5 nan 0.2 0.4", "-1 .5 .5 .2 .4", "\x00"]
NO_LABELS += ["0.5 .5 .5 .2 .4", "0 .1 .2 .3 .4 .5 .6 .7", "0 1 2 3", "0 1e999 1 1 1"]


@pytest.mark.parametrize("line", NO_LABELS)
def test_a_line_that_is_no_label_keeps_its_place_with_file_and_row(line: str, tmp_path: Path) -> None:
    path = data_set(tmp_path, {"images/train/a.jpg": f"0 0.5 0.5 0.2 0.4\n{line}\n"}, "train: images/train")
    good, bad = read(path).boxes
    assert good.error is None and all(map(math.isnan, bad.box))
    assert bad.error is not None and bad.error.startswith(f"{tmp_path}/labels/train/a.txt:2: ")


def test_an_image_of_unknown_size_has_boxes_without_numbers(tmp_path: Path) -> None:
    lines = "0 .5 .5 .2 .4\n0 .1 .1 .5 .1 .5 .9\n"
    for box in read_yolo(
        data_set(tmp_path, {"images/train/a.jpg": lines}, "train: images/train"), lambda uri: None
    ).boxes:
        assert all(map(math.isnan, box.box)) and box.error is None


def test_classes_without_a_name_are_told(tmp_path: Path) -> None:
    path = data_set(tmp_path, {"images/train/a.jpg": "7 .5 .5 .2 .4\n"}, "train: images/train\nnames: [cat]")
    found = read(path)
    assert found.boxes[0].label == "7" and found.notes == [f"1 labels are of classes that {path} does not name: 7"]


def test_lines_that_are_no_labels_are_no_boxes_that_come_twice(tmp_path: Path) -> None:
    lines = "cat .5 .5 .2 .4\ndog .5 .5 .2 .4\n0 .5 .5 .2 .4\n0 .5 .5 .2 .4\n"
    path = data_set(tmp_path, {"images/train/a.jpg": lines}, "train: images/train\nnames: {'0': cat}")
    assert label_table(read(path)).notes == ["1 boxes repeat another one of the same image"]


def test_lists_of_files_folders_outside_and_images_in_two_splits(tmp_path: Path) -> None:
    data_set(tmp_path, {"set/images/a.jpg": "0 .5 .5 .2 .4", "set/images/b.jpg": None, "other/c.jpg": "0 .5 .5 .2 .4"})
    (tmp_path / "set" / "list.txt").write_text("./images/a.jpg\nimages/b.jpg\nimages/gone.jpg\n")
    path = tmp_path / "data.yaml"
    path.write_text(f"path: set\ntrain: [list.txt]\nval: images\ntest: {tmp_path}/other\nnames: [cat]")
    data = open_yolo(path)
    assert [(entry.uri.rpartition("/")[2], split) for entry, split in data.images] == [
        ("a.jpg", "train"),
        ("b.jpg", "train"),
        ("gone.jpg", "train"),
        ("c.jpg", "test"),
    ]
    assert data.notes[-1:] == ["2 images are in train and in val: taken as train"]
    assert len(read(path).boxes) == 2


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("train: [", ValueError, "not YAML"),
        ("- train", ValueError, "not a YOLO data set"),
        ("names: [cat]", ValueError, "not a YOLO data set"),
        ("train: gone", FileNotFoundError, "train='gone': no such folder or list file"),
        ("train: 5", ValueError, "train=5"),
        ("train: images\nnames: 5", ValueError, "names=5"),
        ("train: images\nnames: {cat: 0}", ValueError, "names: 'cat': 0"),
        ("train: images\nkpt_shape: [17, 4]", ValueError, r"kpt_shape=\[17, 4\]"),
        ("path: [a]\ntrain: images", ValueError, "path="),
        ("train: https://example.com/a.zip", NotImplementedError, "https://example.com"),
        ("train: empty", NothingFoundError, "no images found"),
        ('train: "a\\0b"', FileNotFoundError, "no such folder"),
        ("train: minio://elsewhere.example:9000/bucket/images", ValueError, "a server that the file chooses"),
        ("path: minio://elsewhere.example:9000/bucket\ntrain: images", ValueError, "a server that the file chooses"),
        ("train: ../minio://elsewhere.example:9000/bucket/a", ValueError, "a server that the file chooses"),
        ("train: !!python/object/apply:os.getcwd []", ValueError, "not YAML"),
    ],
)
def test_what_is_no_data_set_is_refused_by_name(
    text: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = data_set(tmp_path, {"images/a.jpg": None}, text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message) as raised:
        read(path)
    assert "data.yaml" in str(raised.value)


def test_label_files_lie_where_their_images_do() -> None:
    assert label_path(b"/a/images/b/images/c.tar.jpg") == b"/a/images/b/labels/c.tar.txt"
    assert label_path(b"/a/b/c.jpg") == b"/a/b/c.txt"


def test_a_row_of_a_list_may_name_a_folder_or_an_archive(tmp_path: Path) -> None:
    path = data_set(
        tmp_path, {"images/a.jpg": None, "images/sub/b.jpg": None, "images/sub/c.jpg": None}, "train: l.txt"
    )
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        archive.add(tmp_path / "images" / "a.jpg", "d.jpg")
    (tmp_path / "l.txt").write_text("images/a.jpg\nimages/sub\nmore.tar\n")
    entries = [entry for entry, _ in open_yolo(path).images]
    assert [entry.filename.rpartition("/")[2] for entry in entries] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert not any(entry.error_code for entry in entries)


def test_a_list_does_not_choose_a_server_and_an_empty_split_is_none(tmp_path: Path) -> None:
    path = data_set(tmp_path, {"images/a.jpg": None}, "train: l.txt\nval: ''")
    (tmp_path / "l.txt").write_text("images/a.jpg\n")
    assert len(open_yolo(path).images) == 1
    (tmp_path / "l.txt").write_text("images/a.jpg\nminio://elsewhere.example:9000/bucket/b.jpg\n")
    with pytest.raises(ValueError, match=r"l\.txt: .*a server that the file chooses"):
        open_yolo(path)
