"""Great Expectations' Data Docs of what was checked: a page per table and partition, made by GX's own renderers.

GX's page takes its style, scripts and logo from servers of third parties. Nothing of that is kept: the page that is
written loads nothing, which a Content-Security-Policy in it sees to.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from typing import Any

from fastdup_dagster.stages.report import CheckOutcome
from fastdup_dagster.variables import VariableError

DATA_DOCS = "FASTDUP_DATA_DOCS"

# What a browser would fetch, and links into a site of GX's that there is none of.
_LOADS = re.compile(
    r"<script\b.*?</script\s*>|<style\b.*?</style\s*>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>|\bhref=\"\.\./[^\"]*\"",
    re.DOTALL | re.IGNORECASE,
)
_HEAD = """<head>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
:root { color-scheme: light dark }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { border-bottom: 1px solid #8884; padding: .3rem .7rem; text-align: left; vertical-align: top }
.modal, nav, button, .btn { display: none }
.fa-check-circle::before { content: "\\2713 met" }
.fa-times::before { content: "\\2717 not met" }
.fa-exclamation-triangle::before { content: "\\26A0 not evaluated" }
.badge { background: #8883; border-radius: .3rem; padding: 0 .3rem }
</style>"""


def wanted() -> bool:
    """What FASTDUP_DATA_DOCS says: 1 for pages, 0 or nothing for none.

    Raises:
        ValueError: if it says anything else.
    """
    said = os.environ.get(DATA_DOCS) or "0"
    if said not in ("0", "1"):
        raise VariableError(f"{DATA_DOCS}={said!r}: write 1 for Great Expectations' pages of all checks, or 0")
    return said == "1"


def render(asset: str, partition: str, outcomes: Sequence[CheckOutcome]) -> str:
    """The HTML of one table's page.

    Args:
        asset: whose table it is.
        partition: its partition key.
        outcomes: that `GreatExpectationsResource` gave, with their evidence; others have none and are left out.
    """
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    results = [_escaped(result) for outcome in outcomes for result in outcome.evidence]
    met = sum(bool(result.success) for result in results)
    validated = ExpectationSuiteValidationResult(
        success=met == len(results),
        results=results,
        suite_name=f"{asset} [{partition}]",
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": met,
            "unsuccessful_expectations": len(results) - met,
            "success_percent": 100 * met / len(results) if results else None,
        },
        meta={
            "great_expectations_version": version("great_expectations"),
            "active_batch_definition": {"data_asset_name": asset, "batch_identifiers": {"partition": partition}},
        },
    )
    view: Any = DefaultJinjaPageView()
    html: str = view.render(ValidationResultsPageRenderer().render(validated))
    return _LOADS.sub("", html).replace("<head>", _HEAD, 1)


def _escaped(result: Any) -> Any:
    """The result with the values of the data as they may stand in HTML, which GX's renderers do not see to."""
    made = copy.copy(result)
    made.result = _text(result.result)
    return made


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {name: _text(part) for name, part in value.items()}
    return [_text(part) for part in value] if isinstance(value, list | tuple) else value
