"""One analysis through the V1 API: the same lines for fastdup and for fastdup_dagster, in a process of its own.

It runs in the Python of the tool that it measures, so it imports nothing else of this project. The last line that it
prints is a JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path


def main() -> None:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(
        description="One analysis through the V1 API.",
        epilog="example: python v1_run.py fastdup_dagster PHOTOS WORK --threads 2",
    )
    parser.add_argument("module", help="fastdup or fastdup_dagster")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--options", type=json.loads, default={}, help="further arguments of run(), as JSON")
    parser.add_argument("--counts", action="store_true", help="say how much was found; not in a run that is timed")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="write file names and vectors here (.npz)")
    arguments = parser.parse_args()

    begun = time.perf_counter()
    tool = importlib.import_module(arguments.module)
    imported = time.perf_counter()
    analysis = tool.create(work_dir=str(arguments.work), input_dir=str(arguments.images))
    analysis.run(num_threads=arguments.threads, overwrite=True, print_summary=False, **arguments.options)
    ended = time.perf_counter()
    result: dict[str, float] = {"import_seconds": imported - begun, "run_seconds": ended - imported}
    if arguments.counts:
        result |= {
            "instances": int(analysis.num_instances()),
            "pairs": len(analysis.similarity()),
            "outliers": len(analysis.outliers()),
            "in components": len(analysis.connected_components()[0]),
        }
    if arguments.vectors:
        import numpy as np

        names, vectors = analysis.embeddings()
        np.savez(arguments.vectors, names=np.array([str(name) for name in names]), vectors=vectors)
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
