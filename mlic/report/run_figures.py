"""Figures of training and test metrics, one panel each, with all runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from mlic.figures import FAINT, INK, PANEL_HEIGHT, PANEL_WIDTH, RunStyle, new_figure
from mlic.report.comparison import HALF, Comparison
from mlic.report.curves import Points, class_curve, macro_curve, micro_curve
from mlic.report.reading import ReportedRun

Styles = Mapping[str, RunStyle]

TRAINED = {
    "loss": "Loss",
    "map": "mAP",
    "auc_macro": "AUC (macro)",
    "precision_micro": "Precision (micro)",
    "recall_micro": "Recall (micro)",
}
PENALTY_METRICS = {"loo/map": "Leave-one-out mAP", "loo/log_loss": "Leave-one-out log loss"}
PART_DASHES = {"train": (0, (3, 1.5)), "val": "solid"}
PART_LINES = [Line2D([], [], color=INK, ls=line, label=part) for part, line in PART_DASHES.items()]
CURVE_AXES = {"pr": ("recall", "precision"), "roc": ("false positive rate", "true positive rate")}
CURVE_NAMES = {"pr": "Precision-recall", "roc": "ROC"}


def interval_figure(
    comparison: Comparison, styles: Styles, metric: str = "map", title: str = "Test mAP"
) -> Figure:
    """Draw one dot with its interval per run, the best on top."""
    known = {name: comparison.interval(name, HALF, metric) for name in styles}
    rows = sorted(
        ((v.estimate, v, name) for name, v in known.items() if v is not None), key=lambda row: row[0]
    )
    figure = new_figure(width=PANEL_WIDTH, height=1.2 + 0.34 * max(1, len(rows)))
    axes = figure.add_subplot()
    for place, (estimate, interval, name) in enumerate(rows):
        axes.plot(
            [interval.low, interval.high], [place, place], color=styles[name].colour, lw=2.5, alpha=0.55
        )
        axes.plot(estimate, place, styles[name].marker, color=styles[name].colour, ms=7)
    axes.set_yticks(range(len(rows)), [shorten(name) for *_, name in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set_title(f"{title}, {comparison.level:.0%} interval")
    return figure


def training_figure(runs: Sequence[ReportedRun], styles: Styles, metric: str) -> Figure | None:
    """Draw a metric over the epochs, train dashed and val solid; None if no run has it."""
    figure = new_figure(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    axes = figure.add_subplot()
    for run in runs:
        _plot_epochs(axes, run, metric, styles)
    if not axes.lines:
        return None
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set_title(TRAINED[metric])
    add_legend(figure, styles, [run.name for run in runs], extra=PART_LINES)
    return figure


def run_training_figure(run: ReportedRun, styles: Styles) -> Figure | None:
    """Draw all metrics of one run over its epochs, one below the other; None without epochs."""
    known = [name for name in TRAINED if run.epochs is not None and f"train/{name}" in run.epochs]
    if run.epochs is None or not known:
        return None
    figure = new_figure(width=PANEL_WIDTH, height=0.5 + 1.7 * len(known))
    panels = figure.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, known, strict=True):
        _plot_epochs(axes, run, metric, styles)
        axes.set_title(TRAINED[metric])
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("epoch")
    figure.legend(handles=PART_LINES, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def penalty_figure(runs: Sequence[ReportedRun], styles: Styles) -> Figure | None:
    """Draw the leave-one-out mAP and log loss of heads in closed form over their penalties; None without such runs."""
    drawn = [run for run in runs if run.penalties is not None]
    known = [name for name in PENALTY_METRICS if any(name in run.penalties for run in drawn)]  # pyright: ignore[reportOperatorIssue]
    if not known:
        return None
    figure = new_figure(width=PANEL_WIDTH, height=0.5 + 1.7 * len(known))
    panels = figure.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, known, strict=True):
        for run in drawn:
            if run.penalties is not None and metric in run.penalties:
                axes.plot(
                    run.penalties["penalty"], run.penalties[metric], ".-", color=styles[run.name].colour
                )
        axes.set_xscale("log")
        axes.set_title(PENALTY_METRICS[metric])
    # the default labels of powers need mathtext, which is off because of $ in names
    panels[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[-1].set_xlabel("penalty")
    add_legend(figure, styles, [run.name for run in drawn])
    return figure


def _plot_epochs(axes: Axes, run: ReportedRun, metric: str, styles: Styles) -> None:
    if run.epochs is None or "epoch" not in run.epochs:
        return
    for part, line in PART_DASHES.items():
        if f"{part}/{metric}" in run.epochs:
            values = run.epochs[f"{part}/{metric}"]
            axes.plot(run.epochs["epoch"] + 1, values, ls=line, color=styles[run.name].colour)


def curve_figure(
    runs: Sequence[ReportedRun], styles: Styles, kind: str, average: str, name: str = ""
) -> Figure | None:
    """Draw precision-recall or ROC curves of all runs.

    Args:
        runs: runs; those without test predictions are ignored.
        styles: styles by name of run.
        kind: `pr` or `roc`.
        average: `micro`, `macro` or `class`.
        name: name of the class.

    Returns:
        The figure, or None if no run has such a curve.
    """
    found: dict[str, Points] = {}
    for run in runs:
        if run.test is not None:
            points = (
                class_curve(kind, run.test, name)
                if average == "class"
                else (micro_curve if average == "micro" else macro_curve)(kind, run.test)
            )
            if points is not None:
                found[run.name] = points
    if not found:
        return None
    figure = new_figure(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    axes = figure.add_subplot()
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":")
    for run_name, (x, y) in found.items():
        axes.plot(x, y, color=styles[run_name].colour, drawstyle="steps-pre" if kind == "pr" else "default")
    axes.set(xlabel=CURVE_AXES[kind][0], ylabel=CURVE_AXES[kind][1], xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(f"{CURVE_NAMES[kind]}: {shorten(name or average)}")
    add_legend(figure, styles, list(found))
    return figure


def add_legend(
    figure: Figure, styles: Styles, names: Sequence[str], *, extra: Sequence[Line2D] = (), marks: bool = False
) -> None:
    """Add a legend with the names of runs below the panel."""
    handles = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker if marks else "",
               ls="" if marks else "solid", label=shorten(name, 40))
        for name in names
    ]  # fmt: skip
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = int(np.clip(64 // (longest + 6), 1, 3))
    figure.legend(handles=[*handles, *extra], loc="outside lower center", ncols=columns, fontsize=8)


def shorten(name: str, length: int = 28) -> str:
    """Shorten a name so that it fits beside an axis."""
    return name if len(name) <= length else name[: length - 1] + "…"
