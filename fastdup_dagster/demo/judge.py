"""The rules by which each kind of defect counts as found, as a false alarm, or as implied by the plants.

Images that were made from one another, directly or over a third one, are a GROUP. A pair inside a group that is
reported but was not planted is implied (a copy of a copy, an original and its blurred copy): no false alarm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import polars as pl

File = tuple[str, str]  # split, filename
Pair = frozenset[File]

_SAME_PICTURE = ("near_duplicate", "identical_pixels")


@dataclass(frozen=True)
class SplitTables:
    """The tables of one split, by the names and schemas of `fastdup_dagster.schemas`."""

    image_manifest: pl.DataFrame
    img_stats: pl.DataFrame
    similarity: pl.DataFrame
    outliers: pl.DataFrame
    components: pl.DataFrame


@dataclass(frozen=True)
class DemoTables:
    """What a run over the demo found: the tables of each split, and the leaks between the splits."""

    splits: Mapping[str, SplitTables]
    split_leakage: pl.DataFrame


@dataclass
class Verdict:
    """The score of one kind: how many were planted, names of the missed and of the false alarms, remarks."""

    planted: int
    missed: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Truth:
    """What was planted.

    Attributes:
        files: the planted files of each kind.
        pairs: the planted pairs (file, its original) of each kind.
    """

    def __init__(self, planted: pl.DataFrame) -> None:
        self.files: dict[str, list[File]] = {}
        self.pairs: dict[str, list[Pair]] = {}
        self._group: dict[File, File] = {}
        self._twin: dict[File, File] = {}
        for row in planted.iter_rows(named=True):
            file = (row["split"], row["filename"])
            self.files.setdefault(row["kind"], []).append(file)
            if row["other_filename"] is None:
                continue
            original = (row["other_split"], row["other_filename"])
            self.pairs.setdefault(row["kind"], []).append(frozenset((file, original)))
            _join(self._group, file, original)
            if row["kind"] == "exact_copy":
                _join(self._twin, file, original)

    def group(self, file: File) -> File:
        """One file that stands for all that were made from one another."""
        return _root(self._group, file)

    def twins(self, pair: Pair) -> Pair:
        """The pair with each file replaced by the one that stands for all its exact copies."""
        return frozenset(_root(self._twin, file) for file in pair)

    def implied(self, pair: Pair) -> bool:
        """Whether all files of the pair come from one image."""
        return len({self.group(file) for file in pair}) == 1


def _root(parents: dict[File, File], file: File) -> File:
    while (parent := parents.get(file, file)) != file:
        file = parent
    return file


def _join(parents: dict[File, File], one: File, other: File) -> None:
    parents[_root(parents, one)] = _root(parents, other)


class Judge:
    """Compares the tables of a run with the plants, kind by kind.

    Raises:
        ValueError: if a planted file stands in no manifest.
    """

    def __init__(self, truth: Truth, found: DemoTables) -> None:
        self._truth, self._found = truth, found
        self._names = {
            split: dict(tables.image_manifest.select("index", "filename").iter_rows())
            for split, tables in found.splits.items()
        }
        listed = {(split, name) for split, names in self._names.items() for name in names.values()}
        absent = sorted({file for files in truth.files.values() for file in files} - listed)
        if absent:
            raise ValueError(f"{len(absent)} planted files are in no manifest, {_name(absent[0])} the first of them")

    def exact_copies(self) -> Verdict:
        """Found: both files have one `content_hash` in `img_stats`."""
        reported = []
        for split, tables in self._found.splits.items():
            hashed = tables.img_stats.filter(pl.col("content_hash").is_not_null())
            for equal in hashed.group_by("content_hash").agg("index")["index"]:
                reported += [frozenset(pair) for pair in combinations(self._files(split, equal), 2)]
        return self._pairs("exact_copy", reported)

    def near_copies(self) -> Verdict:
        """Found: an edge between the two, or between exact copies of them, that is the same picture by its kind."""
        edges = [
            (split, *edge)
            for split, tables in self._found.splits.items()
            for edge in tables.similarity.select("from", "to", "kind").iter_rows()
        ]
        pairs = [(frozenset(self._files(split, (one, other))), kind) for split, one, other, kind in edges]
        verdict = self._pairs("near_copy", [pair for pair, kind in pairs if kind in _SAME_PICTURE])
        self._explain_missed(verdict, [pair for pair, kind in pairs if kind == "similar"])
        return verdict

    def leaks(self) -> Verdict:
        """Found: a row of `split_leakage` that says more than `similar`."""
        rows = self._found.split_leakage.select("split_from", "from", "split_to", "to", "kind").iter_rows()
        pairs = [
            (frozenset((*self._files(split, (one,)), *self._files(other_split, (other,)))), kind)
            for split, one, other_split, other, kind in rows
        ]
        verdict = self._pairs("leak", [pair for pair, kind in pairs if kind != "similar"])
        self._explain_missed(verdict, [pair for pair, kind in pairs if kind == "similar"])
        return verdict

    def flagged(self, kind: str, implied_by: tuple[str, ...] = ()) -> Verdict:
        """Found: the flag `is_<kind>` of `img_stats`.

        Args:
            kind: blurry, dark, bright or truncated.
            implied_by: kinds of plants that bring this flag with them.
        """
        flagged = {
            file
            for split, tables in self._found.splits.items()
            for file in self._files(split, tables.img_stats.filter(pl.col(f"is_{kind}"))["index"])
        }
        verdict, surplus = self._files_verdict(kind, flagged)
        implied = surplus & {file for other in implied_by for file in self._truth.files.get(other, [])}
        verdict.false_alarms = [_name(file) for file in surplus - implied]
        if implied:
            causes = " or ".join(implied_by)
            verdict.notes.append(
                f"planted as {causes} and flagged too, because hardly any detail is left: {len(implied)}"
            )
        return verdict

    def broken(self) -> Verdict:
        """Found: an `error_code` in `image_manifest` or `img_stats`."""
        codes: dict[File, str] = {}
        for split, tables in self._found.splits.items():
            for table in (tables.image_manifest, tables.img_stats):
                for index, code in table.select("index", "error_code").drop_nulls().iter_rows():
                    codes[split, self._names[split][index]] = code
        verdict, surplus = self._files_verdict("broken", set(codes))
        verdict.false_alarms = [_name(file) for file in surplus]
        verdict.notes += [f"{count} {code}" for code, count in sorted(Counter(codes.values()).items())]
        return verdict

    def outliers(self) -> Verdict:
        """Found: listed. False alarm: listed as more of an outlier than the last planted one that is found.

        What comes after it is none: the table always lists a fixed share of the edges.
        """
        planted = set(self._truth.files.get("outlier", []))
        listed: set[File] = set()
        alarms: list[str] = []
        after = 0
        for split, tables in self._found.splits.items():
            ranked = self._files(split, tables.outliers.sort("rank")["outlier"])
            listed.update(ranked)
            hits = [position for position, file in enumerate(ranked) if file in planted]
            expected = any(file[0] == split for file in planted)
            end = hits[-1] + 1 if hits else len(ranked) if expected else 0
            alarms += [_name(file) for file in ranked[:end] if file not in planted]
            after += len(ranked) - end
        verdict, _ = self._files_verdict("outlier", listed)
        verdict.false_alarms = alarms
        if after:
            verdict.notes.append(
                f"listed after the last planted one, because the table always holds the least alike edges: {after}"
            )
        return verdict

    def clusters(self) -> Verdict:
        """Found: an exact copy and its original share a component. False alarm: a component of several groups."""
        verdict = Verdict(len(self._truth.pairs.get("exact_copy", [])))
        together: set[Pair] = set()
        count = 0
        for split, tables in self._found.splits.items():
            for indexes in tables.components.group_by("component_id", maintain_order=True).agg("index")["index"]:
                files = self._files(split, indexes)
                together.update(frozenset(pair) for pair in combinations(files, 2))
                count += 1
                if not self._truth.implied(frozenset(files)):
                    verdict.false_alarms.append(" + ".join(_name(file) for file in files))
        verdict.missed = [_pair_name(pair) for pair in self._truth.pairs.get("exact_copy", []) if pair not in together]
        verdict.notes.append(f"clusters in all, with those of near copies: {count}")
        return verdict

    def _files(self, split: str, indexes: Iterable[int]) -> list[File]:
        return [(split, self._names[split][index]) for index in indexes]

    def _files_verdict(self, kind: str, reported: set[File]) -> tuple[Verdict, set[File]]:
        """The verdict but for its false alarms, and the files that were reported and not planted."""
        planted = self._truth.files.get(kind, [])
        missed = [_name(file) for file in planted if file not in reported]
        return Verdict(len(planted), missed), reported - set(planted)

    def _pairs(self, kind: str, reported: Iterable[Pair]) -> Verdict:
        pairs, planted = set(reported), self._truth.pairs.get(kind, [])
        lifted = {self._truth.twins(pair) for pair in pairs} if kind != "exact_copy" else pairs
        wanted = {pair: self._truth.twins(pair) if kind != "exact_copy" else pair for pair in planted}
        verdict = Verdict(len(planted), [_pair_name(pair) for pair, key in wanted.items() if key not in lifted])
        implied = {pair for pair in pairs if self._truth.implied(pair)}
        verdict.false_alarms = [_pair_name(pair) for pair in pairs - implied]
        if surplus := implied - set(planted):
            verdict.notes.append(
                f"implied by the plants, because both images come from one picture: {len(surplus)} more"
            )
        return verdict

    def _explain_missed(self, verdict: Verdict, similar: list[Pair]) -> None:
        if not verdict.missed:
            return
        seen = {_pair_name(pair) for pair in similar}
        unproven = sum(name in seen for name in verdict.missed)
        if unproven:
            verdict.notes.append(f"missed because the verified score is too low (reported as similar): {unproven}")
        if unproven < len(verdict.missed):
            verdict.notes.append(f"missed because not over the similarity threshold: {len(verdict.missed) - unproven}")


def _name(file: File) -> str:
    return "/".join(file)


def _pair_name(pair: Pair) -> str:
    return " ~ ".join(sorted(_name(file) for file in pair))
