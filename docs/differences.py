"""Measures where fastdup and fastdup_dagster differ: the table in docs/migration.md.

    python docs/differences.py
    python docs/differences.py --fastdup-python FASTDUP/bin/python

fastdup needs an environment of its own: python3.11 -m venv FASTDUP; FASTDUP/bin/pip install fastdup==2.54. Each row is
measured by a new process, which runs this file with the tool's Python: so the measures import nothing of this project.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

LABEL = "<script>alert(1)</script>"


class Bench:
    """A tool, and a folder of four photos, one of them three times."""

    def __init__(self, module: str, work: Path) -> None:
        self.tool, self.work, self.photos = importlib.import_module(module), work, work / "photos"

    def run(self, folder: Path | None = None, **arguments: Any) -> Any:
        """A finished analysis."""
        made = self.tool.create(str(self.work / "results"), str(folder or self.photos))
        made.run(overwrite=True, print_summary=False, num_threads=2, **arguments)
        return made

    def write(self, **pictures: np.ndarray) -> Path:
        """A folder of these pictures (BGR)."""
        folder = self.work / "pictures"
        folder.mkdir()
        for name, pixels in pictures.items():
            cv2.imwrite(str(folder / f"{name}.png"), pixels)
        return folder


def component_count(bench: Bench) -> Any:
    """`count` of the component of three copies"""
    return int(bench.run().connected_components()[1]["count"].max())


def euclidean_outlier(bench: Bench) -> Any:
    """distance='euclidean': the strongest of outliers(), and its distance"""
    row = bench.run(distance="euclidean").outliers().iloc[0]
    return f"{Path(row['filename_outlier']).stem}, {row['distance']:.2f}"


def manhattan_pairs(bench: Bench) -> Any:
    """distance='l1', nnf_mode='Flat': pairs of similarity()"""
    return len(bench.run(distance="l1", nnf_mode="Flat", threshold=-1e9).similarity())


def recall_of_many_neighbours(bench: Bench) -> Any:
    """k = 999 among 1,200 given vectors: share of the true neighbours that are found"""
    count, k = 1200, 999
    vectors = np.random.default_rng(0).normal(size=(count, 576)).astype(np.float32)
    names = [str(bench.work / f"{number:04}.jpg") for number in range(count)]
    for name in names:  # fastdup wants the files
        shutil.copy(bench.photos / "coffee.jpg", name)
    annotations = pd.DataFrame({"filename": names})
    run = bench.run(annotations=annotations, embeddings=vectors, nearest_neighbors_k=k, threshold=-2)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    true = np.argsort(-cosine, axis=1)[:, :k]
    truth = {(row, int(other)) for row in range(count) for other in true[row]}
    pairs = run.similarity(data=False)
    return round(len(truth & set(zip(pairs["from"], pairs["to"], strict=True))) / len(truth), 3)


def embeddings_after_feature_vector(bench: Bench) -> Any:
    """rows of embeddings() before and after feature_vector()"""
    run = bench.run()
    before = len(run.embeddings()[0])
    run.feature_vector(str(bench.photos / "text.jpg"))
    return f"{before}, {len(run.embeddings()[0])}"


def crop_changes_features(bench: Bench) -> Any:
    """a global bounding_box changes the features"""
    whole = bench.run().embeddings()[1]
    cut = bench.run(bounding_box="row_y=5,col_x=5,height=60,width=60").embeddings()[1]
    return bool(np.abs(whole - cut).max() > 0)


def red_of_red(bench: Bench) -> Any:
    """mean_r, mean_b of pictures of RGB (200, 0, 10)"""
    pictures = {f"red{number}": np.full((64, 64, 3), (10, number, 200), np.uint8) for number in range(3)}
    row = bench.run(bench.write(**pictures), run_advanced_stats=True).img_stats().iloc[0]
    return f"{row['mean_r']:.0f}, {row['mean_b']:.0f}"


def blur_of_red_noise(bench: Bench) -> Any:
    """noise in the red channel alone has a blur over 0"""
    pictures = {}
    for number in range(3):
        pictures[f"noise{number}"] = pixels = np.full((64, 64, 3), 128, np.uint8)
        pixels[..., 2] = np.random.default_rng(number).integers(0, 256, (64, 64))
    return bool(bench.run(bench.write(**pictures)).img_stats()["blur"].min() > 0)


def summary_thresholds(bench: Bench) -> Any:
    """lines of summary() that change with thresholds for which every image is blurred, dark and bright"""
    run = bench.run()
    usual = run.summary(verbose=False)
    extreme = run.summary(verbose=False, blur_threshold=1e9, brightness_threshold=0, darkness_threshold=255)
    return sum(line not in usual for line in extreme)


def script_in_label(bench: Bench) -> Any:
    """a label `<script>…</script>` stands in the gallery as a script"""
    names = sorted(str(path) for path in bench.photos.iterdir())
    run = bench.run(annotations=pd.DataFrame({"filename": names, "label": LABEL}))
    run.vis.duplicates_gallery(show=False)
    return any(LABEL in page.read_text(encoding="utf-8") for page in bench.work.rglob("*.html"))


def relative_annotations(bench: Bench) -> Any:
    """annotations with names relative to input_dir: images analysed"""
    names = sorted(path.name for path in bench.photos.iterdir())
    return int(bench.run(annotations=pd.DataFrame({"filename": names})).num_instances())


def silly_percentile(bench: Bench) -> Any:
    """outlier_percentile=2"""
    return f"{len(bench.run(outlier_percentile=2).outliers())} outliers"


def hosts(bench: Bench) -> Any:
    """how many hosts it wanted to reach in all of this"""
    return bench.run().num_instances()


MEASURES: tuple[Callable[[Bench], Any], ...] = (
    component_count, euclidean_outlier, manhattan_pairs, recall_of_many_neighbours, embeddings_after_feature_vector,
    crop_changes_features, red_of_red, blur_of_red_noise, summary_thresholds, script_in_label, relative_annotations,
    silly_percentile, hosts,
)  # fmt: skip


def measure_here(module: str, name: str, work: Path) -> Any:
    """One measure in this process; an exception is a result, and so is SystemExit."""
    try:
        return next(measure for measure in MEASURES if measure.__name__ == name)(Bench(module, work))
    except Exception as error:  # noqa: BLE001 - that it fails, and how, is what is measured
        return f"{type(error).__name__}: {str(error)[:80]}"


def measure_there(python: Path, module: str, name: str, photos: dict[str, np.ndarray], proxy: str) -> Any:
    """One measure in a new process of that Python."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "photos").mkdir()
        for photo, pixels in photos.items():
            cv2.imwrite(str(work / "photos" / f"{photo}.jpg"), pixels)
        for copy in ("coffee2", "coffee3"):
            shutil.copy(work / "photos" / "coffee.jpg", work / "photos" / f"{copy}.jpg")
        environment = {
            **os.environ,
            "HTTPS_PROXY": proxy,
            "HTTP_PROXY": proxy,
            "https_proxy": proxy,
            "http_proxy": proxy,
        }
        command = [str(python), str(Path(__file__).resolve()), "--here", module, name, folder]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    last = done.stdout.strip().rpartition("\n")[2]
    return json.loads(last) if done.returncode == 0 else f"the process ends, exit code {done.returncode}"


