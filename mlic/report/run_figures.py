"""Figures of training and test metrics, one panel each, with all runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mlic.figures import FAINT, INK, PANEL_HEIGHT, PANEL_WIDTH, RunStyle, new_figure, plain_log_axis, shorten
from mlic.report.comparison import HALF, Comparison
from mlic.report.curves import find_curve
from mlic.report.reading import ReportedRun
from mlic.svg import mark

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
LEGEND_LINE = 0.17  # inches
CURVE_NAMES = {"pr": "Precision-recall", "roc": "ROC"}


def new_panel(title: str, *, height: float = PANEL_HEIGHT, **settings: Any) -> tuple[Figure, Axes]:
    """Return a figure of one panel and its axes; `settings` are those of `Axes.set`."""
    figure = new_figure(width=PANEL_WIDTH, height=height)
    axes = figure.add_subplot()
    axes.set(**settings)
    axes.set_title(shorten(title, 44))
    return figure, axes


def interval_figure(
    comparison: Comparison, styles: Styles, metric: str = "map", title: str = "Test mAP"
) -> Figure:
    """Draw one dot with its interval per run, the best on top."""
    known = {name: comparison.interval(name, HALF, metric) for name in styles}
    rows = sorted(
        ((v.estimate, v, name) for name, v in known.items() if v is not None), key=lambda row: row[0]
    )
    height = 1.1 + 0.3 * max(1, len(rows))
    figure, axes = new_panel(f"{title}, {comparison.level:.0%} interval", height=height)
    for place, (estimate, interval, name) in enumerate(rows):
        colour = styles[name].colour
        (line,) = axes.plot([interval.low, interval.high], [place, place], color=colour, lw=2.5, alpha=0.55)
        (dot,) = axes.plot(estimate, place, styles[name].marker, color=colour, ms=7)
        for artist in (line, dot):
            mark(artist, f"{name}: {estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})", note=True)
    axes.set_yticks(range(len(rows)), [shorten(name) for *_, name in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    return figure


def training_figure(runs: Sequence[ReportedRun], styles: Styles, metrics: Sequence[str]) -> Figure | None:
    """Draw metrics over the epochs, one below the other, train dashed and val solid; None if no run has them."""
    known = [
        metric
        for metric in metrics
        if any(run.epochs is not None and f"train/{metric}" in run.epochs for run in runs)
    ]
    if not known:
        return None
    height = PANEL_HEIGHT if len(known) == 1 else 0.5 + 1.7 * len(known)
    figure = new_figure(width=PANEL_WIDTH, height=height)
    panels = figure.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, known, strict=True):
        for run in runs:
            for part, dashes in PART_DASHES.items():
                if run.epochs is not None and f"{part}/{metric}" in run.epochs:
                    values = run.epochs[f"{part}/{metric}"]
                    style = {"ls": dashes, "color": styles[run.name].colour}
                    (line,) = axes.plot(run.epochs["epoch"] + 1, values, **style)
                    mark(line, f"{run.name}, {part}")
        axes.set_title(TRAINED[metric])
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn = [run.name for run in runs if run.epochs is not None]
    add_legend(figure, styles, drawn if len(runs) > 1 else [], extra=PART_LINES)
    return figure


def penalty_figure(runs: Sequence[ReportedRun], styles: Styles) -> Figure | None:
    """Draw the leave-one-out mAP and log loss of heads in closed form over their penalties; None without such runs."""
    tables = {run.name: run.penalties for run in runs if run.penalties is not None}
    known = [name for name in PENALTY_METRICS if any(name in table for table in tables.values())]
    if not known:
        return None
    figure = new_figure(width=PANEL_WIDTH, height=0.5 + 1.7 * len(known))
    panels = figure.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, known, strict=True):
        for name, table in tables.items():
            if metric in table:
                (line,) = axes.plot(table["penalty"], table[metric], ".-", color=styles[name].colour)
                mark(line, name)
        axes.set_title(PENALTY_METRICS[metric])
        plain_log_axis(axes)
    panels[-1].set_xlabel("penalty")
    add_legend(figure, styles, list(tables))
    return figure


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
    points = {run.name: find_curve(kind, run.test, average, name) for run in runs if run.test is not None}
    found = {run: curve for run, curve in points.items() if curve is not None}
    if not found:
        return None
    figure, axes = new_panel(
        f"{CURVE_NAMES[kind]}: {name or average}",
        xlabel=CURVE_AXES[kind][0], ylabel=CURVE_AXES[kind][1], xlim=(0, 1.01), ylim=(0, 1.02),
    )  # fmt: skip
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":")
    steps = "steps-pre" if kind == "pr" else "default"
    for run, (x, y) in found.items():
        (line,) = axes.plot(x, y, color=styles[run].colour, drawstyle=steps)
        mark(line, run)
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
    columns = int(np.clip(58 // (longest + 6), 1, 3))
    # further lines must not take the room of the panel
    lines = -(-(len(handles) + len(extra)) // columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * max(0, lines - 2))
    figure.legend(handles=[*handles, *extra], loc="outside lower center", ncols=columns, fontsize=8)
