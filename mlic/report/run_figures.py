"""Figures of training and test metrics, with all runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mlic.evaluation.bootstrap import Interval
from mlic.figures import FAINT, INK, PANEL_HEIGHT, PANEL_WIDTH, RunStyle, new_figure, plain_log_axis, shorten
from mlic.report.comparison import Comparison
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
TRAINED_PARTS = {"train": (0, (3, 1.5)), "val": "solid"}
PENALTY_METRICS = {"map": "Leave-one-out mAP", "log_loss": "Leave-one-out log loss"}
LEGEND_LINE = 0.17  # inches
SHARES: Any = {"xlim": (0, 1.01), "ylim": (0, 1.02)}


def new_panel(title: str, *, height: float = PANEL_HEIGHT, **settings: Any) -> tuple[Figure, Axes]:
    """Return a figure of one panel and its axes; `settings` are those of `Axes.set`."""
    figure = new_figure(width=PANEL_WIDTH, height=height)
    axes = figure.add_subplot()
    axes.set(**settings)
    axes.set_title(shorten(title, 44))
    return figure, axes


def line_figure(
    title: str,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray] | None],
    styles: Styles,
    *,
    diagonal: bool = False,
    markers: bool = False,
    drawstyle: Any = "default",
    **settings: Any,
) -> Figure | None:
    """Draw one line per run; None without any.

    Args:
        title: heading.
        lines: x and y by name of run; None for runs without a line.
        styles: styles by name of run.
        diagonal: also draw the line from (0, 0) to (1, 1).
        markers: draw the points as well.
        drawstyle: see `Line2D`.
        settings: see `Axes.set`.
    """
    found = {run: line for run, line in lines.items() if line is not None}
    if not found:
        return None
    figure, axes = new_panel(title, **settings)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", zorder=1)
    for run, (x, y) in found.items():
        marker = styles[run].marker if markers else ""
        (line,) = axes.plot(x, y, marker=marker, ms=4, color=styles[run].colour, drawstyle=drawstyle)
        mark(line, run)
    add_legend(figure, styles, list(found), marks=markers)
    return figure


def interval_figure(comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw one dot with its interval per run, the highest mAP on top."""
    known = comparison.intervals(styles)
    if not known:
        return None
    names = list(known)[::-1]
    title, height = f"Test mAP, {comparison.level:.0%} interval", 0.95 + 0.25 * len(names)
    figure, axes = new_panel(title, height=height, ylim=(-0.6, len(names) - 0.4))
    for place, name in enumerate(names):
        _draw_interval(axes, name, styles[name], known[name], place)
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.grid(visible=False, axis="y")
    return figure


def pareto_figure(runs: Sequence[ReportedRun], comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw mAP with its interval against the seconds of 1,000 photographs; None with fewer than two known times."""
    seconds = {run.name: time for run in runs if (time := run.seconds_per_1000)}
    values = comparison.intervals(seconds)
    if len({seconds[name] for name in values}) < 2:
        return None
    figure, axes = new_panel(
        "mAP against wall-clock time",
        xlabel="seconds of the features of 1,000 photographs",
        ylabel="test mAP",
    )
    ordered = sorted((seconds[name], -values[name].estimate) for name in values)
    # no other run is better in the same or less time
    front = -np.minimum.accumulate([value for _, value in ordered])
    axes.step([time for time, _ in ordered], front, where="post", color=FAINT, lw=1, ls="--", zorder=1)
    for name, interval in values.items():
        _draw_interval(axes, name, styles[name], interval, seconds[name], upwards=True)
    plain_log_axis(axes)
    add_legend(figure, styles, list(values), marks=True)
    return figure


def _draw_interval(
    axes: Axes, name: str, style: RunStyle, interval: Interval, place: float, *, upwards: bool = False
) -> None:
    """Draw a value and its interval upwards at x = `place`, or to the right at y = `place`."""
    bar, dot = ((interval.low, interval.high), (place, place)), (interval.estimate, place)
    (line,) = axes.plot(*(bar[::-1] if upwards else bar), color=style.colour, lw=2.5, alpha=0.55)
    (point,) = axes.plot(*(dot[::-1] if upwards else dot), style.marker, color=style.colour, ms=7)
    for artist in (line, point):
        mark(
            artist, f"{name}: {interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})", note=True
        )


def history_figure(
    tables: Mapping[str, pd.DataFrame],
    styles: Styles,
    metrics: Mapping[str, str],
    *,
    x: str = "epoch",
    parts: Mapping[str, Any] = TRAINED_PARTS,
) -> Figure | None:
    """Draw metrics over the epochs or penalties, one below the other; None if no table has any.

    Args:
        tables: content of epochs.csv or penalties.csv by run, with columns such as "val/map".
        styles: styles by run.
        metrics: titles by name of metric.
        x: `epoch` or `penalty`.
        parts: line styles by name of part.
    """
    known = [
        name for name in metrics if any(f"{part}/{name}" in own for own in tables.values() for part in parts)
    ]
    if not known:
        return None
    height = PANEL_HEIGHT if len(known) == 1 else 0.5 + 1.7 * len(known)
    figure = new_figure(width=PANEL_WIDTH, height=height)
    panels = figure.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, known, strict=True):
        for run, table in tables.items():
            for part, dashes in parts.items():
                if f"{part}/{metric}" in table:
                    values = table[x] + (x == "epoch"), table[f"{part}/{metric}"]  # epochs are counted from 0
                    (line,) = axes.plot(*values, ls=dashes, color=styles[run].colour)
                    mark(line, f"{run}, {part}")
        axes.set_title(metrics[metric])
    panels[-1].set_xlabel(x)
    if x == "epoch":
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        plain_log_axis(panels[-1])
    lines = [Line2D([], [], color=INK, ls=dashes, label=part) for part, dashes in parts.items()]
    add_legend(figure, styles, list(tables), extra=lines)
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
