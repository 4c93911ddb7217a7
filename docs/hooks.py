"""What pages take from the code.

A line `<!-- generated: NAME -->` becomes Markdown made by the function NAME here, a line `<!-- file: PATH -->` the file
of that path below docs/, as a block of code: what a page shows is what the tests have read.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic_core import PydanticUndefined

from fastdup_dagster import cli, constants
from fastdup_dagster.assets.checks import QUALITY, STRUCTURE
from fastdup_dagster.cleaning import REASONS
from fastdup_dagster.datasets import DatasetEntry
from fastdup_dagster.limits import LIMIT_OF, Limits, Severities
from fastdup_dagster.models.captioning.options import GenerationOptions
from fastdup_dagster.models.registry import MODELS
from fastdup_dagster.resources.embedding_backend import EmbeddingBackendResource, variable
from fastdup_dagster.resources.executors import EXECUTORS
from fastdup_dagster.run_settings import RunSettings
from fastdup_dagster.schemas import ERROR_CODES, TABLES
from fastdup_dagster.settings import CaptionSettings, Settings

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_FILE = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)
_DOCS = Path(__file__).resolve().parent
_EXAMPLES = _DOCS.parent / "examples"
_LANGUAGES = {".yaml": "yaml", "": "dockerfile"}
_KEPT_BESIDE = {
    "annotations": "Only the Python API keeps it, with the user's own columns after these.\n",
    "detections": "Only where a detector is asked for: it looks at no image twice.\n",
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in the generated parts of a page (called by MkDocs).

    Raises:
        KeyError: naming a part that no function here makes.
        OSError: naming a file that is not there.
    """

    def made(mark: re.Match[str]) -> str:
        if mark[1] not in PARTS:
            raise KeyError(f"{page.file.src_uri}: nothing makes {mark[1]!r}; there are {', '.join(PARTS)}")
        return "\n".join(PARTS[mark[1]]())

    def shown(mark: re.Match[str]) -> str:
        path = _DOCS / mark[1]
        return f"```{_LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8').rstrip()}\n```"

    return _FILE.sub(shown, _MARK.sub(made, markdown))


def tables() -> Iterator[str]:
    """Every table: what a row stands for, its columns, and the gates that it passes before it is published."""
    for table in TABLES.values():
        yield f"\n## {table.name}\n\nA row per {table.row}.\n"
        if table.name in _KEPT_BESIDE:
            yield _KEPT_BESIDE[table.name]
        if table.name == "image_manifest":
            yield "The columns of a registered data set's annotations come after these.\n"
        rows = ((f"`{c.name}`", f"`{c.dtype}`", "yes" if c.nullable else "", c.description) for c in table.columns)
        yield from _table(("column", "type", "may be null", "what it holds"), rows)
        if table.name in STRUCTURE:
            yield "\nIn Dagster, published only if:\n"
            yield from (f"- `{name}`: {text}" for name, text in STRUCTURE[table.name].items())
            if table.name in QUALITY:
                yield "\nWarns or blocks, by [setting](dagster.md#checks), unless:\n"
                yield from (f"- `{name}`: {text}" for name, text in QUALITY[table.name].items())


def error_codes() -> Iterator[str]:
    """What each error code means."""
    yield from _table(("code", "meaning"), ((f"`{code}`", text) for code, text in ERROR_CODES.items()))


def settings() -> Iterator[str]:
    """The fields of `Settings`."""
    yield from _fields(Settings.model_fields)


def run_settings() -> Iterator[str]:
    """The fields that `RunSettings` has beyond those of `Settings`."""
    own = {name: field for name, field in RunSettings.model_fields.items() if name not in Settings.model_fields}
    yield from _fields(own)


def entry() -> Iterator[str]:
    """The keys of an entry of datasets.yaml."""
    yield from _fields(DatasetEntry.model_fields)


def backend_options() -> Iterator[str]:
    """The fields of `EmbeddingBackendResource`, and the variable of each."""
    rows = (
        (f"`{field}`", f"`{variable(field)}`", f"`{_default(info)}`", info.description)
        for field, info in EmbeddingBackendResource.model_fields.items()
    )
    yield from _table(("field", "variable", "default", "meaning"), rows)


def limits() -> Iterator[str]:
    """The fields of `Limits`."""
    yield from _fields({name: field for name, field in Limits.model_fields.items() if name != "severity"})


def severities() -> Iterator[str]:
    """The fields of `Severities`."""
    yield from _fields(Severities.model_fields)


def quality() -> Iterator[str]:
    """The checks of data quality, with limit, severity and its name."""
    rules = {limit: rule for rule, limit in LIMIT_OF.items()}
    rows = []
    for table, checks in QUALITY.items():
        for check, text in checks.items():
            limit = next(name for name in rules if f"limits.{name}" in text)
            severity = getattr(Severities(), rules[limit])
            rows.append((f"`{table}`", f"`{check}`", f"`{limit}`", f"`{rules[limit]}`", severity))
    yield from _table(("table", "check", "limit", "in `severity`", "by default"), rows)


def drop_reasons() -> Iterator[str]:
    """The reasons of `export --drop`."""
    yield from _table(("`--drop`", "what is left out"), ((f"`{name}`", text) for name, text in REASONS.items()))


