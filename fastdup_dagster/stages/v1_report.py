"""The V1 face's report: one page that ties the galleries of a run together."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastdup_dagster.outputs import MadePages
from fastdup_dagster.settings import BUNDLED_MODEL
from fastdup_dagster.stages.galleries import render_galleries
from fastdup_dagster.stages.made_pages import add_report, made_links
from fastdup_dagster.stages.pages import IMAGE_FOLDER, link_between
from fastdup_dagster.stages.report import DatasetReport, render_dataset_report
from fastdup_dagster.stages.v1_gallery_source import Analysed


def write_report(controller: Analysed, page: Path, num_images: int) -> list[Path]:
    """Writes the report, and the galleries that it links to into `<page>_pages` beside it.

    Args:
        controller: of a finished run.
        page: of the report; replaced whole or not at all.
        num_images: items of each gallery.

    Returns:
        The pictures that it wrote.

    Raises:
        FileExistsError: if that folder holds files that are no gallery.
    """
    tables = controller.tables
    settings = controller.settings.with_changes(gallery_items=num_images)
    name = Path(controller.work_dir).absolute().name
    folder = page.with_name(f"{page.stem}_pages")
    render_galleries(tables, folder, name, settings, home=link_between(folder / "report.html", page))
    report = DatasetReport(
        name=name,
        splits={name: tables},
        settings=settings,
        model=_model(controller),
        version=_version(),
        created=datetime.now(UTC),
        galleries={name: folder},
        gated=False,
        made=made_links(page, MadePages(Path(controller.work_dir))),
    )
    render_dataset_report(page, report)
    add_report(Path(controller.work_dir), page, tables.manifest.height)
    return sorted((folder / IMAGE_FOLDER).glob("*"))


def _model(controller: Analysed) -> str:
    """What made the vectors; the tables say it, but for those of a caller that has no embeddings."""
    embeddings = controller.tables.embeddings
    if embeddings is None or embeddings.is_empty():
        return controller.settings.model_path or BUNDLED_MODEL
    made_by = str(embeddings["model"][0])
    return "given embeddings" if made_by == "precomputed" else made_by


def _version() -> str:
    try:
        return version("fastdup-dagster")
    except PackageNotFoundError:
        return "not installed"
