"""What CI systems read: a JUnit file, and GitHub's step summary."""

from __future__ import annotations

import os
import xml.etree.ElementTree as Xml
from collections.abc import Sequence
from pathlib import Path

from fastdup_dagster.command_line.analyse import PartitionRun
from fastdup_dagster.stages.pages import visible
from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.storage import write_atomically

_SUMMARY = "GITHUB_STEP_SUMMARY"


def write_junit(path: Path, runs: Sequence[PartitionRun]) -> None:
    """Writes a JUnit file: a suite per partition, a case per check, and one per step that broke.

    Raises:
        OSError: if it cannot be written.
    """
    root = Xml.Element("testsuites", name="fastdup-dagster")
    for partition in dict.fromkeys(run.partition for run in runs):
        own = [run for run in runs if run.partition == partition]
        checks = [check for run in own for check in run.checks]
        errors = [error for run in own for error in run.errors]
        failed = [check for check in checks if check.outcome == "failed"]
        suite = Xml.SubElement(
            root,
            "testsuite",
            name=partition,
            tests=str(len(checks) + len(errors)),
            failures=str(len(failed)),
            errors=str(len(errors)),
            time=f"{sum(run.seconds for run in own):.3f}",
        )
        for check in checks:
            case = Xml.SubElement(suite, "testcase", classname=f"{partition}.{check.asset}", name=check.check)
            if check.outcome == "failed":
                Xml.SubElement(case, "failure", message=visible(_said(check))).text = _rows(check)
            elif check.outcome != "passed":
                Xml.SubElement(case, "system-out").text = visible(f"warning: {_said(check)}")
        for error in errors:
            step, _, message = error.partition(": ")
            case = Xml.SubElement(suite, "testcase", classname=f"{partition}.{step}", name="runs")
            Xml.SubElement(case, "error", message=visible(message))
    write_atomically(path, Xml.tostring(root, encoding="utf-8", xml_declaration=True))


def write_github_summary(title: str, runs: Sequence[PartitionRun]) -> None:
    """Appends a table to the summary of a GitHub step, if this is one."""
    path = os.environ.get(_SUMMARY)
    if not path:
        return
    lines = [f"## {title}", "", "| partition | | checks | inferred now | seconds |", "|---|---|---|---|---|"]
    for partition in dict.fromkeys(run.partition for run in runs):
        own = [run for run in runs if run.partition == partition]
        checks = [check for run in own for check in run.checks]
        failed = sum(check.outcome == "failed" for check in checks)
        warned = sum(check.outcome == "warning" for check in checks)
        counted = f"{failed} of {len(checks)} failed" if failed else f"{len(checks) - warned} passed"
        counted += f", {warned} warned" if warned else ""
        inferred = [run.features["inferred now"] for run in own if "inferred now" in run.features]
        cells = (
            _cell(partition),
            ":white_check_mark:" if all(run.success for run in own) else ":x:",
            counted,
            f"{sum(inferred):,}" if inferred else "",
            f"{sum(run.seconds for run in own):.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(["Nothing had to be made."] if not runs else [])]
    bad = [check for run in runs for check in run.checks if check.outcome != "passed"]
    lines += [f"- **{check.outcome}** {_cell(check.partition)} {_cell(_said(check))}" for check in bad]
    lines += [f"- **error** {_cell(run.partition)} {_cell(error)}" for run in runs for error in run.errors]
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _said(check: CheckOutcome) -> str:
    return f"{check.asset}.{check.check}: {check.observed}; accepted: {check.limit}"


def _rows(check: CheckOutcome) -> str:
    columns, rows, count = check.bad_table
    if not rows:
        return ""
    told = [visible(", ".join(f"{name}={value}" for name, value in zip(columns, row, strict=True))) for row in rows]
    return "\n".join([*told, *([f"… {count:,} in all"] if count > len(rows) else [])])


def _cell(text: object) -> str:
    """Text that neither ends a cell nor is taken for markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#~" else c for c in visible(text))