def caption_settings() -> Iterator[str]:
    """The fields of `CaptionSettings`."""
    yield from _fields(CaptionSettings.model_fields)


def caption_options() -> Iterator[str]:
    """The fields of `GenerationOptions`."""
    yield from _fields(GenerationOptions.model_fields)


def _fields(fields: Any) -> Iterator[str]:
    rows = (
        (f"`{name}`", f"`{_annotation(field.annotation)}`", f"`{_default(field)}`", field.description)
        for name, field in fields.items()
    )
    yield from _table(("name", "type", "default", "meaning"), rows)


def _annotation(annotation: Any) -> str:
    plain = inspect.formatannotation(annotation)
    return re.sub(r"\b(?:typing|fastdup_dagster\.\w+)\.", "", plain)


def _default(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    return (
        ""
        if default is PydanticUndefined
        else f"{type(default).__name__}()"
        if field.default_factory
        else repr(default)
    )


def constant_names() -> Iterator[str]:
    """The constants under the headings that comments in the module give them."""
    for heading, names in _sections(inspect.getsource(constants)):
        yield f"\n## {heading}\n"
        yield from _table(("name", "value"), ((f"`FD.{name}`", f"`{getattr(constants, name)!r}`") for name in names))


def _sections(source: str) -> Iterator[tuple[str, list[str]]]:
    lines = source.splitlines()
    headings = {number: line[2:] for number, line in enumerate(lines, 1) if line.startswith("# ")}
    found: dict[str, list[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            heading = headings[max(number for number in headings if number < node.lineno)]
            names = [name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)]
            found.setdefault(heading[0].upper() + heading[1:], []).extend(names)
    yield from found.items()


def command_line() -> Iterator[str]:
    """The help of every command, as click prints it."""
    root = click.Context(cli.main, info_name="fastdup-dagster", max_content_width=100)
    yield from _console(cli.main.get_help(root))
    yield from _commands(cli.main, root, "##")


def _commands(group: click.Group, parent: click.Context, heading: str) -> Iterator[str]:
    for name, command in group.commands.items():
        context = click.Context(command, info_name=name, parent=parent, max_content_width=100)
        yield f"\n{heading} {context.command_path.removeprefix('fastdup-dagster ')}\n"
        yield from _console(command.get_help(context))
        if isinstance(command, click.Group):
            yield from _commands(command, context, f"{heading}#")


def _console(text: str) -> Iterator[str]:
    yield from ("```text", "\n".join(line.rstrip() for line in text.splitlines()), "```")


def named_models() -> Iterator[str]:
    """The models of the registry."""
    rows = (
        (
            f"`{model.name}`",
            model.title,
            model.width or "",
            model.licence or "not stated",
            "<br>".join(f"`{file.url}`" for file in model.files) or model.note,
            "yes" if model.verified else "no",
        )
        for model in MODELS.values()
    )
    yield from _table(("name", "what it is", "d", "licence", "address", "verified"), rows)


def assets() -> Iterator[str]:
    """The assets with what they are made from and how they are cut."""
    from fastdup_dagster.definitions import defs

    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    rows = (
        (
            f"[`{name}`](tables.md#{name})" if name in TABLES else f"`{name}`",
            f"`{spec.partitions_def.name}`",
            ", ".join(sorted(f"`{dep.asset_key.to_user_string()}`" for dep in spec.deps)),
            " ".join((spec.description or "observed, not made here").split("\n\n")[0].split()),
        )
        for name, spec in sorted(
            specs.items(), key=lambda item: list(TABLES).index(item[0]) if item[0] in TABLES else -1
        )
    )
    yield from _table(("asset", "partitions", "made from", "what it is"), rows)


def jobs() -> Iterator[str]:
    """The jobs that are launched by name."""
    from fastdup_dagster.definitions import defs

    found = sorted(defs.jobs or (), key=lambda job: job.name)
    yield from _table(("job", "what it does"), ((f"`{job.name}`", job.description) for job in found))


def executors() -> Iterator[str]:
    """What FASTDUP_EXECUTOR may name."""
    rows = (
        (f"`{name}`", executor.runs, f"`pip install '{executor.install}'`" if executor.install else "nothing more")
        for name, executor in EXECUTORS.items()
    )
    yield from _table(("`FASTDUP_EXECUTOR`", "each step runs", "what it needs"), rows)


def examples() -> Iterator[str]:
    """Every script of `examples/`, with what its docstring says."""
    for path in sorted(_EXAMPLES.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        about = ast.get_docstring(tree) or ""
        code = textwrap.dedent("\n".join(source.splitlines()[tree.body[0].end_lineno :])).strip()
        yield f"\n## {path.name}\n\n{about}\n\n```python\n{code}\n```"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    head = list(head)
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", r"\|").replace("\n", " ") for cell in row) + " |"


PARTS: dict[str, Callable[[], Iterable[str]]] = {
    made.__name__: made
    for made in (
        tables, error_codes, settings, run_settings, limits, severities, quality, caption_settings, caption_options,
        constant_names, command_line, named_models, entry, backend_options, assets, jobs, executors, examples,
        drop_reasons,
    )
}  # fmt: skip
