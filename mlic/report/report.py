"""A report of several runs: read, compare, draw, write."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlic.addresses import local_only
from mlic.errors import InputError
from mlic.evaluation.errors import co_occurrence
from mlic.figures import FigureFiles, report_style, run_style
from mlic.report.answers import answer_table
from mlic.report.comparison import HALF, Comparison, compare_runs
from mlic.report.differences import difference_table
from mlic.report.discovery import MissingRun, find_runs, name_runs
from mlic.report.error_lists import confusion_table, error_table
from mlic.report.galleries import GALLERIES, choose_rows
from mlic.report.page import render_page
from mlic.report.pareto import pareto_figure
from mlic.report.photographs import photograph_data, source_of
from mlic.report.reading import FINISHED, ReportedRun, read_run
from mlic.report.reference import REFERENCES
from mlic.report.report_figures import choose_classes, draw_run, draw_sections
from mlic.report.run_tables import (
    data_table,
    model_table,
    settings_table,
    setups,
    state_table,
    time_table,
    training_table,
)
from mlic.report.score_tables import (
    calibration_table,
    class_metrics,
    class_table,
    overview_table,
    pair_table,
    result_table,
)
from mlic.report.tables import Table, write_table
from mlic.report.verdict import Verdict, judge, notes_of, weakest_classes
from mlic.runs.folder import refuse_foreign_folder, replacing_together, write_atomically
from mlic.runs.lock import locked_folder

logger = logging.getLogger(__name__)

SECTIONS = {
    "test": "Test",
    "classes": "Classes",
    "errors": "Errors by class",
    "models": "Models",
    "training": "Training",
    "time": "Time",
    "data": "Data",
    "runs": "Runs",
    "not-finished": "Not finished",
}
WORST_SHOWN = 2  # photographs on the first screen
ERRORS_PER_CLASS = 12  # of each kind in errors.csv, per class and run
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
        verdicts: results in words, one for each set of test images.
        tables: tables by key.
        galleries: rows of the test images of each gallery, by name of run.
        maps: activation maps by name of run and row.
    """

    finished: list[ReportedRun]
    drawn: list[ReportedRun]
    others: list[ReportedRun]
    missing: list[MissingRun]
    comparison: Comparison
    verdicts: list[Verdict]
    tables: dict[str, Table] = field(default_factory=dict)
    galleries: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    maps: dict[str, dict[int, tuple[str, str]]] = field(default_factory=dict)


