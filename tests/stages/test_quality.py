"""What the checks of data quality count, on hand-made tables."""

from __future__ import annotations

from typing import Any

import polars as pl

from fastdup_dagster.schemas import IMAGE_MANIFEST, IMG_STATS, SIMILARITY
from fastdup_dagster.stages.quality import FLAGS, class_counts, flagged_images, near_copies, worst_flagged


def manifest(**columns: Any) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    names = [f"{n}.jpg" for n in range(rows)]
    given = {"index": range(rows), "instance_id": names, "filename": names, "uri": names, "media": ["image"] * rows}
    return IMAGE_MANIFEST.frame(given | columns)


def stats(**columns: Any) -> pl.LazyFrame:
    rows = len(next(iter(columns.values())))
    return IMG_STATS.frame({"index": range(rows), "source_key": [""] * rows} | columns).lazy()


def test_flags_are_those_of_the_valid_images_and_the_worst_come_first():
    table = stats(
        content_hash=["a", "b", "a", None],
        blur=[9.0, 3.0, 1.0, 0.0],
        mean=[250.0, 251.0, 255.0, 0.0],
        is_blurry=[False, True, True, True],
        is_bright=[True, True, True, True],
        is_truncated=[None, True, False, None],
        error_code=[None, None, None, "CORRUPT_IMAGE"],
    )
    images = flagged_images(table, manifest(label=[None] * 4))
    worst = {rule: worst_flagged(images, flag).rows() for rule, flag in FLAGS.items()}
    assert images["index"].to_list() == [0, 1, 2]
    assert worst["exact_duplicates"] == [(2, "2.jpg", "0.jpg")]
    assert worst["blurry"] == [(2, "2.jpg", 1.0), (1, "1.jpg", 3.0)]
    assert worst["bright"] == [(2, "2.jpg", 255.0), (1, "1.jpg", 251.0), (0, "0.jpg", 250.0)]
    assert [row[:2] for row in worst["truncated"]] == [(1, "1.jpg")]
    assert worst["dark"] == []


def test_frames_and_crops_of_one_file_are_no_copies():
    table = stats(content_hash=["a", "a", "a"])
    images = flagged_images(table, manifest(media=["image", "frame", "crop"]))
    assert images["is_copy"].to_list() == [False, False, False]


def test_a_near_copy_is_the_later_image_of_a_pair_that_shows_one_picture():
    pairs = [
        (0, 1, 0.99, "near_duplicate"),
        (1, 0, 0.99, "near_duplicate"),
        (2, 1, 1.0, "identical_bytes"),
        (0, 2, 0.95, "near_duplicate"),
        (3, 0, 0.97, "similar"),
    ]
    columns = dict(zip(("from", "to", "distance", "kind"), zip(*pairs, strict=True), strict=True))
    found = near_copies(SIMILARITY.frame({name: list(values) for name, values in columns.items()}))
    assert found.select("index", "first", "kind").rows() == [(2, 1, "identical_bytes"), (1, 0, "near_duplicate")]
    assert near_copies(SIMILARITY.frame()).is_empty()


def test_the_rarest_class_comes_first_and_rows_in_error_or_without_a_label_do_not_count():
    labels = ["cat"] * 6 + ["dog"] * 2 + ["owl"] * 3 + [None, "dog"]
    table = manifest(label=labels, error_code=[None] * 12 + ["MISSING_FILE"])
    assert class_counts(table).rows() == [("dog", 2, 3.0), ("owl", 3, 2.0), ("cat", 6, 1.0)]
    assert class_counts(manifest(label=[None, None])).is_empty()
