"""Figures of classes: frequency, average precision, co-occurrence; and reliability of the scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from mlic.evaluation.calibration import reliability_table
from mlic.evaluation.errors import ap_by_training_images
from mlic.figures import FAINT, PANEL_HEIGHT, PANEL_WIDTH, RUN_COLOURS, new_figure
from mlic.report.reading import ReportedRun
from mlic.report.run_figures import Styles, add_legend, shorten

ROW_HEIGHT = 0.165  # inches per class
PAIR_CLASSES = 20  # in the co-occurrence figure
PART_STYLES = {"train": (RUN_COLOURS[0], "o"), "val": (RUN_COLOURS[1], "s"), "test": (RUN_COLOURS[2], "^")}


def label_figure(dataset: Mapping[str, Any]) -> Figure | None:
    """Draw the share of train, val and test images (where it is known) with each label, the most frequent on top.

    Args:
        dataset: content of dataset.json; the result is None if it has no counts.
    """
    images, counts = dataset.get("images", {}), dataset.get("counts", {})
    parts = [part for part in PART_STYLES if images.get(part) and part in counts]
    if not parts:
        return None
    names = sorted(counts[parts[0]], key=lambda name: sum(counts[part].get(name, 0) for part in parts))
    figure = new_figure(width=PANEL_WIDTH, height=1.3 + ROW_HEIGHT * len(names))
    axes = figure.add_subplot()
    for part in parts:
        # of the images whose label is known, which are all unless the record says otherwise
        known = dataset.get("known", {}).get(part, {})
        shares = [100 * counts[part].get(name, 0) / max(known.get(name, images[part]), 1) for name in names]
        colour, marker = PART_STYLES[part]
        shown = [share if share > 0 else np.nan for share in shares]
        label = f"{part} ({images[part]:,})"
        axes.plot(shown, range(len(names)), marker, color=colour, ms=4.5, alpha=0.85, label=label)
    _log_axis(axes)
    _class_axis(axes, names)
    axes.set_xlabel("% of the images")
    axes.set_title("Labels: share of images")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def average_precision_figure(
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], styles: Styles
) -> Figure | None:
    """Draw the average precision of each class in all runs; classes are sorted by their mean, the best on top.

    Args:
        metrics: `per_class` of `evaluate_scores`, by run and class.
        styles: styles by run.
    """
    table = average_precisions(metrics)
    if not table:
        return None
    names = sorted(table, key=lambda name: np.mean(list(table[name].values())))
    figure = new_figure(width=PANEL_WIDTH, height=1.3 + ROW_HEIGHT * len(names))
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        values = list(table[name].values())
        axes.plot([min(values), max(values)], [place, place], color=FAINT, lw=0.9, zorder=1)
    for run, style in styles.items():
        shown = [table[name].get(run, np.nan) for name in names]
        if not np.isnan(shown).all():
            axes.plot(shown, range(len(names)), style.marker, color=style.colour, ms=4.5, alpha=0.9)
    _class_axis(axes, names)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("average precision on test")
    axes.set_title("Average precision by class")
    add_legend(figure, styles, [run for run in styles if run in metrics], marks=True)
    return figure


def average_precisions(
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, dict[str, float]]:
    """Return the defined average precisions by class and run."""
    table: dict[str, dict[str, float]] = {}
    for run, classes in metrics.items():
        for name, row in classes.items():
            if row["ap"] is not None:
                table.setdefault(name, {})[run] = row["ap"]
    return table


def frequency_figure(
    runs: Sequence[ReportedRun], metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], styles: Styles
) -> Figure | None:
    """Draw average precision of each class against its number of training images (logarithmic)."""
    figure = new_figure(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    axes = figure.add_subplot()
    for run in runs:
        if run.name in metrics:
            counts = run.dataset.get("counts", {}).get("train", {})
            table = ap_by_training_images(metrics[run.name], counts).dropna().query("training_images > 0")
            style = styles[run.name]
            if len(table):
                x, y = np.asarray(table["training_images"]), np.asarray(table["ap"])
                axes.plot(x, y, style.marker, color=style.colour, ms=4, alpha=0.7, mew=0)
    if not axes.lines:
        return None
    _log_axis(axes)
    axes.set(xlabel="training images of the class", ylabel="average precision on test", ylim=(-0.02, 1.02))
    axes.set_title("Average precision by training images")
    add_legend(figure, styles, [run.name for run in runs if run.name in metrics], marks=True)
    return figure


def reliability_figure(runs: Sequence[ReportedRun], styles: Styles) -> Figure | None:
    """Draw the share of positives against the mean score in 15 bins, over all test labels."""
    figure = new_figure(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    axes = figure.add_subplot()
    shown = []
    for run in runs:
        if run.test is not None and ((run.test.scores >= 0) & (run.test.scores <= 1)).all():
            table = reliability_table(run.test.scores, run.test.targets).dropna()
            style = styles[run.name]
            x, y = np.asarray(table["mean_score"]), np.asarray(table["observed_frequency"])
            axes.plot(x, y, marker=style.marker, ms=4, color=style.colour)
            shown.append(run.name)
    if not shown:
        return None
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", zorder=1)
    axes.set(xlabel="mean score", ylabel="share of positives", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title("Reliability")
    add_legend(figure, styles, shown, marks=True)
    return figure


def co_occurrence_figure(targets: np.ndarray, classes: Sequence[str]) -> Figure | None:
    """Draw the share of images with the row's label that also have the column's label (20 most frequent labels).

    Args:
        targets: targets (N, C) of 1, 0 and -1 (unknown). Images whose label of the column is unknown are left out.
        classes: C names; the result is None if fewer than two occur.
    """
    counts = (targets == 1).sum(axis=0)
    chosen = np.argsort(-counts, kind="stable")[:PAIR_CLASSES]
    chosen = chosen[counts[chosen] > 0]
    if len(chosen) < 2:
        return None
    positive, known = ((targets[:, chosen] >= least).astype(np.float64) for least in (1, 0))
    share = 100 * (positive.T @ positive) / np.maximum(positive.T @ known, 1)
    np.fill_diagonal(share, np.nan)
    side = max(PANEL_WIDTH, 1.6 + 0.18 * len(chosen))
    figure = new_figure(width=side, height=side + 0.3)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    names = [shorten(classes[int(column)], 20) for column in chosen]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7.5)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.grid(visible=False)
    axes.set_title("Labels that occur together")
    figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, label="% of the row's images", aspect=30)
    return figure


def _log_axis(axes: Axes) -> None:
    """Label powers of ten with plain numbers, and also values between them if the axis has only one power."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    narrow = np.log10(high / low) < 2
    axes.xaxis.set_minor_formatter(
        (lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "25" else "") if narrow else NullFormatter()
    )


def _class_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shorten(name, 22) for name in names], fontsize=7.5)
    axes.set_ylim(-0.8, len(names) - 0.2)
