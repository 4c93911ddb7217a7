"""Makes the demo data set: two splits of images, some with planted defects, and the list of what was planted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import polars as pl

from fastdup_dagster.demo import edits, plants
from fastdup_dagster.demo.photos import Base, cut_tiles
from fastdup_dagster.demo.plants import PLANTED_SCHEMA, SPLITS, TEST, TRAIN

PLANTED_FILE = "planted.csv"

File = tuple[str, str]  # split, filename


def make_demo(folder: Path, seed: int = 0) -> pl.DataFrame:
    """Writes `train/`, `test/` and `planted.csv` into a folder. Files that are already right are not touched.

    Args:
        folder: made if it is not there.
        seed: which images get which defect, and where. The same seed gives the same bytes.

    Returns:
        What was planted, as in `planted.csv`: kind, split, filename (relative to the split's folder),
        other_split and other_filename (the image it was made from, null if there is none), edit.

    Raises:
        FileExistsError: if the split folders hold files that are not of this data set; nothing is ever removed.
    """
    data_set = _DataSet(seed)
    known = {folder / split / name for split, name in data_set.files}
    foreign = [path for split in SPLITS for path in sorted((folder / split).rglob("*")) if path not in known]
    if foreign:
        raise FileExistsError(
            f"{foreign[0]} and {len(foreign) - 1} more are no part of the demo with seed={seed}: "
            "give it a folder of its own"
        )
    for (split, name), data in data_set.files.items():
        _write(folder / split / name, data)
    planted = pl.DataFrame(data_set.planted, schema=PLANTED_SCHEMA, orient="row")
    _write(folder / PLANTED_FILE, planted.write_csv().encode())
    return planted


def _write(path: Path, data: bytes) -> None:
    """Writes a file, unless it has these bytes: a new modification time would make the next run read it again."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class _DataSet:
    """The data set in memory.

    Attributes:
        files: bytes by split and name.
        planted: one row per plant, in the columns of `PLANTED_SCHEMA`.
    """

    def __init__(self, seed: int) -> None:
        self.files: dict[File, bytes] = {}
        self.planted: list[tuple[str, str, str, str | None, str | None, str]] = []
        self._rng = Random(seed)  # noqa: S311 - a choice of images, no secret
        self._in_split: dict[str, list[Base]] = {split: [] for split in SPLITS}
        bases = {base.name: base for base in cut_tiles()}
        small = {name for name, _ in plants.NEAR_OF_SMALL_FAMILIES}
        self._left = [base for base in bases.values() if base.name not in small]
        self._rng.shuffle(self._left)
        self._plant_edited({name: self._add(bases[name], TRAIN) for name in sorted(small)})
        self._plant_exact_leak()
        for split in SPLITS:
            self._plant_copies(split)
            self._plant_defects(split)
            self._plant_strangers(split)
        self._share_out_the_rest()
        for split in SPLITS:
            self._plant_exposures(split)

    def _add(self, base: Base, split: str) -> Base:
        self.files[split, f"{base.name}.jpg"] = edits.encode(base.pixels)
        self._in_split[split].append(base)
        return base

    def _take(self, split: str, edit: str | None = None) -> Base:
        """The next image that stands the edit and has no other role; it joins the split."""
        base = next(base for base in self._left if edit is None or edit in base.edits)
        self._left.remove(base)
        return self._add(base, split)

    def _share_out_the_rest(self) -> None:
        """Fills test evenly from the photos: a part of a photo that stands alone would be an outlier by that."""
        while len(self._in_split[TEST]) < plants.TEST_IMAGES:
            there = Counter(base.photo for base in self._in_split[TEST])
            base = min(self._left, key=lambda base: there[base.photo])
            self._left.remove(base)
            self._add(base, TEST)
        for base in self._left:
            self._add(base, TRAIN)

    def _plant(
        self, kind: str, file: File, data: bytes, edit: str, of: File | tuple[None, None] = (None, None)
    ) -> None:
        self.files[file] = data
        self.planted.append((kind, *file, *of, edit))

    def _plant_edited(self, small: dict[str, Base]) -> None:
        for name, edit in plants.NEAR_OF_SMALL_FAMILIES:
            self._plant_edit("near_copy", small[name], TRAIN, TRAIN, edit)
        for kind, source, target, edit in plants.EDITED:
            self._plant_edit(kind, self._take(source, edit), source, target, edit)

    def _plant_edit(self, kind: str, base: Base, source: str, target: str, edit: str) -> None:
        words, apply = plants.NEAR_EDITS[edit]
        file = (target, f"{base.name}_{edit}.jpg")
        self._plant(kind, file, apply(base.pixels, self._rng), words, (source, f"{base.name}.jpg"))

    def _plant_exact_leak(self) -> None:
        base = self._take(TRAIN)
        source = (TRAIN, f"{base.name}.jpg")
        self._plant("leak", (TEST, plants.EXACT_LEAK.format(base.name)), self.files[source], plants.COPY, source)

    def _plant_copies(self, split: str) -> None:
        for patterns in plants.EXACT[split]:
            base = self._take(split)
            source = (split, f"{base.name}.jpg")
            for pattern in patterns:
                self._plant("exact_copy", (split, pattern.format(base.name)), self.files[source], plants.COPY, source)

    def _plant_defects(self, split: str) -> None:
        for _ in range(plants.TRUNCATED[split]):
            base = self._take(split, "half")
            source = (split, f"{base.name}.jpg")
            name = f"{base.name}_incomplete.jpg"
            self._plant("truncated", (split, name), edits.half(self.files[source]), "half of the bytes", source)
        for _ in range(plants.BLURRY[split]):
            base = self._take(split)
            sigma = round(self._rng.uniform(3, 6), 1)
            data = edits.encode(edits.gaussian_blur(base.pixels, sigma))
            file, source = (split, f"{base.name}_blurred.jpg"), (split, f"{base.name}.jpg")
            self._plant("blurry", file, data, f"Gaussian blur, sigma {sigma}", source)

    def _plant_strangers(self, split: str) -> None:
        for name, (words, data) in plants.BROKEN[split].items():
            self._plant("broken", (split, name), data, words)
        for name, draw in plants.OUTLIERS[split].items():
            self._plant("outlier", (split, name), edits.encode(draw(self._rng)), draw.__name__.replace("_", " "))

    def _plant_exposures(self, split: str) -> None:
        count = plants.WRONGLY_EXPOSED[split]
        chosen = self._rng.sample(self._in_split[split], 2 * count)
        for kind, bases, low, high in (("dark", chosen[:count], 2.0, 3.0), ("bright", chosen[count:], 253.6, 254.2)):
            for base in bases:
                mean = round(self._rng.uniform(low, high), 1)
                data = edits.encode(edits.expose(base.pixels, mean))
                file, source = (split, f"{base.name}_{kind}.jpg"), (split, f"{base.name}.jpg")
                self._plant(kind, file, data, f"exposed to a mean of {mean}", source)
