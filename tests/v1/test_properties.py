"""Rules that hold for any change of the input: found by hypothesis on a small set of images."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ARGUMENTS = {"threshold": -2, "nearest_neighbors_k": 13, "print_summary": False, "num_threads": 2}


def analysed(folder: Path, work: Path) -> Fastdup:
    fd = fastdup.create(work, folder)
    fd.run(**ARGUMENTS)
    return fd


def rows(fd: Fastdup, moved: dict[int, int]) -> dict[str, pd.DataFrame]:
    """Annotations, statistics, vectors and edges, with ids as in `moved`."""
    notes, statistics = fd.annotations(valid_only=False), fd.img_stats(data=False)
    edges = fd.similarity(data=False)
    vectors = pd.DataFrame(fd.embeddings()[1], index=fd.annotations()["index"].map(moved))
    notes["filename"] = [Path(name).name for name in notes["filename"]]
    for frame, columns in ((notes, ["index"]), (statistics, ["index"]), (edges, ["from", "to"])):
        frame[columns] = frame[columns].apply(lambda column: column.map(moved))
    return {
        "annotations": notes.set_index("index"),
        "statistics": statistics.set_index("index"),
        "vectors": vectors,
        "edges": edges.set_index(["from", "to"]).sort_index(),
    }


@FEW
@given(victim=st.integers(1, 14), damage=st.sampled_from([b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_breaking_a_file_changes_its_own_row_and_the_edges_that_touch_it(
    images: Path, victim: int, damage: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copytree(images, place / "images")
        fd = analysed(place / "images", place / "work")
        same = {n: n for n in range(15)}
        before = rows(fd, same)
        broken = Path(fd[victim]["filename"])
        broken.write_bytes(damage)
        after = rows(analysed(place / "images", place / "work"), same)
    assert not after["annotations"].loc[victim, "is_valid"]
    for table in ("annotations", "statistics", "vectors"):
        pd.testing.assert_frame_equal(
            after[table].drop(index=victim, errors="ignore"), before[table].drop(index=victim)
        )
    untouched = before["edges"].drop(index=victim, level="from").drop(index=victim, level="to")
    pd.testing.assert_frame_equal(after["edges"], untouched)


@FEW
@given(position=st.integers(0, 15), seed=st.integers(0, 3))
def test_inserting_a_file_moves_later_ids_by_one_and_changes_nothing_else(
    images: Path, photos: Any, position: int, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copytree(images, place / "images")
        listed = sorted(path.name for path in images.iterdir())
        before = rows(analysed(place / "images", place / "work"), {n: n + (n >= position) for n in range(15)})
        (new,) = photos(place / "new", 1, first=900 + seed)
        # Between its neighbours in bytewise order: "!" comes before any character of the names.
        between = "!first.jpg" if position == 0 else f"{listed[position - 1]}!.jpg"
        shutil.move(new, place / "images" / between)
        after = rows(analysed(place / "images", place / "work"), {n: n for n in range(16)})
    assert after["annotations"].loc[position, "filename"] == between
    for table in ("annotations", "statistics", "vectors"):
        pd.testing.assert_frame_equal(after[table].drop(index=position), before[table])
    edges = after["edges"].drop(index=position, level="from").drop(index=position, level="to")
    common = before["edges"].index.intersection(edges.index)
    pd.testing.assert_frame_equal(edges.loc[common], before["edges"].loc[common])
    assert len(edges) >= 14 * 12
