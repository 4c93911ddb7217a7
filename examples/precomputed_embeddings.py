"""Analyses feature vectors of one's own, here colour histograms: nothing is extracted.

    python examples/precomputed_embeddings.py FOLDER

Vectors of any model and any width will do, one row per row of the annotations.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import fastdup_dagster as fastdup


def colour_histogram(path: Path, bins: int = 8) -> np.ndarray:
    """Share of pixels in each of `bins` cubed boxes of RGB, float32."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((64, 64)))
    counts, _ = np.histogramdd(pixels.reshape(-1, 3), bins=bins, range=[(0, 256)] * 3)
    return (counts / counts.sum()).astype(np.float32).ravel()


def main() -> None:
    """Make the vectors, analyse them, print the closest pairs and the largest group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", default="results")
    arguments = parser.parse_args()

    paths = sorted(arguments.folder.glob("*.jpg"))
    vectors = np.stack([colour_histogram(path) for path in paths])
    annotations = pd.DataFrame({"filename": [path.name for path in paths]})

    fd = fastdup.create(arguments.results, arguments.folder)
    fd.run(annotations=annotations, embeddings=vectors, distance="euclidean", nnf_mode="Flat", print_summary=False)

    names, stored = fd.embeddings()
    print(f"{len(names)} vectors of width {stored.shape[1]}")
    pairs = fd.similarity()
    for pair in pairs[pairs["from"] < pairs["to"]].head(5).itertuples():
        print(f"{pair.distance:.3f}  {Path(pair.filename_from).name}  {Path(pair.filename_to).name}")


if __name__ == "__main__":
    main()
