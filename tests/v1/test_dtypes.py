"""The dtype of a column is the same whatever the run computed, and whichever rows there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastdup_dagster as fastdup

QUIET = {"print_summary": False, "num_threads": 2}
STATISTICS = {"index": "int64", **dict.fromkeys(("img_w", "img_h", "unique", "file_size"), "Int64"),
    **dict.fromkeys(("blur", "mean", "min", "max", "stdv", "contrast"), "float64")}  # fmt: skip


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


@pytest.mark.parametrize("kind", ["all", "without statistics", "embeddings", "nothing valid"])
def test_statistics(kind: str, images: Path, tmp_path: Path) -> None:
    fd = fastdup.create(tmp_path / "work", images)
    if kind == "embeddings":
        frame = pd.DataFrame({"filename": ["photo-0000.jpg", "photo-0001.jpg"]})
        fd.run(embeddings=np.eye(2, 4), annotations=frame, **QUIET)
    else:
        fd.run(
            run_stats=kind != "without statistics", subset=["broken.jpg"] if kind == "nothing valid" else None, **QUIET
        )
    stats = fd.img_stats(data=False)
    assert dtypes(stats) == dict(sorted(STATISTICS.items(), key=lambda item: list(stats.columns).index(item[0])))
    assert dtypes(fd.img_stats(data=False, split="none")) == dtypes(stats)
    if kind == "all":
        assert stats["img_w"].tolist() == [128] * 14 and stats["img_w"].to_numpy().dtype == np.int64
    if kind == "embeddings":
        assert stats["img_w"].isna().all()
    for metric in ("dark", "file_size"):
        assert fd.vis.stats_gallery(metric=metric, show=False).is_file()
    assert fd.vis.component_gallery(metric="img_w", show=False).is_file()
    assert len(fd.summary(verbose=False)) >= 4


def test_a_users_columns_with_gaps_keep_their_kind_in_every_result(images: Path, tmp_path: Path) -> None:
    names = [f"photo-00{n:02}.jpg" for n in range(12)]
    frame = pd.DataFrame({"filename": names, "full": range(12), "share": [0.5] * 12, "yes": [True] * 12})
    frame["some"] = pd.Series([1, None] * 6, dtype="object")
    frame["maybe"] = pd.Series([True, None, False] * 4, dtype="object")
    fd = fastdup.create(tmp_path / "work", images)
    expected = {"full": "int64", "share": "float64", "yes": "bool", "some": "Int64", "maybe": "boolean"}
    for rows, gaps in ((names, False), (names[:8], True)):  # with the second, images without annotation are listed
        fd.run(annotations=frame[frame["filename"].isin(rows)], subset=names, threshold=-1, cc_threshold=-1, **QUIET)
        if gaps:
            expected |= {"full": "Int64", "yes": "boolean"}
        for shown, suffix in (
            (fd.annotations(), ""),
            (fd.annotations(valid_only=False), ""),
            (fd.similarity(), "_from"),
            (fd.similarity(split="none"), "_to"),
            (fd.outliers(include_unannotated=True), "_outlier"),
            (fd.img_stats(), ""),
            (fd.connected_components()[0], ""),
            (fd.img_grouped_annot(), ""),
        ):
            assert {name: str(shown[f"{name}{suffix}"].dtype) for name in expected} == expected
        kept = fd.annotations()
        assert kept["some"].tolist() == [pd.NA if n % 2 else 1 for n in range(len(rows))]
        assert kept["maybe"].isna().tolist() == [n % 3 == 1 for n in range(len(rows))]
    fd.run(annotations=kept.assign(label=kept["some"]), **QUIET)
    assert set(fd.tables.manifest["label"].drop_nulls()) == {"1"}
