"""The figures of a report, drawn, written and sorted into the sections of the page."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mlic.errors import InputError
from mlic.evaluation.bootstrap import FREQUENT
from mlic.evaluation.calibration import reliability_table
from mlic.evaluation.predictions import Predictions
from mlic.figures import EmbeddedFigure, save_figure
from mlic.report import class_figures, run_figures
from mlic.report.answers import share_answered
from mlic.report.comparison import Comparison
from mlic.report.curves import find_curve
from mlic.report.reading import ReportedRun
from mlic.report.run_figures import PENALTY_METRICS, SHARES, TRAINED, Styles, history_figure, line_figure
from mlic.report.run_tables import loss_names

Drawn = tuple[str, str, Figure | None]  # section, name of the files, and the figure
# title, labels of the axes, and what draws the curves, of the kinds of `find_curve`
CURVES = {
    "pr": (
        "Precision-recall",
        ("recall", "precision"),
        partial(line_figure, drawstyle="steps-pre", **SHARES),
    ),
    "roc": (
        "ROC",
        ("false positive rate", "true positive rate"),
        partial(line_figure, diagonal=True, **SHARES),
    ),
}


def choose_classes(wanted: Sequence[str], metrics: pd.DataFrame) -> list[str]:
    """Return the classes with separate curves: `wanted`, else those with the highest, median and lowest mean AP.

    Classes that have fewer than 10 images in one of the test sets are chosen only if there are no others.

    Args:
        wanted: names of classes, or none.
        metrics: rows of `class_metrics` at one threshold.

    Raises:
        InputError: no run has one of the classes.
    """
    known = sorted(metrics["class"].unique())
    unknown = [name for name in wanted if name not in known]
    if unknown and known:
        raise InputError(f"classes: no run has {', '.join(unknown)}. Available classes: {', '.join(known)}.")
    if wanted:
        return list(wanted)
    found = metrics.groupby("class").agg(ap=("ap", "mean"), least=("support", "min")).dropna()
    enough = found.query(f"least >= {FREQUENT}")
    ordered = (
        (found if enough.empty else enough)
        .sort_values(by="ap", ascending=False, kind="stable")
        .index.tolist()
    )
    return list(dict.fromkeys(ordered[place] for place in (0, len(ordered) // 2, -1))) if ordered else []


def draw_figures(
    folder: Path,
    runs: Sequence[ReportedRun],
    comparison: Comparison,
    metrics: pd.DataFrame,
    styles: Styles,
    classes: Sequence[str],
) -> dict[str, list[EmbeddedFigure]]:
    """Draw and write the figures of all runs.

    Args:
        folder: folder of the PNG and SVG files.
        runs: runs to draw.
        comparison: comparison with the intervals.
        metrics: rows of `class_metrics` of these runs at one threshold.
        styles: styles by run.
        classes: classes with separate curves.

    Returns:
        Embedded figures by section: forest, test, classes, training, time, data, and "run:<name>" for each run.
    """
    tests = {run.name: run.test for run in runs if run.test is not None}
    figures = [
        ("forest", "test_map", run_figures.interval_figure(comparison, styles)),
        *_draw_test(tests, styles),
        ("classes", "average_precision", class_figures.average_precision_figure(metrics, styles)),
        ("classes", "average_precision_by_training_images", class_figures.frequency_figure(metrics, styles)),
        *_draw_classes(tests, styles, classes),
        *_draw_training(runs, styles),
        ("time", "pareto", run_figures.pareto_figure(runs, comparison, styles)),
        *_draw_data(runs),
    ]
    panels: dict[str, list[EmbeddedFigure]] = {}
    for section, key, figure in figures:
        if figure is not None:
            panels.setdefault(section, []).append(save_figure(folder, key, figure))
    return panels


def _draw_test(tests: Mapping[str, Predictions], styles: Styles) -> Iterator[Drawn]:
    for kind in CURVES:
        for average in ("micro", "macro"):
            yield "test", f"{kind}_{average}", _curve_figure(tests, styles, kind, average)
    bins = {name: reliability_table(test.scores, test.targets).dropna() for name, test in tests.items()}
    lines = {
        name: (own["mean_score"].to_numpy(), own["observed_frequency"].to_numpy())
        for name, own in bins.items()
    }
    axes: dict[str, Any] = {"xlabel": "mean score", "ylabel": "share of positives", **SHARES}
    yield (
        "test",
        "reliability",
        line_figure("Reliability", lines, styles, diagonal=True, markers=True, **axes),
    )
    answered = {name: share_answered(test) for name, test in tests.items() if test.positives.any()}
    axes = {"xlabel": "share of labels answered with yes or no", "ylabel": "precision"}
    yield "test", "answers", line_figure("Labels answered without a look", answered, styles, **axes)


def _draw_classes(
    tests: Mapping[str, Predictions], styles: Styles, classes: Sequence[str]
) -> Iterator[Drawn]:
    for number, name in enumerate(classes, start=1):
        for kind in CURVES:
            yield "classes", f"{kind}_class_{number}", _curve_figure(tests, styles, kind, "class", name)


def _curve_figure(
    tests: Mapping[str, Predictions], styles: Styles, kind: str, average: str, name: str = ""
) -> Figure | None:
    title, (xlabel, ylabel), draw = CURVES[kind]
    lines = {run: find_curve(kind, test, average, name) for run, test in tests.items()}
    return draw(f"{title}: {name or average}", lines, styles, xlabel=xlabel, ylabel=ylabel)


def _draw_training(runs: Sequence[ReportedRun], styles: Styles) -> Iterator[Drawn]:
    epochs = {run.name: run.epochs for run in runs if run.epochs is not None}
    # values of different loss functions cannot be compared, and are never in one panel
    losses = loss_names([run for run in runs if run.name in epochs])
    for number, loss in enumerate(dict.fromkeys(losses.values()), start=1):
        own = {name: table for name, table in epochs.items() if losses[name] == loss}
        key = "training_loss" + (f"_{number}" if number > 1 else "")
        yield "training", key, history_figure(own, styles, {"loss": f"Loss: {loss}"})
    for metric in list(TRAINED)[1:]:
        yield "training", f"training_{metric}", history_figure(epochs, styles, {metric: TRAINED[metric]})
    penalties = {run.name: run.penalties for run in runs if run.penalties is not None}
    figure = history_figure(penalties, styles, PENALTY_METRICS, x="penalty", parts={"loo": "solid"})
    yield "training", "penalties", figure
    for number, run in enumerate(runs, start=1):
        if run.epochs is not None:
            own = {run.name: run.epochs}
            yield f"run:{run.name}", f"training_run_{number}", history_figure(own, styles, TRAINED)


def _draw_data(runs: Sequence[ReportedRun]) -> Iterator[Drawn]:
    """Draw labels and pairs of labels once for each data set of the runs."""
    by_data: dict[str, ReportedRun] = {}
    for run in runs:
        by_data.setdefault(run.find("dataset.split.hash") or str(run.path), run)
    for number, run in enumerate(by_data.values(), start=1):
        ending = "" if number == 1 else f"_{number}"
        yield "data", f"labels{ending}", class_figures.label_figure(run.dataset)
        if len(run.labels):
            yield (
                "data",
                f"co_occurrence{ending}",
                class_figures.co_occurrence_figure(run.labels, run.classes),
            )
