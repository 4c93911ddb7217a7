"""How often a photo's own class is among the tags of `fd.caption(model_name="tags")`.

    python benchmarks/tags.py PHOTOS

PHOTOS holds images named `nXXXXXXXX_class_name.JPEG`, one ImageNet class each. A file's class is the label of the
bundled list that has the same words, whatever stands between them; of labels that differ in upper and lower case alone
(`Cardigan` the dog, `cardigan`) the one that is spelled alike. ImageNet has two classes named crane and two named
maillot, which the list tells apart by a further word: either counts. A file whose class the list lacks counts as
missed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from common import Inputs, images_in, machine

from fastdup_dagster.images import decode
from fastdup_dagster.models.captioning.tags import TagsCaptioner

BATCH = 8
TOP = 5
LIMIT = 0.85
SHARED = ("crane", "maillot")


def words(name: str) -> str:
    """A class name with one space between its words, whatever stood there."""
    return " ".join(re.findall(r"[A-Za-z0-9]+", name))


def classes_of(path: Path, labels: list[str]) -> set[int]:
    """The classes of the list that the name of a file may mean."""
    wanted = words(path.stem.partition("_")[2])
    known = [words(label) for label in labels]
    spelled = {number for number, label in enumerate(known) if label == wanted}
    alike = {number for number, label in enumerate(known) if label.lower() == wanted.lower()}
    shared = {number for number, label in enumerate(known) if wanted in SHARED and label.startswith(f"{wanted} ")}
    return (spelled or alike) | shared


def main() -> int:
    """Prints the shares; exit code 1 if the likeliest five miss the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--verbose", action="store_true", help="also name the files that were missed")
    folder = parser.parse_args().photos
    paths = images_in(folder)
    captioner = TagsCaptioner(None, {}, ("cpu",), threads=1)
    first = top = unknown = 0
    missed: list[str] = []
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        images = [captioner.prepare(decode(path.read_bytes(), captioner.min_side)) for path in batch]
        for path, row in zip(batch, captioner.probabilities(images), strict=True):
            best = [int(number) for number in (-row).argsort(kind="stable")[:TOP]]
            classes = classes_of(path, captioner.labels)
            unknown += not classes
            first += best[0] in classes
            top += bool(classes & set(best))
            if not classes & set(best):
                missed.append(f"{path.name}: {', '.join(captioner.labels[number] for number in best)}")
    print(machine())
    print(Inputs("photos", folder, paths).describe())
    print(f"{unknown} of {len(paths)} files are of a class that the label list does not name")
    print(f"own class is the likeliest: {first} of {len(paths)}, {first / len(paths):.1%}")
    print(f"own class among the likeliest {TOP}: {top} of {len(paths)}, {top / len(paths):.1%} (at least {LIMIT:.0%})")
    if parser.parse_args().verbose:
        print(*missed, sep="\n")
    return 0 if top / len(paths) >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