@local_only()
def write_report(options: ReportOptions) -> Path:
    """Write index.html, tables/ and figures/ to `options.output`, from run folders only.

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
    verdicts = [judge(comparison, group) for group in comparison.groups]
    drawn = choose_drawn(finished, options.drawn_runs, [verdict.best for verdict in verdicts])
    report = Report(finished, drawn, others, missing, comparison, verdicts)
    metrics = class_metrics(finished)
    _build_tables(report, options, metrics)
    _build_galleries(report, options)
    with locked_folder(options.output), replacing_together(options.output) as new:
        _write(report, options, metrics, new)
    if options.tensorboard:
        from mlic.report.tensorboard_export import export_run  # imports torch

        for run in report.drawn:
            if run.test is not None:
                export_run(run, report.galleries[run.name])
    return options.output / PAGE


def choose_drawn(runs: Sequence[ReportedRun], count: int, best: Sequence[str] = ()) -> list[ReportedRun]:
    """Return `count` runs in their original order: the best, then those with the highest mAP on val.

    Args:
        runs: all runs.
        count: number of runs.
        best: names of runs to prefer, those of which the first screen speaks.
    """

    def score(run: ReportedRun) -> tuple[bool, float]:
        values = [run.metrics.get(part, {}).get("map") for part in ("val", "test")]
        return run.name in best, next((value for value in values if value is not None), -1.0)

    kept = sorted(runs, key=score, reverse=True)[:count]
    return [run for run in runs if run in kept]


def _build_tables(report: Report, options: ReportOptions, metrics: dict[str, Any]) -> None:
    references = REFERENCES[options.reference] if options.reference else ()
    runs = report.finished
    tables = [
        overview_table(report.comparison, setups(runs)),
        settings_table(runs),
        model_table(runs),
        difference_table(runs),
        training_table(runs, references),
        result_table(report.comparison, references),
        time_table(runs, references),
        pair_table(report.comparison),
        calibration_table(runs),
        answer_table(runs),
        class_table(report.comparison, metrics),
        data_table(runs),
        state_table(report.others, report.missing),
    ]
    if best := next((verdict.best for verdict in report.verdicts if verdict.best), ""):
        tables.append(weakest_classes(report.comparison, best))
    report.tables = {table.key: table for table in tables}


def _build_galleries(report: Report, options: ReportOptions) -> None:
    for run in report.drawn:
        if run.test is None:
            continue
        source = source_of(run)
        if not source.available:
            folders = ", ".join(map(str, source.folders))
            run.notes.append(f"no photographs: the image folder {folders} does not exist")
        chosen = report.galleries[run.name] = choose_rows(run, count=options.gallery_images)
        if options.activation_maps:
            from mlic.report.activation_maps import draw_maps  # imports torch

            rows = dict.fromkeys(row for rows in chosen.values() for row in rows)
            report.maps[run.name] = draw_maps(run, rows, source, options.packages)


def _write(report: Report, options: ReportOptions, metrics: dict[str, Any], folder: Path) -> None:
    tables = folder / "tables"
    for table in report.tables.values():
        table.write_csv(tables)
    _write_long_tables(tables, report, metrics)
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
        pareto = pareto_figure(report.drawn, report.comparison, styles)
        sections["time"] = files.save("pareto", "mAP against wall-clock time", pareto)
        runs = [
            {
                "name": run.name,
                "path": str(run.path),
                "notes": run.notes,
                "figures": draw_run(files, run, number, styles),
                "galleries": report.galleries.get(run.name, {}),
            }
            for number, run in enumerate(report.drawn, start=1)
        ]
    # the figure of intervals belongs to the first screen
    forest = [panel for panel in sections["test"] if panel.key == "test_map"]
    sections["test"] = [panel for panel in sections["test"] if panel not in forest]
    finished = report.finished
    content = {
        "title": f"Comparison of {len(finished)} runs" if len(finished) != 1 else f"Run {finished[0].name}",
        "verdicts": report.verdicts,
        "notes": notes_of(report.comparison, report.drawn, report.others, report.missing),
        "sections": _sections(report),
        "tables": report.tables,
        "forest": forest,
        "best": next((verdict.best for verdict in report.verdicts if verdict.best), ""),
        "worst_shown": WORST_SHOWN,
        "figures": sections,
        "runs": runs,
        "styles": styles,
        "galleries": GALLERIES,
        "photographs": photograph_data(
            [run for run in report.drawn if run.test is not None], report.galleries, report.maps
        ),
    }
    write_atomically(folder / PAGE, render_page(content))


def _sections(report: Report) -> list[tuple[str, str]]:
    """Return anchors and headings of the sections that the page has."""
    kept = {"not-finished"} if len(report.tables["not_finished"].frame) else set()
    return [
        item
        for item in SECTIONS.items()
        if item[0] in kept or (report.finished and item[0] != "not-finished")
    ]


def _write_long_tables(folder: Path, report: Report, metrics: dict[str, Any]) -> None:
    """Write the tables that are too long for the page."""
    tested = [run for run in report.finished if run.test is not None]
    write_table(folder / "errors.csv", error_table(tested, per_class=ERRORS_PER_CLASS))
    write_table(folder / "confusions.csv", confusion_table(tested))
    rows = [
        {"run": run, "threshold": threshold, "class": name, **values}
        for run, by_threshold in metrics.items()
        for threshold, classes in by_threshold.items()
        for name, values in classes.items()
    ]
    write_table(folder / "class_metrics.csv", pd.DataFrame(rows))
    pairs = [_pairs(run) for run in tested]
    if pairs:
        write_table(folder / "co_occurrence.csv", pd.concat(pairs, ignore_index=True))


def _pairs(run: ReportedRun) -> pd.DataFrame:
    parts = [part for part in (run.val, run.test) if part is not None and part.classes == run.classes]
    targets = np.concatenate([part.targets for part in parts])
    return co_occurrence(targets, run.classes).assign(run=run.name)
