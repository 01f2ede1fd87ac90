"""A report of several runs: read, compare, draw, write."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlic.addresses import local_only
from mlic.data.images import FULL_BITS
from mlic.errors import InputError
from mlic.evaluation.errors import co_occurrence
from mlic.figures import FigureFiles, report_style, run_style
from mlic.report.comparison import HALF, Comparison, compare_runs
from mlic.report.discovery import MissingRun, find_runs, name_runs
from mlic.report.error_lists import confusion_table, error_browser, error_table
from mlic.report.galleries import Gallery, build_galleries
from mlic.report.markdown import render_markdown
from mlic.report.page import render_page
from mlic.report.reading import FINISHED, ReportedRun, read_run
from mlic.report.reference import REFERENCES
from mlic.report.report_figures import choose_classes, draw_run, draw_sections
from mlic.report.run_tables import data_table, model_table, state_table, time_table, training_table
from mlic.report.score_tables import (
    calibration_table,
    class_metrics,
    class_table,
    pair_table,
    result_table,
)
from mlic.report.summary import summarise
from mlic.report.tables import Table, write_table
from mlic.report.thumbnails import Thumbnails, image_folders
from mlic.runs.folder import refuse_foreign_folder, replacing_together, write_atomically
from mlic.runs.lock import locked_folder

logger = logging.getLogger(__name__)

SECTIONS = {
    "models": "Models",
    "training": "Training",
    "test": "Test",
    "time": "Time",
    "classes": "Classes",
    "errors": "Errors by class",
    "data": "Data",
    "runs": "Runs",
}
THUMBNAIL_PIXELS = 256  # longer side
ERROR_PIXELS = 160
ERRORS_PER_CLASS = 4  # of each kind, per class and run
ERROR_IMAGES = 400  # maximum number of photographs in the error browser
PAGE = "index.html"
PAGE_TEXT = (
    "img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"  # occurs in the pages of all versions
)


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report, described in conf/compare.yaml."""

    runs: str | Sequence[str]
    output: Path
    reference: str | None = None
    resamples: int = 1000
    classes: Sequence[str] = ()
    drawn_runs: int = 7
    gallery_images: int = 8
    tensorboard: bool = False
    activation_maps: bool = False
    packages: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: a value is out of range.
        """
        if self.reference is not None and self.reference not in REFERENCES:
            choices = ", ".join(REFERENCES)
            raise InputError(f"reference: must be one of {choices} or null, got '{self.reference}'.")
        refuse_foreign_folder(self.output, mark=PAGE, text=PAGE_TEXT, kind="folder of a report")
        for key, least in {"resamples": 2, "drawn_runs": 1, "gallery_images": 1}.items():
            if getattr(self, key) < least:
                raise InputError(f"{key}={getattr(self, key)}: expected a number of at least {least}.")


@dataclass
class Report:
    """Content of a report.

    Attributes:
        finished: runs in the tables.
        drawn: runs in figures and galleries.
        others: runs that did not finish.
        missing: requested runs that do not exist.
        comparison: comparison of the test metrics.
        tables: tables by key.
        galleries: galleries by name of run.
        thumbnails: thumbnails by name of run.
    """

    finished: list[ReportedRun]
    drawn: list[ReportedRun]
    others: list[ReportedRun]
    missing: list[MissingRun]
    comparison: Comparison
    tables: dict[str, Table] = field(default_factory=dict)
    galleries: dict[str, list[Gallery]] = field(default_factory=dict)
    thumbnails: dict[str, Thumbnails] = field(default_factory=dict)


@local_only()
def write_report(options: ReportOptions) -> Path:
    """Write index.html, report.md, tables/ and figures/ to `options.output`, from run folders only.

    Returns:
        The path of index.html.

    Raises:
        InputError: no runs were found, an option is invalid, or another process writes to the folder.
    """
    paths, missing = find_runs(options.runs)
    runs = [read_run(path) for path in paths]
    name_runs(runs)
    finished = [run for run in runs if run.state == FINISHED]
    logger.info("%d run%s found, %d finished", len(runs), "" if len(runs) == 1 else "s", len(finished))
    comparison = compare_runs(finished, resamples=options.resamples)
    others = [run for run in runs if run.state != FINISHED]
    report = Report(finished, choose_drawn(finished, options.drawn_runs), others, missing, comparison)
    metrics = class_metrics(finished)
    _build_tables(report, options, metrics)
    _build_galleries(report, options)
    with locked_folder(options.output), replacing_together(options.output) as new:
        _write(report, options, metrics, new)
    if options.tensorboard:
        from mlic.report.tensorboard_export import export_run  # imports torch

        for run in report.drawn:
            if run.test is not None:
                export_run(run, report.galleries[run.name], report.thumbnails[run.name])
    return options.output / PAGE


def choose_drawn(runs: Sequence[ReportedRun], count: int) -> list[ReportedRun]:
    """Return the `count` runs with the highest mAP on val (on test without val), in their original order."""

    def score(run: ReportedRun) -> float:
        values = [run.metrics.get(part, {}).get("map") for part in ("val", "test")]
        return next((value for value in values if value is not None), -1.0)

    kept = sorted(runs, key=score, reverse=True)[:count]
    return [run for run in runs if run in kept]


def _build_tables(report: Report, options: ReportOptions, metrics: dict[str, Any]) -> None:
    references = REFERENCES[options.reference] if options.reference else ()
    runs = report.finished
    tables = [
        model_table(runs),
        training_table(runs, references),
        result_table(report.comparison, references),
        time_table(runs, references),
        pair_table(report.comparison),
        calibration_table(runs),
        class_table(runs, metrics),
        data_table(runs),
        state_table(report.others, report.missing),
    ]
    report.tables = {table.key: table for table in tables}


def _build_galleries(report: Report, options: ReportOptions) -> None:
    for run in report.drawn:
        bits_stored = run.dataset.get("source", {}).get("bits_stored", FULL_BITS)
        small = Thumbnails(image_folders(run.dataset), THUMBNAIL_PIXELS, bits_stored)
        report.thumbnails[run.name] = small
        if run.test is None:
            continue
        if not small.available:
            folders = ", ".join(map(str, small.folders))
            run.notes.append(f"no photographs: the image folder {folders} does not exist")
        report.galleries[run.name] = build_galleries(run, small, count=options.gallery_images)
        if options.activation_maps:
            from mlic.report.activation_maps import add_activation_maps  # imports torch

            galleries = report.galleries[run.name]
            report.galleries[run.name] = add_activation_maps(run, galleries, small, options.packages)


def _write(report: Report, options: ReportOptions, metrics: dict[str, Any], folder: Path) -> None:
    tables = folder / "tables"
    for table in report.tables.values():
        table.write_csv(tables)
    errors, confused = (
        error_table(report.finished, per_class=ERRORS_PER_CLASS),
        confusion_table(report.finished),
    )
    _write_long_tables(tables, report, metrics, errors, confused)
    browser = _browser(report, errors, confused)
    styles = {run.name: run_style(place) for place, run in enumerate(report.drawn)}
    files = FigureFiles(folder / "figures")
    with report_style():
        drawn_metrics = {run.name: metrics[run.name] for run in report.drawn if run.name in metrics}
        classes = choose_classes(
            # the name of a class may look like a number
            [str(name) for name in options.classes],
            {name: values[HALF] for name, values in drawn_metrics.items()},
        )
        sections = draw_sections(files, report.drawn, report.comparison, drawn_metrics, styles, classes)
        runs = [
            {
                "name": run.name,
                "path": str(run.path),
                "notes": run.notes,
                "figures": draw_run(files, run, number, styles),
                "galleries": report.galleries.get(run.name, []),
            }
            for number, run in enumerate(report.drawn, start=1)
        ]
    title, lead = summarise(report.finished, report.drawn, report.others, report.missing, report.comparison)
    content = {
        "title": title,
        "lead": lead,
        "sections": list(SECTIONS.items()) if report.finished else [],
        "tables": report.tables,
        "figures": sections,
        "runs": runs,
        "styles": styles,
        "errors": browser,
        "errors_per_class": ERRORS_PER_CLASS,
    }
    write_atomically(folder / PAGE, render_page(content))
    shown = [table for table in report.tables.values() if table.rows]
    write_atomically(folder / "report.md", render_markdown(title, lead, shown, files.keys))


def _browser(report: Report, errors: pd.DataFrame, confused: pd.DataFrame) -> dict[str, Any]:
    names = [run.name for run in report.drawn]
    large = report.thumbnails
    small = {name: Thumbnails(large[name].folders, ERROR_PIXELS, large[name].bits_stored) for name in names}
    own_errors, own_confused = (frame.loc[frame["run"].isin(names)] for frame in (errors, confused))
    return error_browser(report.drawn, own_errors, own_confused, small, max_images=ERROR_IMAGES)


def _write_long_tables(
    folder: Path, report: Report, metrics: dict[str, Any], errors: pd.DataFrame, confused: pd.DataFrame
) -> None:
    """Write the tables that are too long for the page."""
    write_table(folder / "errors.csv", errors.drop(columns="row"))
    write_table(folder / "confusions.csv", confused)
    rows = [
        {"run": run, "threshold": threshold, "class": name, **values}
        for run, by_threshold in metrics.items()
        for threshold, classes in by_threshold.items()
        for name, values in classes.items()
    ]
    write_table(folder / "class_metrics.csv", pd.DataFrame(rows))
    pairs = [_pairs(run) for run in report.finished if run.test is not None]
    if pairs:
        write_table(folder / "co_occurrence.csv", pd.concat(pairs, ignore_index=True))


def _pairs(run: ReportedRun) -> pd.DataFrame:
    parts = [part for part in (run.val, run.test) if part is not None and part.classes == run.classes]
    targets = np.concatenate([part.targets for part in parts])
    return co_occurrence(targets, run.classes).assign(run=run.name)
