"""Pictures unlike any photo, and unlike each other: the planted outliers. H x W x 3, uint8, RGB."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from fastdup_dagster.demo.photos import Image

_BOARD, _TRACK, _PAD = (0, 90, 60), (220, 200, 80), (200, 200, 200)


def zone_plate(rng: Random) -> Image:
    """Rings that get finer towards the edge: the test card of resampling."""
    phase = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:300, 0:300] - 150.0
    grey = (np.sin((x**2 + y**2) / 300 + phase) * 127 + 128).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def circuit_board(rng: Random) -> Image:
    """Conducting tracks with pads on a green board."""
    board = np.full((300, 400, 3), _BOARD, dtype=np.uint8)
    for _ in range(60):
        start = (rng.randint(0, 399), rng.randint(0, 299))
        corner = (rng.randint(0, 399), start[1])
        end = (corner[0], rng.randint(0, 299))
        cv2.line(board, start, corner, _TRACK, 2)
        cv2.line(board, corner, end, _TRACK, 2)
        cv2.circle(board, end, 4, _PAD, -1)
    return board


def mosaic(rng: Random) -> Image:
    """Flat colours in the cells around thirty random points."""
    points = np.array([(rng.uniform(0, 300), rng.uniform(0, 300)) for _ in range(30)])
    colours = np.array([[rng.randint(0, 255) for _ in range(3)] for _ in points], dtype=np.uint8)
    y, x = np.mgrid[0:300, 0:300]
    away = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
    return colours[np.argmin(away, axis=-1)]


def honeycomb(rng: Random) -> Image:
    """Hexagons of random bright colours with black rims."""
    comb = np.zeros((300, 400, 3), dtype=np.uint8)
    angles = np.arange(6) * np.pi / 3
    hexagon = 26 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    for row in range(-1, 9):
        for column in range(-1, 10):
            centre = (column * 46 + row % 2 * 23, row * 40)
            corners = (hexagon + centre).astype(np.int32)
            cv2.fillPoly(comb, [corners], tuple(rng.randint(60, 255) for _ in range(3)))
            cv2.polylines(comb, [corners], True, (0, 0, 0), 2)
    return comb
