"""A report of several runs: read, compare, draw, write."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.addresses import local_only
from mlic.errors import InputError
from mlic.evaluation.errors import co_occurrence, confusions, single_errors
from mlic.figures import report_style, run_style
from mlic.report import run_tables, score_tables
from mlic.report.answers import answer_table
from mlic.report.comparison import HALF, compare_runs, predict_rule, predictions_of
from mlic.report.discovery import find_runs, name_runs
from mlic.report.page import render_page
from mlic.report.photographs import GALLERIES, choose_rows, photograph_data, source_of
from mlic.report.reading import FINISHED, ReportedRun, read_run
from mlic.report.reference import REFERENCES
from mlic.report.report_figures import choose_classes, draw_figures
from mlic.report.tables import write_table
from mlic.report.verdict import judge, notes_of
from mlic.runs.folder import refuse_foreign_folder, replacing_together, write_atomically
from mlic.runs.lock import locked_folder

logger = logging.getLogger(__name__)

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
    others = [run for run in runs if run.state != FINISHED]
    logger.info("%d run%s found, %d finished", len(runs), "" if len(runs) == 1 else "s", len(finished))
    tested = [run for run in finished if run.test is not None]
    comparison = compare_runs(tested, resamples=options.resamples)
    verdicts = [judge(comparison, group) for group in comparison.groups]
    best = next((verdict.best for verdict in verdicts if verdict.best), "")
    drawn = choose_drawn(finished, options.drawn_runs, [verdict.best for verdict in verdicts])
    styles = {run.name: run_style(place) for place, run in enumerate(drawn)}
    metrics = score_tables.class_metrics(tested)
    half = metrics.query(f"threshold == '{HALF}'")
    half_drawn = half.query("run in @styles")
    references = REFERENCES[options.reference] if options.reference else {}
    tables = [
        score_tables.overview_table(comparison, run_tables.setups(finished)),
        run_tables.settings_table(finished),
        run_tables.model_table(finished),
        run_tables.difference_table(finished),
        run_tables.training_table(finished, references.get("training", ())),
        score_tables.result_table(comparison, references.get("test", ())),
        run_tables.time_table(finished, references.get("times", ())),
        score_tables.pair_table(comparison),
        score_tables.calibration_table(tested),
        answer_table(tested),
        score_tables.class_table(comparison, half),
        run_tables.data_table(finished),
        run_tables.state_table(others, missing),
        *([score_tables.weakest_classes(comparison, best)] if best else []),
    ]
    galleries, maps = _make_galleries([run for run in drawn if run.test is not None], options)
    content = {
        "title": f"Run {finished[0].name}" if len(finished) == 1 else f"Comparison of {len(finished)} runs",
        "verdicts": verdicts,
        "best": best,
        "notes": notes_of(comparison, list(styles), len(others) + len(missing)),
        "tables": {table.key: table for table in tables},
        "runs": drawn,
        "styles": styles,
        "galleries": galleries,
        "gallery_texts": GALLERIES,
        "photographs": photograph_data(
            [run for run in drawn if run.test is not None], galleries, maps, half_drawn
        ),
    }
    with locked_folder(options.output), replacing_together(options.output) as new, report_style():
        for table in tables:
            table.write_csv(new / "tables")
        _write_long_tables(new / "tables", tested, metrics)
        # the name of a class may look like a number
        classes = choose_classes([str(name) for name in options.classes], half_drawn)
        figures = draw_figures(new / "figures", drawn, comparison, half_drawn, styles, classes)
        write_atomically(new / PAGE, render_page({**content, "figures": figures}))
    if options.tensorboard:
        from mlic.report.extras import export_run  # imports torch

        for run in drawn:
            if run.test is not None:
                export_run(run, galleries[run.name])
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


def _make_galleries(
    runs: Sequence[ReportedRun], options: ReportOptions
) -> tuple[dict[str, dict[str, list[int]]], dict[str, dict[int, tuple[str, str]]]]:
    """Return the rows of the test images of each gallery, and activation maps by row, both by name of run."""
    galleries, maps = {}, {}
    for run in runs:
        source = source_of(run)
        if not source.available:
            folders = ", ".join(map(str, source.folders))
            run.notes.append(f"no photographs: the image folder {folders} does not exist")
        galleries[run.name] = choose_rows(run, count=options.gallery_images)
        if options.activation_maps:
            from mlic.report.extras import draw_maps  # imports torch

            rows = dict.fromkeys(row for rows in galleries[run.name].values() for row in rows)
            maps[run.name] = draw_maps(run, rows, options.packages)
    return galleries, maps


def _write_long_tables(folder: Path, runs: Sequence[ReportedRun], metrics: pd.DataFrame) -> None:
    """Write the tables that are too long for the page."""
    write_table(folder / "class_metrics.csv", metrics)
    if not runs:
        return
    builders: Mapping[str, Any] = {"errors": _errors, "confusions": _confusions, "co_occurrence": _pairs}
    for key, build in builders.items():
        frames = [build(run).assign(run=run.name) for run in runs]
        write_table(folder / f"{key}.csv", pd.concat(frames, ignore_index=True))


def _errors(run: ReportedRun) -> pd.DataFrame:
    """Return the most confident false positives and negatives of each class, the most confident first."""
    errors = single_errors(predictions_of(run), predict_rule(run)).drop(columns="row")
    return errors.groupby(["class", "kind"], sort=False).head(ERRORS_PER_CLASS)


def _confusions(run: ReportedRun) -> pd.DataFrame:
    return confusions(predictions_of(run), predict_rule(run))


def _pairs(run: ReportedRun) -> pd.DataFrame:
    return co_occurrence(run.labels, run.classes)
