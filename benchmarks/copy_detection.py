"""Do edited copies find their original? Each photo is edited in 15 ways; the edits are the queries.

The database are the untouched photos, the score is the cosine of the feature vectors. The edits are files (PNG, but
for the JPEG edit) that each tool reads and embeds through its own V1 API, as users' images are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from common import Inputs, images_in, judged, parser_for, say_header, say_table, write_json
from edits import EDITS, SEED, edited, read_rgb, write_rgb
from scores import CopyDetection, copy_detection
from v1_tools import Tool, add_fastdup_argument, fastdup, fastdup_version, ours

from fastdup_dagster.settings import Settings

WANTED_MICRO_AP = 0.98
WANTED_RECALL = 0.99
# What `threshold` and `cc_threshold` are by default.
COSINES = (Settings().threshold, Settings().cc_threshold)


def write_edits(photos: Sequence[Path], folder: Path) -> tuple[list[Path], list[list[Path]]]:
    """Originals, as they are, and their edits, as files in one folder.

    Returns:
        The originals [photos] and the edits [edits][photos].
    """
    originals: list[Path] = []
    queries: list[list[Path]] = [[] for _ in EDITS]
    for number, photo in enumerate(photos):
        originals.append(Path(shutil.copy(photo, folder / f"{number:04d}_original{photo.suffix.lower()}")))
        image = read_rgb(photo)
        for kind, edit in enumerate(EDITS):
            path = folder / f"{number:04d}_edit_{kind:02d}.png"
            write_rgb(path, edited(image, number, edit))
            queries[kind].append(path)
    return originals, queries


def judge(tool: Tool, folder: Path, originals: list[Path], queries: list[list[Path]], threads: int) -> CopyDetection:
    """Embed all files with one tool and score them."""
    files = [*originals, *(path for kind in queries for path in kind)]
    with tempfile.TemporaryDirectory(prefix="copy_detection_") as name:
        vectors, _ = tool.vectors(folder, files, Path(name), threads)
    first = len(originals)
    queried = vectors[first:].reshape(len(queries), first, -1)
    return copy_detection(vectors[:first], queried, list(EDITS), COSINES)


def main() -> None:
    """Measure and print."""
    parser = parser_for(
        "Copy detection: uAP and recall@1 of 15 edits of each photo.",
        "  python benchmarks/copy_detection.py PHOTOS\n"
        "  python benchmarks/copy_detection.py PHOTOS --fastdup-python F/bin/python\n"
        "  python benchmarks/copy_detection.py PHOTOS --provider openvino",
    )
    parser.add_argument("photos", type=Path, help="folder of photos, no two alike")
    add_fastdup_argument(parser, required=False)
    parser.add_argument("--width", type=int, default=576, help="width of our vectors, 576 or 960 (576)")
    parser.add_argument("--provider", default="cpu", help="what runs our model: cpu, openvino, cuda (cpu)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()

    photos = images_in(given.photos)
    tools = [ours({"d": given.width, "providers": [given.provider]})]
    inputs = [Inputs("photos", given.photos, photos).describe(given.list_inputs)]
    with tempfile.TemporaryDirectory(prefix="edits_") as name:
        folder = Path(name)
        if given.fastdup_python:
            tools.append(fastdup(given.fastdup_python))
            inputs.append(f"peer: fastdup {fastdup_version(tools[-1], folder)}")
        header = say_header(inputs, SEED)
        originals, queries = write_edits(photos, folder)
        results = {tool.name: judge(tool, folder, originals, queries, given.threads) for tool in tools}

    say_table(
        ["", "uAP", "recall@1", "recall at 95 % precision"],
        [[name, f"{r.micro_ap:.4f}", f"{r.recall_at_1:.4f}", f"{r.recall_at_p95:.4f}"] for name, r in results.items()],
    )
    say_table(
        ["recall@1 of", *results], [[edit, *(f"{r.by_edit[edit]:.4f}" for r in results.values())] for edit in EDITS]
    )
    say_table(
        [
            "",
            *(f"{words} at {least} or over" for least in COSINES for words in ("edits", "different photos")),
            "different photos on average",
        ],
        [
            [
                name,
                *(text for share, pairs in r.over.values() for text in (f"{share:.3f}", f"{pairs:,}")),
                f"{r.strangers:.3f}",
            ]
            for name, r in results.items()
        ],
    )
    print()
    own = results[tools[0].name]
    print(judged("uAP", own.micro_ap, WANTED_MICRO_AP))
    print(judged("recall@1", own.recall_at_1, WANTED_RECALL))
    for peer in tools[1:]:
        print(judged(f"uAP above that of {peer.name}", own.micro_ap, results[peer.name].micro_ap))
        print(judged(f"recall@1 above that of {peer.name}", own.recall_at_1, results[peer.name].recall_at_1))
    write_json(given.json, header | {name: asdict(result) for name, result in results.items()})


if __name__ == "__main__":
    main()
