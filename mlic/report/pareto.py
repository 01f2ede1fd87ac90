"""Test mAP against the time of the features: which network is worth its seconds."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from mlic.figures import FAINT, PANEL_HEIGHT, PANEL_WIDTH, new_figure
from mlic.report.comparison import HALF, Comparison
from mlic.report.reading import ReportedRun
from mlic.report.run_figures import Styles, add_legend


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (seconds, metric) that no other one surpasses at the same or less time, fastest first."""
    front: list[tuple[float, float]] = []
    for seconds, metric in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or metric > front[-1][1]:
            front.append((seconds, metric))
    return front


def pareto_figure(runs: Sequence[ReportedRun], comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw mAP with its interval against the seconds of 1,000 photographs; None with fewer than two known times."""
    found = {
        run.name: (run.seconds_per_1000, interval)
        for run in runs
        if run.seconds_per_1000 and (interval := comparison.interval(run.name, HALF, "map")) is not None
    }
    if len({seconds for seconds, _ in found.values()}) < 2:
        return None
    figure = new_figure(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    axes = figure.add_subplot()
    front = pareto_front([(seconds, interval.estimate) for seconds, interval in found.values()])
    axes.step(*zip(*front, strict=True), where="post", color=FAINT, lw=1, ls="--", zorder=1)
    for name, (seconds, interval) in found.items():
        colour = styles[name].colour
        axes.plot([seconds, seconds], [interval.low, interval.high], color=colour, lw=2, alpha=0.5)
        axes.plot(seconds, interval.estimate, styles[name].marker, color=colour, ms=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "25" else "")
    axes.set(xlabel="seconds of the features of 1,000 photographs", ylabel="test mAP")
    axes.set_title("mAP against wall-clock time")
    add_legend(figure, styles, list(found), marks=True)
    return figure
