"""Which uploads are finished, and have not been launched yet: the rule, without Dagster.

By a marker: somebody who has uploaded a split writes `_SUCCESS` into its folder, and writes it again after a change.
By a settled listing: nothing in the folder was added, changed or removed between two listings that lie so many minutes
apart. Both look at the same for folders and buckets. All that is known is in a `State`, which is text between two
looks: a look that was interrupted is simply taken again.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastdup_dagster.datasets import DatasetEntry, DatasetsError, partition_key
from fastdup_dagster.sources.locations import is_remote, joined
from fastdup_dagster.sources.splits import WHOLE
from fastdup_dagster.uploads.memory import Finished, Memory
from fastdup_dagster.uploads.trees import Tree, digest, digest_sum, open_tree

# An object that was written this lately may be written again within the same tick of its storage's clock, unseen.
_YOUNG = 2.0


@dataclass(frozen=True)
class Budget:
    """What one look may cost: requests (a page of a listing, a marker), uploads to launch, seconds."""

    requests: int = 50
    launches: int = 100
    seconds: float = 40.0


@dataclass
class State(Memory):
    """What is known between two looks.

    Attributes:
        launched: digest of the upload that was launched last, by partition.
        settling: digest that a listing had, and the time that it began, by partition.
        listing: the listing that is under way: partition, after, sum, count, began.
        turn: partition that was looked at last; the next look goes on behind it.
    """

    launched: dict[str, str] = field(default_factory=dict)
    settling: dict[str, tuple[str, float]] = field(default_factory=dict)
    listing: dict[str, Any] | None = None
    turn: str = ""

    def take_back(self, upload: Finished) -> None:
        """Forgets that an upload was launched, so that a later look finds it again."""
        self.launched.pop(upload.partition, None)


@dataclass(frozen=True)
class _Split:
    partition: str
    entry: DatasetEntry
    place: str
    known: bool

    @property
    def root(self) -> str | Path:
        return joined(self.entry.root, self.place)


class Look:
    """One look at the data sets.

    Args:
        state: is changed.
        budget: what the look may cost.
        clock: seconds since the epoch.
        open_at: opens a tree.

    Attributes:
        finished: uploads to launch.
        problems: what could not be looked at, and why.
    """

    def __init__(
        self,
        state: State,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.time,
        open_at: Callable[[str | Path], Tree] = open_tree,
    ) -> None:
        self._state, self._budget, self._clock, self._open = state, budget or Budget(), clock, open_at
        self._requests = 0
        self._end = clock() + self._budget.seconds
        self.finished: list[Finished] = []
        self.problems: list[str] = []

    def at(self, datasets: Mapping[str, DatasetEntry]) -> None:
        """Looks at every split in turn, as far as the budget goes; the next look goes on from there."""
        splits = {split.partition: split for name in sorted(datasets) for split in self._splits(name, datasets[name])}
        self._forget(set(splits), set(datasets))
        names = sorted(splits)
        later = [name for name in names if name > self._state.turn]
        for name in later + names[: len(names) - len(later)]:
            if self._spent() or len(self.finished) == self._budget.launches:
                return
            if not self._complete(splits[name]):
                return
            self._state.turn = name

    def _spent(self) -> bool:
        return self._requests >= self._budget.requests or self._clock() >= self._end

    def _forget(self, splits: set[str], datasets: set[str]) -> None:
        """Lets go of what is known of data sets that are no longer registered."""
        for known in (self._state.launched, self._state.settling):
            for partition in [p for p in known if p not in splits and p.partition("/")[0] not in datasets]:
                del known[partition]
        if self._state.listing and self._state.listing["partition"] not in splits:
            self._state.listing = None

    def _splits(self, name: str, entry: DatasetEntry) -> list[_Split]:
        """The splits of a data set that are folders, and sub-folders beside them that may become splits."""
        known = {
            split: _Split(partition_key(name, split), entry, place, known=True)
            for split, place in entry.splits.items()
            if is_remote(entry.root) or (Path(entry.root) / place).is_dir() or not (Path(entry.root) / place).exists()
        }
        parents = {posixpath.dirname(place) for place in entry.splits.values() if place != "."}
        if WHOLE in entry.splits or len(parents) != 1:  # nothing says which folders would be splits
            return list(known.values())
        [parent] = parents
        places = {posixpath.normpath(place) for place in entry.splits.values()}
        found = dict(known)
        for folder in self._folders(name, joined(entry.root, parent or ".")):
            place, split = posixpath.join(parent, folder), folder.lower()
            if place in places or str(joined(entry.root, place)) == str(entry.store_root()).rstrip("/"):
                continue
            try:
                if split in found:
                    raise DatasetsError(f"{folder} and {found[split].place} are both the split {split!r}")
                found[split] = _Split(partition_key(name, split), entry, place, known=False)
            except DatasetsError as error:
                self.problems.append(f"{name}: {place} is no split: {error}")
        return list(found.values())

    def _folders(self, name: str, place: str | Path) -> list[str]:
        self._requests += 1
        try:
            return [folder for folder in self._open(place).folders() if not folder.startswith((".", "_"))]
        except (OSError, ValueError) as error:
            self.problems.append(f"{name}: {error}")
            return []

    def _complete(self, split: _Split) -> bool:
        """Looks at one split; whether it was looked at to the end."""
        try:
            tree = self._open(split.root)
            minutes = split.entry.uploads.settled_minutes
            if minutes is None:
                self._look_at_marker(split, tree)
                return True
            return self._look_at_listing(split, tree, 60 * minutes)
        except (OSError, ValueError) as error:  # another data set's are looked at all the same
            self.problems.append(f"{split.partition}: {error}")
            return True

    def _look_at_marker(self, split: _Split, tree: Tree) -> None:
        self._requests += 1
        marker = tree.marker(split.entry.uploads.marker)
        if marker is None:
            self._state.launched.pop(split.partition, None)
        elif marker.age >= _YOUNG and digest(marker.token) != self._state.launched.get(split.partition):
            self._launch(split, digest(marker.token))

    def _look_at_listing(self, split: _Split, tree: Tree, seconds: float) -> bool:
        """Goes on with the listing of a split, and judges it once it is complete."""
        state = self._state.listing
        if state is None or state["partition"] != split.partition:
            state = {"partition": split.partition, "after": "", "sum": "", "count": 0, "began": self._clock()}
        store = _below(split.root, split.entry.store_root())
        while not self._spent():
            self._requests += 1
            page = tree.page(state["after"])
            objects = [item for item in page.objects if store is None or not item[0].startswith(store)]
            state["sum"] = digest_sum(state["sum"], objects)
            state["count"] += len(objects)
            if page.after is None:
                self._state.listing = None
                self._judge(split, state, seconds)
                return True
            state["after"] = page.after
        self._state.listing = state
        return False

    def _judge(self, split: _Split, listing: Mapping[str, Any], seconds: float) -> None:
        now, settling = f"{listing['count']}:{listing['sum']}", self._state.settling
        last = self._state.launched.get(split.partition)
        if now == last or (not listing["count"] and last is None):
            settling.pop(split.partition, None)
            return
        before, since = settling.get(split.partition, ("", 0.0))
        if before != now:
            settling[split.partition] = now, listing["began"]
        elif listing["began"] - since >= seconds:
            del settling[split.partition]
            self._launch(split, now)

    def _launch(self, split: _Split, content: str) -> None:
        self._state.launched[split.partition] = content
        place = None if split.known else split.place
        self.finished.append(self._state.launch_of(split.partition, place, content))


def _below(root: str | Path, store: str | Path) -> str | None:
    """Where the store is within a split's folder, with a slash; None if it is elsewhere. Runs must not start runs."""
    folder = str(root).rstrip("/") + "/"
    return str(store).rstrip("/").removeprefix(folder) + "/" if str(store).startswith(folder) else None
