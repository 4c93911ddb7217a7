"""What was planted in the demo against what a run found: found, missed and false alarms, for each kind."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
from rich.table import Table
from rich.text import Text

from fastdup_dagster.demo.judge import DemoTables, Judge, SplitTables, Truth, Verdict

__all__ = ["SCORE_SCHEMA", "DemoTables", "SplitTables", "format_score", "score_demo"]

SCORE_SCHEMA = pl.Schema(
    {
        "kind": pl.String,
        "planted": pl.Int64,
        "found": pl.Int64,
        "missed": pl.String,
        "false_alarms": pl.Int64,
        "false_alarm_names": pl.String,
        "explanation": pl.String,
    }
)

_PAIR_ALARM = "two images that do not come from one picture"
_FLAG_ALARM = "flagged, though nothing of the kind was planted"
_ALARMS = {
    **dict.fromkeys(("exact_copy", "near_copy", "leak"), _PAIR_ALARM),
    **dict.fromkeys(("blurry", "dark", "bright", "truncated"), _FLAG_ALARM),
    "broken": "an error, though the file was not planted as broken",
    "outlier": "less alike to anything than the last planted outlier, mostly a part of a photo that stands alone",
    "cluster": "images that do not come from one picture",
}


def score_demo(planted: pl.DataFrame, found: DemoTables) -> pl.DataFrame:
    """Compares what was planted with what was found.

    Args:
        planted: what `make_demo` returned, or `planted.csv` as polars reads it.
        found: the tables of a run over the demo.

    Returns:
        A row per kind of `KINDS`, in that order, and a last one for `cluster` (exact copies must share a
        component): kind, planted, found, missed (names), false_alarms (a count), false_alarm_names, explanation.

    Raises:
        ValueError: if a planted file stands in no manifest: then the tables are not of this data set.
    """
    judge = Judge(Truth(planted), found)
    verdicts = {
        "exact_copy": judge.exact_copies(),
        "near_copy": judge.near_copies(),
        "leak": judge.leaks(),
        "blurry": judge.flagged("blurry", implied_by=("dark", "bright")),
        "dark": judge.flagged("dark"),
        "bright": judge.flagged("bright"),
        "truncated": judge.flagged("truncated"),
        "broken": judge.broken(),
        "outlier": judge.outliers(),
        "cluster": judge.clusters(),
    }
    rows = [_row(kind, verdict) for kind, verdict in verdicts.items()]
    return pl.DataFrame(rows, schema=SCORE_SCHEMA, orient="row")


def _row(kind: str, verdict: Verdict) -> tuple[str, int, int, str, int, str, str]:
    hits = verdict.planted - len(verdict.missed)
    alarms = verdict.false_alarms
    notes = "; ".join([*verdict.notes, *([f"false alarm: {_ALARMS[kind]}"] if alarms else [])])
    return kind, verdict.planted, hits, _listed(verdict.missed), len(alarms), _listed(alarms), notes


def _listed(names: Iterable[str]) -> str:
    return "; ".join(sorted(names))


def format_score(score: pl.DataFrame) -> Table:
    """The score as a table for the terminal: what is missed in red, false alarms in yellow."""
    table = Table(title="Planted and found", show_lines=True)
    for name in ("kind", "planted", "found", "missed", "false alarms", "explanation"):
        table.add_column(name, justify="right" if name in ("planted", "found") else "left", overflow="fold")
    for row in score.iter_rows(named=True):
        complete = row["found"] == row["planted"]
        alarms = f"{row['false_alarms']}: {row['false_alarm_names']}" if row["false_alarms"] else "0"
        # Text, not str: a name with square brackets would be read as markup.
        table.add_row(
            Text(row["kind"].replace("_", " ")),
            Text(str(row["planted"])),
            Text(str(row["found"]), style="green" if complete else "bold red"),
            Text(row["missed"], style="red"),
            Text(alarms, style="yellow" if row["false_alarms"] else ""),
            Text(row["explanation"], style="dim"),
        )
    return table
