"""COCO, YOLO and Pascal VOC through a whole run, and written back cleaned."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import fastdup_dagster as fastdup
from fastdup_dagster.images import read_image
from fastdup_dagster.sources import to_uri

QUIET = {"print_summary": False, "num_threads": 2}
NAMES = ("photo-0000.jpg", "photo-0001.jpg", "photo-0002.jpg", "broken.jpg")
RLE = {"counts": [0, 5, 12283], "size": [96, 128]}


def box(number: int, image: int, bbox: Any, category: int = 3, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "area": 5.5, "iscrowd": 0, **more}


@pytest.fixture
def coco(images: Path) -> dict[str, Any]:
    """Three photos and a broken one; good boxes, bad ones, two of one place, one without a box."""
    sizes = [{"width": 128, "height": 96}] * 4
    listed = [{"id": 10 * n + 7, "file_name": name, **sizes[n], "license": 2} for n, name in enumerate(NAMES)]
    return {
        "info": {"year": 2026, "contributor": "tests"},
        "licenses": [{"id": 2, "name": "none"}],
        "images": listed[::-1],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 9, "name": "dog"}],
        "annotations": [
            box(100, 17, [20, 30, 50, 40], segmentation=[[20, 30, 70, 30, 70, 70.5]], mood={"is": ["good"]}),
            box(90, 7, [0, 0, 60, 60], 9, segmentation=RLE, iscrowd=1),
            box(91, 7, [0, 0, 60, 60], 3, note="the same place"),
            box(92, 7, [5, 5, 9, 40], note="thin"),
            box(93, 7, [120, 80, 40, 40], note="outside"),
            box(94, 7, [5, None, 9, 40], note="no number"),
            box(95, 37, [0, 0, 30, 30], note="no image"),
        ],
    }


def run(folder: Path, **arguments: Any) -> fastdup.Fastdup:
    fd = fastdup.create(folder, arguments.pop("input_dir", None))
    fd.run(**{**QUIET, **arguments})
    return fd


def load(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_every_box_is_a_row_and_images_without_one_come_after_them(
    images: Path, coco: dict[str, Any], tmp_path: Path
) -> None:
    fd = run(tmp_path / "work", input_dir=images, annotations=coco)
    every = fd.annotations(valid_only=False)
    given = len(coco["annotations"])
    assert every["annotation_id"].tolist()[:given] == [a["id"] for a in coco["annotations"]]
    bad = "BAD_BOUNDING_BOX"
    assert every["error_code"].tolist()[:given] == ["VALID"] * 3 + [bad] * 3 + ["CORRUPT_IMAGE"]
    assert set(every["error_code"][given:]) == {"MISSING_ANNOTATION"}
    assert every["image_id"][given] == 27 and every["filename"][given] == str(images / NAMES[2])
    assert len(every) == given + 1 + 11, "files that COCO does not name are there too"
    first = every.iloc[0]
    assert (first["label"], first["img_w"], first["image_license"], first["width"]) == ("cat", 128, 2, 50)
    assert json.loads(first["segmentation"]) == coco["annotations"][0]["segmentation"]
    assert json.loads(first["mood"]) == {"is": ["good"]}
    reasons = fd.invalid_instances().set_index("index")["error"]
    assert "annotation 94: bbox=[5, None, 9, 40]: None is not a finite number" in reasons[5]
    assert fd.tables.manifest["instance_id"].n_unique() == len(every)
    pixels = read_image(to_uri(str(images / NAMES[1]).encode()))[30:70, 20:70]
    assert fd.img_stats().set_index("index").loc[0, "mean"] == pytest.approx(np.mean(pixels, axis=(0, 1)).mean())


def test_a_file_of_coco_is_found_beside_its_images_or_names_them_absolutely(
    images: Path, coco: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "images")
    for image in coco["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(coco))
    fd = run(tmp_path / "work", annotations=path)
    assert fd.num_instances() == 3 and len(fd.annotations(valid_only=False)) == 8
    other = run(tmp_path / "other", annotations=path, input_dir=tmp_path / "images")
    assert other.num_instances() == 3, "names that do not start at input_dir start at the file"
    for image in coco["images"]:
        image["file_name"] = str(tmp_path / image["file_name"])
    assert run(tmp_path / "third", annotations=coco, input_dir=images).num_instances() == 3


def test_a_round_trip_keeps_everything_and_loads_in_pycocotools(
    images: Path, coco: dict[str, Any], tmp_path: Path
) -> None:
    fd = run(tmp_path / "work", input_dir=images, annotations=coco)
    path = fd.write_coco(tmp_path / "whole.json", drop_invalid=False)
    written = json.loads(path.read_text())
    coco["annotations"] = [a for a in coco["annotations"] if a["id"] != 94]  # no numbers, no box
    assert written == coco
    loaded = load(path)
    assert len(loaded.anns) == 6 and loaded.annToMask(loaded.anns[90]).sum() == 5
    reopened = fastdup.create(tmp_path / "work")
    with pytest.raises(FileExistsError, match=r"whole\.json is there already"):
        reopened.write_coco(path)
    reopened.write_coco(path, overwrite=True)
    cleaned = load(path)
    assert set(cleaned.anns) == {100, 90, 91} and set(cleaned.imgs) == {7, 17, 27}, "the broken image is gone"


def test_what_is_dropped_can_be_chosen(images: Path, coco: dict[str, Any], tmp_path: Path) -> None:
    fd = run(tmp_path / "work", input_dir=images, annotations=coco, cc_threshold=0.999)
    path = tmp_path / "out.json"
    fd.write_coco(path, drop_duplicates=True)
    assert set(load(path).anns) == {100, 90}
    fd.write_coco(path, drop=[0, 7], overwrite=True)
    assert set(load(path).anns) == {90, 91} and set(load(path).imgs) == {7, 17}
    with pytest.raises(ValueError, match="drop: no instance has the id 999"):
        fd.write_coco(path, drop=[999], overwrite=True)


def test_a_run_on_whole_images_gives_back_all_their_boxes(images: Path, coco: dict[str, Any], tmp_path: Path) -> None:
    fd = run(tmp_path / "work", input_dir=images, annotations=coco, data_type="image")
    shown = fd.annotations().set_index("image_id")
    assert sorted(shown.index) == [7, 17, 27] and shown.loc[17, "label"] == "cat"
    assert shown["label"].isna().tolist().count(True) == 2
    cleaned = load(fd.write_coco(tmp_path / "out.json", drop=fd.annotations().query("image_id == 17")["index"]))
    assert set(cleaned.imgs) == {7, 27} and set(cleaned.anns) == {90, 91, 92, 93}
    assert cleaned.anns[91] == coco["annotations"][2]


def test_ids_and_categories_are_made_where_there_are_none(images: Path, tmp_path: Path) -> None:
    import pandas as pd

    rows = [(NAMES[0], 0, 0, 50, 40, "b"), (NAMES[0], 9, 9, 30, 40, "a"), (NAMES[1], 0, 0, 50, 40, None)]
    frame = pd.DataFrame(rows, columns=["filename", "col_x", "row_y", "width", "height", "label"])
    fd = run(tmp_path / "work", input_dir=images, annotations=frame)
    loaded = load(fd.write_coco(tmp_path / "out.json"))
    names = {c["id"]: c["name"] for c in loaded.cats.values()}
    assert [names[a["category_id"]] for a in loaded.anns.values()] == ["b", "a", "unlabelled"]
    assert [a["area"] for a in loaded.anns.values()] == [2000, 1200, 2000]
    assert [(i["file_name"], i["width"], i["height"]) for i in loaded.imgs.values()] == [
        (NAMES[0], 128, 96),
        (NAMES[1], 128, 96),
    ]


def yolo(root: Path, labels: dict[str, str], names: str = "[cat, dog]") -> Path:
    for name, text in labels.items():
        for place in (root / "images" / name, (root / "labels" / name).with_suffix(".txt")):
            place.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((200, 100), 60).save(root / "images" / name)
        (root / "labels" / name).with_suffix(".txt").write_text(text)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    return root / "data.yaml"


def test_a_yolo_yaml_is_input_and_annotations_in_one(tmp_path: Path) -> None:
    labels = {"train/a.png": "0 .5 .5 .2 .4\nnonsense\n", "val/b.png": "1 .5 .5 .5 .5\n", "val/c.png": ""}
    path = yolo(tmp_path / "set", labels)
    Image.effect_noise((200, 100), 60).save(tmp_path / "set" / "images" / "no-split.png")
    for given in ({"input_dir": path}, {"annotations": path}, {"input_dir": path.parent, "annotations": path}):
        fd = run(tmp_path / "work", **given)
        every = fd.annotations(valid_only=False)[:4]
        assert every["label"].tolist()[:3:2] == ["cat", "dog"]
        assert every["split"].tolist() == ["train", "train", "val", "val"]
        assert every["error_code"].tolist() == ["VALID", "BAD_BOUNDING_BOX", "VALID", "MISSING_ANNOTATION"]
        assert every["col_x"].tolist()[:3:2] == [80, 50] and every["height"].tolist()[:3:2] == [40, 50]
        assert "a.txt:2: " in fd.invalid_instances()["error"][0]
        assert fd.num_instances() == 2


def test_a_photo_on_its_side_has_its_boxes_where_they_are_seen(tmp_path: Path) -> None:
    path = yolo(tmp_path / "set", {"train/a.jpg": "0 .25 .5 .5 1\n"}, "[cat]")
    path.write_text("train: images/train\nnames: [cat]\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.effect_noise((200, 100), 60)
    image.save(tmp_path / "set" / "images" / "train" / "a.jpg", exif=exif)
    fd = run(tmp_path / "work", input_dir=path)
    assert fd.img_stats()[["img_w", "img_h"]].to_numpy().tolist() == [[50, 200]]


@pytest.mark.parametrize(
    "lines",
    [
        "1 0.5 0.5 0.2 0.4\n0 0.25 0.5 0.5 1\n",
        "1 0.1 0.1 0.5 0.1 0.5 0.9\n0 0 0 0.9 0 0.9 0.5 0.5 0.9 0.1 0.1\n",
        "0 0.2 0.1 0.3 0.3 0.2 0.5 0.1 0.3\n",
    ],
    ids=["boxes", "polygons", "rotated"],
)
@pytest.mark.parametrize("copied", [True, False])
def test_yolo_written_and_read_again_is_the_same(lines: str, copied: bool, tmp_path: Path) -> None:
    path = yolo(tmp_path / "set", {"train/a.png": lines, "val/b.png": lines, "val/c.png": ""})
    fd = run(tmp_path / "work", input_dir=path)
    again = fd.write_yolo(tmp_path / "images" / "out", copy_images=copied)
    folder = again.parent
    assert (folder / "labels" / "train" / "a.txt").read_text() == lines
    assert (folder / "labels" / "val" / "c.txt").read_text() == ""
    assert (folder / "images" / "val" / "b.png").is_symlink() is not copied
    other = run(tmp_path / "other", input_dir=again)
    columns = [c for c in fd.annotations() if c != "filename"]
    assert other.annotations()[columns].equals(fd.annotations()[columns])
    with pytest.raises(FileExistsError, match="is not empty"):
        fd.write_yolo(folder)
    with pytest.raises(ValueError, match="task='pose'"):
        fd.write_yolo(tmp_path / "third", task="pose")


def test_coco_becomes_yolo_and_its_classes_are_numbered_in_the_order_of_their_ids(
    images: Path, coco: dict[str, Any], tmp_path: Path
) -> None:
    fd = run(tmp_path / "work", input_dir=images, annotations=coco)
    path = fd.write_yolo(tmp_path / "out")
    assert "names:\n  0: cat\n  1: dog\n" in path.read_text()
    assert (tmp_path / "out" / "labels" / "train" / "photo-0001.txt").read_text().split()[0] == "0"
    assert (tmp_path / "out" / "labels" / "train" / "photo-0002.txt").read_text() == ""
    assert not list(tmp_path.glob("out/*/*/broken*"))
    polygons = fd.write_yolo(tmp_path / "segments", task="segment")
    line = (polygons.parent / "labels" / "train" / "photo-0001.txt").read_text().split()
    assert len(line) == 7 and float(line[1]) == 20 / 128
    assert len(run(tmp_path / "again", input_dir=path).annotations()) == 3


def test_no_name_and_no_split_leads_out_of_the_folder(images: Path, tmp_path: Path) -> None:
    import pandas as pd

    for place in ("a/x.jpg", "b/x.jpg", "c/images/x.jpg"):
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copy(images / NAMES[0], tmp_path / place)
    (tmp_path / "in").mkdir()
    names = ["../a/x.jpg", str(tmp_path / "b/x.jpg"), "../c/images/x.jpg"]
    frame = pd.DataFrame({"filename": names, "label": "l", "split": ["../../up", "..", "/etc"]})
    frame = frame.assign(col_x=0, row_y=0, width=50, height=40)
    shutil.copy(images / NAMES[1], tmp_path / "in")
    fd = run(tmp_path / "work", input_dir=tmp_path / "in", annotations=frame)
    before = {path for path in tmp_path.rglob("*") if tmp_path / "work" not in path.parents}
    fd.write_yolo(tmp_path / "out")
    new = {path for path in tmp_path.rglob("*") if tmp_path / "work" not in path.parents} - before
    assert all(path == tmp_path / "out" or tmp_path / "out" in path.parents for path in new)
    assert len([path for path in new if path.suffix == ".txt"]) == 3


def test_voc_through_a_run(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Annotations"
    folder.mkdir()
    body = (
        "<object><name>cat</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>60</xmax><ymax>70</ymax></bndbox></object>"
    )
    for name, objects in ((NAMES[0], body), (NAMES[1], "")):
        text = f"<annotation><filename>{name}</filename>{objects}</annotation>"
        (folder / name).with_suffix(".xml").write_text(text)
    shutil.copytree(images, tmp_path / "JPEGImages")
    for given in ({"input_dir": images}, {}, {"input_dir": tmp_path / "JPEGImages"}):
        fd = run(tmp_path / "work", annotations=folder, **given)
        assert fd.annotations()[["label", "col_x", "row_y", "width", "height"]].to_numpy().tolist() == [
            ["cat", 10, 20, 50, 50]
        ]
        assert "MISSING_ANNOTATION" in set(fd.annotations(valid_only=False)["error_code"])
    loaded = load(fd.write_coco(tmp_path / "out.json"))
    assert [a["bbox"] for a in loaded.anns.values()] == [[10, 20, 50, 50]] and len(loaded.imgs) == 2


def test_embeddings_go_with_the_boxes_alone(coco: dict[str, Any], images: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    fd = run(tmp_path / "work", annotations=coco, embeddings=vectors, input_dir=images)
    assert fd.num_instances() == 7


def test_annotations_of_nothing_leave_no_header_behind(images: Path, coco: dict[str, Any], tmp_path: Path) -> None:
    fd = run(tmp_path / "work", input_dir=images, annotations=coco)
    fd.run(**QUIET)
    loaded = load(fd.write_coco(tmp_path / "out.json"))
    assert len(loaded.imgs) == 14 and not loaded.anns and not loaded.cats
