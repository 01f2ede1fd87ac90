"""The figures of a report, drawn, written and sorted into the sections of the page."""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from mlic.errors import InputError
from mlic.evaluation.bootstrap import FREQUENT
from mlic.evaluation.calibration import reliability_table
from mlic.evaluation.predictions import Predictions
from mlic.figures import EmbeddedFigure, FigureFiles
from mlic.report.answers import share_answered
from mlic.report.class_figures import (
    average_precision_figure,
    co_occurrence_figure,
    frequency_figure,
    label_figure,
)
from mlic.report.comparison import Comparison
from mlic.report.curves import find_curve
from mlic.report.reading import ReportedRun
from mlic.report.run_figures import (
    PENALTY_METRICS,
    SHARES,
    TRAINED,
    Styles,
    history_figure,
    interval_figure,
    line_figure,
    pareto_figure,
)
from mlic.report.run_tables import loss_names

Panels = list[EmbeddedFigure]
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
    files: FigureFiles,
    runs: Sequence[ReportedRun],
    comparison: Comparison,
    metrics: pd.DataFrame,
    styles: Styles,
    classes: Sequence[str],
) -> dict[str, Panels]:
    """Draw and write the figures of all runs.

    Args:
        files: writer of the figures.
        runs: runs to draw.
        comparison: comparison with the intervals.
        metrics: rows of `class_metrics` of these runs at one threshold.
        styles: styles by run.
        classes: classes with separate curves.

    Returns:
        Embedded figures by section: forest, test, classes, training, time, data, and "run:<name>" for each run.
    """
    tests = {run.name: run.test for run in runs if run.test is not None}
    panels = {
        "forest": files.save("test_map", "Test mAP with its interval", interval_figure(comparison, styles)),
        "test": _draw_test(files, tests, styles),
        "classes": files.save(
            "average_precision", "Average precision by class", average_precision_figure(metrics, styles)
        )
        + files.save(
            "average_precision_by_training_images",
            "Average precision by training images",
            frequency_figure(metrics, styles),
        ),
        "training": _draw_training(files, runs, styles),
        "time": files.save("pareto", "mAP against wall-clock time", pareto_figure(runs, comparison, styles)),
        "data": _draw_data(files, runs),
    }
    for number, name in enumerate(classes, start=1):
        for kind in CURVES:
            figure = _curve_figure(tests, styles, kind, "class", name)
            panels["classes"] += files.save(
                f"{kind}_class_{number}", f"{CURVES[kind][0]} curve of {name}", figure
            )
    for number, run in enumerate(runs, start=1):
        table = {} if run.epochs is None else {run.name: run.epochs}
        figure = history_figure(table, styles, TRAINED)
        panels[f"run:{run.name}"] = files.save(f"training_run_{number}", f"Training of {run.name}", figure)
    return panels


def _draw_test(files: FigureFiles, tests: Mapping[str, Predictions], styles: Styles) -> Panels:
    panels: Panels = []
    for kind in CURVES:
        for average in ("micro", "macro"):
            figure = _curve_figure(tests, styles, kind, average)
            panels += files.save(f"{kind}_{average}", f"{CURVES[kind][0]} curve, {average}", figure)
    bins = {name: reliability_table(test.scores, test.targets).dropna() for name, test in tests.items()}
    figure = line_figure(
        "Reliability",
        {name: (own["mean_score"].to_numpy(), own["observed_frequency"].to_numpy()) for name, own in bins.items()},
        styles, diagonal=True, markers=True, xlabel="mean score", ylabel="share of positives", **SHARES,
    )  # fmt: skip
    panels += files.save("reliability", "Reliability of the scores", figure)
    answered = {name: share_answered(test) for name, test in tests.items() if test.positives.any()}
    figure = line_figure(
        "Labels answered without a look", answered, styles,
        xlabel="share of labels answered with yes or no", ylabel="precision",
    )  # fmt: skip
    return panels + files.save("answers", "Precision against the labels answered", figure)


def _curve_figure(
    tests: Mapping[str, Predictions], styles: Styles, kind: str, average: str, name: str = ""
) -> Figure | None:
    title, (xlabel, ylabel), draw = CURVES[kind]
    lines = {run: find_curve(kind, test, average, name) for run, test in tests.items()}
    return draw(f"{title}: {name or average}", lines, styles, xlabel=xlabel, ylabel=ylabel)


def _draw_training(files: FigureFiles, runs: Sequence[ReportedRun], styles: Styles) -> Panels:
    panels: Panels = []
    epochs = {run.name: run.epochs for run in runs if run.epochs is not None}
    # values of different loss functions cannot be compared, and are never in one panel
    losses = loss_names([run for run in runs if run.name in epochs])
    for number, loss in enumerate(dict.fromkeys(losses.values()), start=1):
        own = {name: table for name, table in epochs.items() if losses[name] == loss}
        title = f"Loss: {loss}"
        figure = history_figure(own, styles, {"loss": title})
        panels += files.save("training_loss" + (f"_{number}" if number > 1 else ""), title, figure)
    for metric in list(TRAINED)[1:]:
        figure = history_figure(epochs, styles, {metric: TRAINED[metric]})
        panels += files.save(f"training_{metric}", f"{TRAINED[metric]} over the epochs", figure)
    penalties = {run.name: run.penalties for run in runs if run.penalties is not None}
    figure = history_figure(penalties, styles, PENALTY_METRICS, x="penalty", parts={"loo": "solid"})
    return panels + files.save("penalties", "Leave-one-out over the penalties", figure)


def _draw_data(files: FigureFiles, runs: Sequence[ReportedRun]) -> Panels:
    """Draw labels and pairs of labels once for each data set of the runs."""
    panels: Panels = []
    by_data = {run.dataset.get("split", {}).get("hash", str(run.path)): run for run in reversed(runs)}
    for number, run in enumerate(reversed(by_data.values()), start=1):
        ending = "" if number == 1 else f"_{number}"
        panels += files.save(f"labels{ending}", f"Labels of {run.name}", label_figure(run.dataset))
        if len(run.labels):
            figure = co_occurrence_figure(run.labels, run.classes)
            panels += files.save(f"co_occurrence{ending}", "Labels that occur together", figure)
    return panels
