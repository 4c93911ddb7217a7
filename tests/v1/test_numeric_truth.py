"""The numbers of the accessors against independent computations: numpy, scipy, brute force."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import fastdup_dagster as fastdup
from fastdup_dagster import Fastdup
from fastdup_dagster.images.statistics import BLUR_SCALE

K, THRESHOLD, CC_THRESHOLD, PERCENTILE = 4, 0.93, 0.98, 0.1


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Fastdup:
    """Fifty lossless photos of different sizes, five of them there again a little brighter."""
    folder = tmp_path_factory.mktemp("many") / "images"
    folder.mkdir()
    for seed in range(45):
        cv2.imwrite(str(folder / f"{seed:03}.png"), picture(seed))
    for seed in range(5):
        cv2.imwrite(str(folder / f"again-{seed}.png"), np.clip(picture(seed).astype(int) + 12, 0, 255).astype(np.uint8))
    fd = fastdup.create(folder.parent / "work", folder)
    fd.run(
        nearest_neighbors_k=K,
        threshold=THRESHOLD,
        cc_threshold=CC_THRESHOLD,
        outlier_percentile=PERCENTILE,
        run_advanced_stats=True,
        print_summary=False,
        num_threads=2,
    )
    return fd


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(60, 420, 2))
    patches = rng.integers(0, 256, (rng.integers(2, 6), rng.integers(2, 6), 3), dtype=np.uint8)
    smooth = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def edges(many: Fastdup) -> pd.DataFrame:
    """The k nearest others of each, by brute force in float64."""
    vectors = many.embeddings()[1].astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = np.argsort(-cosine, axis=1)[:, :K]
    source = np.repeat(np.arange(len(vectors)), K)
    return pd.DataFrame({"from": source, "to": nearest.ravel(), "distance": cosine[source, nearest.ravel()]})


def test_similarity_is_brute_force_cosine_over_the_threshold(many: Fastdup, edges: pd.DataFrame) -> None:
    found = many.similarity(data=False)
    expected = edges[edges["distance"] > THRESHOLD].sort_values("distance", ascending=False)
    assert 10 < len(found) == len(expected) < len(edges)
    both = found.merge(expected, on=["from", "to"], how="outer", suffixes=("", "_true"), indicator=True)
    assert both["_merge"].eq("both").all()
    np.testing.assert_allclose(both["distance"], both["distance_true"], atol=1e-6)


def test_outliers_are_the_lowest_edges(many: Fastdup, edges: pd.DataFrame) -> None:
    count = max(1, math.floor(PERCENTILE * len(edges)))
    lowest = edges.sort_values("distance").head(count).drop_duplicates("from")
    found = many.outliers(data=False)
    assert found["outlier"].tolist() == lowest["from"].tolist()
    np.testing.assert_allclose(found["distance"], lowest["distance"], atol=1e-6)


def test_components_are_scipys(many: Fastdup, edges: pd.DataFrame) -> None:
    strong = edges[edges["distance"] >= CC_THRESHOLD]
    size = many.num_instances()
    matrix = coo_array((np.ones(len(strong)), (strong["from"], strong["to"])), shape=(size, size))
    _, labels = connected_components(matrix, directed=False)
    frame, info = many.connected_components(data=False)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    expected = sorted((group.tolist() for group in groups if len(group) > 1), key=min)
    assert frame.groupby("component_id")["index"].agg(list).tolist() == expected
    assert info["count"].tolist() == [len(group) for group in expected]
    for row, group in zip(info.itertuples(), expected, strict=True):
        inside = strong.loc[strong["from"].isin(group), "distance"]
        np.testing.assert_allclose([row.mean, row.min, row.max], [inside.mean(), inside.min(), inside.max()], atol=1e-6)


def working(path: str) -> np.ndarray:
    pixels = cv2.imread(path)[:, :, ::-1]
    if max(pixels.shape[:2]) <= 224:
        return pixels
    small = tuple(min(side, 224) for side in pixels.shape[1::-1])
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (224, 224), interpolation=cv2.INTER_LINEAR)


def test_statistics_are_those_of_an_independent_computation(many: Fastdup) -> None:
    frame = many.img_stats()
    assert len(frame) == 50
    for row in frame.to_dict("records"):
        pixels = working(row["filename"]).astype(np.float64)
        flat = pixels.reshape(-1, 3)
        means, deviations = flat.mean(axis=0), flat.std(axis=0)
        grey = cv2.cvtColor(pixels.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float64)
        laplacian = scipy.ndimage.laplace(grey, mode="mirror")
        expected = {
            "img_w": cv2.imread(row["filename"]).shape[1],
            "img_h": cv2.imread(row["filename"]).shape[0],
            "unique": len(np.unique(flat)),
            "mean": means.mean(),
            "stdv": deviations.mean(),
            "min": flat.min(),
            "max": flat.max(),
            "contrast": (flat.max() - flat.min()) / (flat.max() + flat.min()),
            "blur": laplacian.var() * BLUR_SCALE,
            "file_size": Path(row["filename"]).stat().st_size,
            "mean_r": means[0],
            "mean_g": means[1],
            "mean_b": means[2],
            "mean_rel_intensity_r": means[0] / means.sum(),
            "mean_rel_intensity_b": means[2] / means.sum(),
            "rms_contrast": np.sqrt(np.mean((deviations / means) ** 2)),
            "mean_val": flat.max(axis=1).mean(),
        }
        for name, value in expected.items():
            # an average that ends in a half may be rounded up here and down there: one count in a few pixels
            assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-4), (row["filename"], name)


def test_searches_are_brute_force(many: Fastdup) -> None:
    names, vectors = many.embeddings()
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    many.init_search(10, store_int=1)
    for row in range(0, 50, 7):
        found = many.search(names[row])
        expected = np.argsort(-(unit @ unit[row]))[:10]
        assert found["to"].tolist() == expected.tolist()
