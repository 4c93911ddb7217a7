"""Time, CPU and memory of one analysis: this project against fastdup, same files, threads and cores.

Fresh processes in turns, through the same V1 calls; time is that of the whole process, from start to exit. One run of
each comes first that does not count: it warms the caches, also those in a home that each tool has for all of its runs,
and says how much was found.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from common import Inputs, images_in, judged, parser_for, say_header, say_table, write_json
from edits import SEED, make_jpegs
from processes import Usage, pin
from v1_tools import Tool, add_fastdup_argument, fastdup, fastdup_version, ours

MEASURES = ("wall", "cpu", "peak_mb")
WANTED_RATIO = 3.0


def in_turns(tools: Sequence[Tool], folder: Path, threads: int, rounds: int, scratch: Path) -> dict[str, list[Usage]]:
    """`rounds` runs of each tool, every other round in the reverse order."""
    usages: dict[str, list[Usage]] = {tool.name: [] for tool in tools}
    for number in range(rounds):
        for tool in tools[:: 1 if number % 2 else -1]:
            usage, result = tool.run(folder, scratch, threads)
            usages[tool.name].append(usage)
            parts = f"import {result['import_seconds']:.2f} s, run() {result['run_seconds']:.2f} s"
            print(
                f"  {tool.name:16} wall {usage.wall:7.2f} s  cpu {usage.cpu:7.2f} s  {usage.peak_mb:6.0f} MB  ({parts})"
            )
            shutil.rmtree(result["work"])
    return usages


def report(usages: dict[str, list[Usage]], count: int) -> dict[str, Any]:
    """Prints medians and ratios; returns them."""
    middle = {
        name: {measure: median(getattr(usage, measure) for usage in runs) for measure in MEASURES}
        for name, runs in usages.items()
    }
    our_own, peer = middle["fastdup_dagster"], middle["fastdup"]
    ratio = {measure: peer[measure] / our_own[measure] for measure in MEASURES}
    rows: list[list[Any]] = [
        [name, m["wall"], m["cpu"], m["peak_mb"], count / m["wall"], count / m["cpu"]] for name, m in middle.items()
    ]
    rows.append(["fastdup / fastdup_dagster", ratio["wall"], ratio["cpu"], ratio["peak_mb"], "", ""])
    say_table(["median", "wall s", "CPU s", "peak MB", "images/s", "images per CPU s"], rows)
    print()
    for measure in ("wall", "cpu"):
        print(judged(f"times less {measure}", ratio[measure], WANTED_RATIO))
    return {"median": middle, "ratio": ratio, "runs": {name: [vars(u) for u in runs] for name, runs in usages.items()}}


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = parser_for(
        "Measure this project against fastdup: wall time, CPU seconds with children, peak memory.",
        """  python benchmarks/versus_fastdup.py JPEGS --make-from PHOTOS --count 2000 --fastdup-python F/bin/python
  python benchmarks/versus_fastdup.py CIFAR --fastdup-python F/bin/python --rounds 5
  python benchmarks/versus_fastdup.py JPEGS --fastdup-python F/bin/python --options '{"providers": ["openvino"]}'""",
    )
    parser.add_argument("folder", type=Path, help="images to analyse; with --make-from, where they are written")
    add_fastdup_argument(parser, required=True)
    parser.add_argument("--make-from", type=Path, metavar="PHOTOS", help="first fill the folder with edits of photos")
    parser.add_argument("--count", type=int, default=2000, help="JPEGs to make (2000)")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores for both (2)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each (3)")
    parser.add_argument("--our-python", type=Path, metavar="PYTHON", help="another Python with this project in it")
    parser.add_argument("--options", default="{}", help="further arguments of our run(), as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    import json

    given = arguments()
    if given.make_from:
        make_jpegs(images_in(given.make_from), given.folder, given.count)
    files = images_in(given.folder)
    pin(given.threads)
    with tempfile.TemporaryDirectory(prefix="versus_fastdup_") as name:
        scratch = Path(name)
        peer = fastdup(given.fastdup_python)
        tools = [ours(json.loads(given.options), given.our_python), peer]
        header = say_header([Inputs("images", given.folder, files).describe(given.list_inputs)], SEED)
        print(f"peer   fastdup {fastdup_version(peer, scratch)}, {given.threads} threads on as many cores for both\n")
        found = {}
        for tool in tools:
            found[tool.name] = tool.run(given.folder.absolute(), scratch, given.threads, "--counts")[1]
            counts = {key: value for key, value in found[tool.name].items() if isinstance(value, int)}
            print(f"  {tool.name:16} found {counts}")
            shutil.rmtree(found[tool.name]["work"])
        figures = report(in_turns(tools, given.folder.absolute(), given.threads, given.rounds, scratch), len(files))
    write_json(given.json, header | {"found": found} | figures)


if __name__ == "__main__":
    main()