@contextmanager
def refusing_proxy(asked: set[str]) -> Iterator[str]:
    """A proxy on this machine that notes whom it is asked for and reaches nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    words = connection.recv(4096).split(b" ")
                    asked.add(words[1].decode("latin-1").partition("://")[2] or words[1].decode("latin-1"))

        threading.Thread(target=refuse, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fastdup-python", type=Path, help="of an environment with fastdup; without it only this project"
    )
    parser.add_argument("--only", choices=[measure.__name__ for measure in MEASURES], help="one row alone")
    parser.add_argument("--here", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        module, name, work = arguments.here
        print("\n" + json.dumps(measure_here(module, name, Path(work))))
        return

    from fastdup_dagster.demo.photos import PHOTOS, read_photo

    wanted = ("coffee", "astronaut", "rocket", "text")
    photos = {photo.name: read_photo(photo)[:, :, ::-1] for photo in PHOTOS if photo.name in wanted}
    tools = {"fastdup_dagster": Path(sys.executable)}
    if arguments.fastdup_python:
        tools = {"fastdup": arguments.fastdup_python.absolute(), **tools}
    asked: dict[str, set[str]] = {module: set() for module in tools}
    print("| measured | " + " | ".join(tools) + " |\n|---" + "|---" * len(tools) + "|")
    for measure in MEASURES:
        if arguments.only not in (None, measure.__name__):
            continue
        row = []
        for module, python in tools.items():
            with refusing_proxy(asked[module]) as proxy:
                found = measure_there(python, module, measure.__name__, photos, proxy)
            row.append(len(asked[module]) if measure is hosts else found)
        print(f"| {measure.__doc__} | " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
