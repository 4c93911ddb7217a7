"""What all benchmarks share: their inputs in words, the machine in words, plain tables, results as JSON."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastdup_dagster.sources import IMAGE_EXTENSIONS

PACKAGES = ("fastdup-dagster", "onnxruntime", "faiss-cpu", "numpy", "polars", "opencv-python-headless", "dagster")


@dataclass(frozen=True)
class Inputs:
    """Files that a benchmark read, so that figures can be told to be of the same data.

    Attributes:
        name: for people; never a path of the machine.
        root: folder that the files are listed relative to.
        files: in order.
    """

    name: str
    root: Path
    files: Sequence[Path]

    def lines(self) -> list[str]:
        """`sha256  relative path` of each file."""
        return [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.root)}" for path in self.files
        ]

    def describe(self, list_file: Path | None = None) -> str:
        """Count, bytes, and a digest over names and contents; writes the list if asked for.

        Reading all files also brings them into the page cache, for every contestant alike.
        """
        lines = self.lines()
        if list_file:
            with list_file.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write("".join(f"{line}\n" for line in lines))
        digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
        size = sum(path.stat().st_size for path in self.files)
        return f"{self.name}: {len(self.files):,} files, {size / 1e6:,.1f} MB, list {digest[:16]}"


def images_in(folder: Path) -> list[Path]:
    """The images below a folder, in bytewise order of their relative paths.

    Raises:
        FileNotFoundError: there are none.
    """
    found = [path for path in folder.rglob("*") if path.suffix.lower().lstrip(".") in _SUFFIXES and path.is_file()]
    if not found:
        raise FileNotFoundError(f"no images below {folder}")
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(folder)))


_SUFFIXES = {extension.lstrip(".") for extension in IMAGE_EXTENSIONS}


def machine() -> str:
    """Kind of machine, and the versions of what counts: never its name."""
    model = platform.processor() or platform.machine()
    known = Path("/proc/cpuinfo")
    if known.exists():
        fields = (line.partition(":") for line in known.read_text(encoding="utf-8").splitlines())
        model = next((value.strip() for name, _, value in fields if name.strip() == "model name"), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{model}, {cores} cores, {memory:.0f} GB\nPython {platform.python_version()}, {versions}"


def parser_for(description: str, examples: str) -> argparse.ArgumentParser:
    """A command line with the arguments that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here too")
    parser.add_argument("--list-inputs", type=Path, metavar="FILE", help="append sha256 and name of every input file")
    return parser


def say_header(inputs: Iterable[str], seed: int | None = None) -> dict[str, Any]:
    """Prints date, machine, inputs and seed; returns them for the JSON file."""
    header: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "load": os.getloadavg()[0],
        "inputs": list(inputs),
        "seed": seed,
    }
    print(f"{header['date']}  {header['machine']}")
    print(f"load of the machine at the start: {header['load']:.1f}")
    for line in header["inputs"]:
        print(f"input  {line}")
    if seed is not None:
        print(f"seed   {seed}")
    return header


def say_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a Markdown table: the first column to the left, numbers to the right."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    marks = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    print()
    for row in [cells[0], marks, *cells[1:]]:
        first, *others = zip(row, widths, strict=True)
        print("| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]) + " |")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def judged(name: str, value: float, limit: float, at_least: bool = True) -> str:
    """A figure against its limit, in words."""
    holds = value >= limit if at_least else value <= limit
    return f"{name}: {value:.4g}, {'at least' if at_least else 'at most'} {limit:g}: {'holds' if holds else 'MISSED'}"


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Writes figures if a path was given."""
    if path:
        path.write_text(json.dumps(figures, indent=2, default=float) + "\n", encoding="utf-8")
