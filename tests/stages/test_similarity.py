"""Similar pairs are the edges strictly over the threshold, most alike first, each with the kind of its likeness."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastdup_dagster.models import EmbeddingModel
from fastdup_dagster.schemas import IMG_STATS, SIMILARITY
from fastdup_dagster.settings import settings_from
from fastdup_dagster.sources import open_source
from fastdup_dagster.stages.features import compute_features
from fastdup_dagster.stages.image_manifest import list_images
from fastdup_dagster.stages.knn_graph import knn_graph
from fastdup_dagster.stages.similarity import similarity
from fastdup_dagster.storage import TableStore

GraphOf = Callable[..., pl.DataFrame]


def stats_of(*rows: tuple[str | None, str | None, int | None]) -> pl.DataFrame:
    """`img_stats` of given content hashes, pixel hashes and seeds of thumbnails."""
    made = [None if seed is None else np.random.default_rng(seed).integers(0, 255, 768).tolist() for *_, seed in rows]
    return IMG_STATS.frame(
        {
            "index": range(len(rows)),
            "content_hash": pl.Series([content for content, *_ in rows], dtype=pl.String),
            "pixel_hash": pl.Series([pixel for _, pixel, _ in rows], dtype=pl.String),
            "thumbnail": pl.Series(made, dtype=pl.Array(pl.UInt8, 768)),
            "source_key": [""] * len(rows),
        }
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-8, 8)), max_size=30, unique_by=lambda e: e[:2]
    ),
    st.integers(-8, 8),
)
def test_pairs_are_the_edges_strictly_over_the_threshold_most_alike_first(
    graph_of: GraphOf, found, eighths: int
) -> None:
    table = similarity(graph_of(*[(a, b, s / 8) for a, b, s in found]), settings_from({"threshold": eighths / 8}))
    expected = sorted(((a, b, s / 8) for a, b, s in found if s > eighths), key=lambda e: (-e[2], e[0], e[1]))
    assert list(table.select("from", "to", "distance").iter_rows()) == expected
    assert table.schema == SIMILARITY.frame().schema


def test_an_edge_at_the_threshold_is_left_out_also_where_float32_rounds_it(graph_of: GraphOf) -> None:
    above = float(np.nextafter(np.float32(0.9), np.float32(1)))
    table = similarity(graph_of((0, 1, 0.9), (2, 3, above)), settings_from({"threshold": 0.9}))
    assert table["from"].to_list() == [2]


def test_no_pairs_give_an_empty_table_of_the_right_columns(graph_of: GraphOf) -> None:
    for stats in (None, stats_of(("a", "a", 1), ("b", "b", 2))):
        assert similarity(graph_of((0, 1, 0.1)), settings_from({}), stats).equals(SIMILARITY.frame())
        assert similarity(graph_of(), settings_from({}), stats).equals(SIMILARITY.frame())


def test_the_kind_goes_from_bytes_over_pixels_to_the_verified_score(graph_of: GraphOf) -> None:
    stats = stats_of(("a", "p", 1), ("a", "p", 1), ("b", "p", 1), ("c", "q", 1), ("d", "r", 2), (None, None, None))
    graph = graph_of(*[(0, other, 0.95) for other in range(1, 6)])
    table = similarity(graph, settings_from({}), stats)
    assert dict(table.select("to", "kind").iter_rows()) == {
        1: "identical_bytes",
        2: "identical_pixels",
        3: "near_duplicate",
        4: "similar",
        5: "similar",
    }
    scores = dict(table.select("to", "verified_score").iter_rows())
    assert scores[1] == scores[3] == pytest.approx(0.95, abs=1e-4)
    assert abs(scores[4]) < 0.5


def test_two_missing_hashes_are_not_the_same_bytes(graph_of: GraphOf) -> None:
    stats = stats_of((None, None, 1), (None, None, 2))
    assert similarity(graph_of((0, 1, 0.99)), settings_from({}), stats)["kind"].to_list() == ["similar"]


@pytest.mark.parametrize("limit", [0.5, 0.94, 0.96])
def test_the_limit_of_near_duplicates_is_a_setting(graph_of: GraphOf, limit: float) -> None:
    stats = stats_of(("a", "p", 1), ("b", "q", 1))
    table = similarity(graph_of((0, 1, 0.95)), settings_from({"near_duplicate_threshold": limit}), stats)
    assert table["kind"].to_list() == ["near_duplicate" if limit < 0.95 else "similar"]


def test_without_images_the_cosine_alone_decides_and_there_is_no_verified_score(graph_of: GraphOf) -> None:
    table = similarity(graph_of((0, 1, 0.96), (2, 3, 0.95)), settings_from({"cc_threshold": 0.96}))
    assert table["kind"].to_list() == ["near_duplicate", "similar"]
    assert table["verified_score"].null_count() == 2


def test_both_directions_of_a_pair_are_judged_alike(graph_of: GraphOf) -> None:
    stats = stats_of(*[(str(i), str(i), i % 3) for i in range(8)])
    pairs = [(a, b, 0.95) for a in range(8) for b in range(8) if a != b]
    table = similarity(graph_of(*pairs), settings_from({}), stats)
    there = {(a, b): (kind, score) for a, b, _, kind, score in table.iter_rows()}
    assert all(there[a, b] == there[b, a] for a, b in there)


def test_ids_of_the_statistics_need_not_be_dense(graph_of: GraphOf) -> None:
    stats = stats_of(("a", "p", 1), ("b", "q", 2), ("a", "p", 1)).with_columns(
        pl.Series("index", [3, 10, 40], dtype=pl.Int64)
    )
    table = similarity(graph_of((3, 40, 1.0), (3, 10, 0.95)), settings_from({}), stats)
    assert table["kind"].to_list() == ["identical_bytes", "similar"]


def test_a_pair_whose_image_has_no_thumbnail_is_never_a_near_duplicate(graph_of: GraphOf) -> None:
    stats = stats_of(("a", "p", None), ("b", "q", None), ("c", "r", 1))
    table = similarity(graph_of((0, 1, 0.99), (0, 2, 0.98)), settings_from({}), stats)
    assert table["kind"].to_list() == ["similar", "similar"]
    assert table["verified_score"].to_list() == [None, None]


def test_a_pair_of_an_image_that_the_statistics_do_not_hold_is_an_error(graph_of: GraphOf) -> None:
    stats = stats_of(("a", "p", 1), ("b", "q", 2))
    with pytest.raises(ValueError, match="img_stats does not hold, the first has index 7"):
        similarity(graph_of((0, 7, 0.99)), settings_from({}), stats)
    with pytest.raises(ValueError, match="img_stats does not hold, the first has index 1"):
        similarity(graph_of((0, 1, 0.99)), settings_from({}), stats.filter(pl.col("index") != 1))


@pytest.mark.parametrize("distance", ["euclidean", "l1", "braycurtis"])
def test_a_copy_is_a_near_duplicate_under_any_metric(graph_of: GraphOf, distance: str) -> None:
    settings = settings_from({"distance": distance, "nnf_mode": "Flat", "threshold": 0.05})
    stats = stats_of(("a", "p", 1), ("b", "q", 1), ("c", "r", 2))
    table = similarity(graph_of((0, 1, 0.4), (0, 2, 0.3)), settings, stats)
    assert table["kind"].to_list() == ["near_duplicate", "similar"]


def test_opposite_vectors_and_opposite_pictures_do_not_make_a_likeness(graph_of: GraphOf) -> None:
    stats = stats_of(("a", "p", 1), ("b", "q", 2))
    table = similarity(graph_of((0, 1, -0.9)), settings_from({"threshold": -1.0}), stats)
    assert abs(table["verified_score"][0]) == 0
    assert table["kind"][0] == "similar"


def test_the_score_does_not_depend_on_the_number_of_threads(graph_of: GraphOf) -> None:
    stats = stats_of(*((str(seed), str(seed), seed) for seed in range(60)))
    graph = graph_of(*((a, b, 0.95) for a in range(60) for b in range(60) if a != b))
    one, four = (similarity(graph, settings_from({"num_threads": threads}), stats) for threads in (1, 4))
    assert one.equals(four)


def picture(seed: int) -> np.ndarray:
    """A picture with edges and shapes, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
    pixels = cv2.resize(patches, (320, 260), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        centre, colour = rng.integers(20, 240, 2).tolist(), rng.integers(0, 255, 3).tolist()
        cv2.circle(pixels, centre, int(rng.integers(8, 50)), colour, int(rng.integers(-1, 6)) or 1)
    return pixels


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, model: EmbeddingModel) -> dict[tuple[str, str], str]:
    """The kinds that real files get from listing to pairs, both directions."""
    folder: Path = tmp_path_factory.mktemp("kinds")
    for seed in range(6):
        Image.fromarray(picture(seed)).save(folder / f"stranger{seed}.png")
    one = Image.fromarray(picture(100))
    one.save(folder / "a.png")
    one.save(folder / "a-as.bmp")
    (folder / "a-copy.png").write_bytes((folder / "a.png").read_bytes())
    buffer = io.BytesIO()
    Image.fromarray(picture(101)).save(buffer, "JPEG", quality=90)
    (folder / "b.jpg").write_bytes(buffer.getvalue())
    # A comment segment right after the start of the file: other bytes, the same pixels.
    (folder / "b-commented.jpg").write_bytes(buffer.getvalue()[:2] + b"\xff\xfe\x00\x08hello!" + buffer.getvalue()[2:])
    Image.fromarray(picture(101)).resize((200, 160)).save(folder / "b-small.jpg", quality=60)
    Image.fromarray(picture(101)[:, ::-1]).save(folder / "b-mirrored.png")
    settings = settings_from({"nearest_neighbors_k": 4, "threshold": 0.5, "num_threads": 2})
    manifest = list_images(open_source(folder), settings).frame
    store = TableStore(folder / "store")
    with compute_features(manifest, settings, model, store, "kinds/all") as features:
        for table in features.staged.values():
            table.publish()
    graph = knn_graph(store.read("embeddings", "kinds/all"), settings)
    table = similarity(graph, settings, store.read("img_stats", "kinds/all"))
    names = manifest["filename"].to_list()
    return {(names[a], names[b]): kind for a, b, _, kind, _ in table.iter_rows()}


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("a.png", "a-copy.png", "identical_bytes"),
        ("a.png", "a-as.bmp", "identical_pixels"),
        ("a-copy.png", "a-as.bmp", "identical_pixels"),
        ("b.jpg", "b-commented.jpg", "identical_pixels"),
        ("b.jpg", "b-small.jpg", "near_duplicate"),
        ("b.jpg", "b-mirrored.png", "near_duplicate"),
    ],
)
def test_real_files_get_their_kind_in_both_directions(
    kinds: dict[tuple[str, str], str], first: str, second: str, kind: str
) -> None:
    found = [kinds[pair] for pair in ((first, second), (second, first)) if pair in kinds]
    assert found
    assert set(found) == {kind}


def test_pictures_that_merely_look_alike_are_similar_at_most(kinds: dict[tuple[str, str], str]) -> None:
    strange = {kind for (first, second), kind in kinds.items() if first[0] != second[0] or first[0] == "s"}
    assert strange <= {"similar"}
