"""Figures of classes: frequency, average precision, co-occurrence; and reliability of the scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlic.evaluation.calibration import reliability_table
from mlic.evaluation.errors import ap_by_training_images
from mlic.figures import FAINT, PANEL_WIDTH, RUN_COLOURS, new_figure, plain_log_axis, shorten
from mlic.report.reading import ReportedRun
from mlic.report.run_figures import Styles, add_legend, new_panel
from mlic.svg import mark

ROW_HEIGHT = 0.175  # inches per class
PAIR_CLASSES = 20  # in the co-occurrence figure
FEW_IMAGES = 10  # classes with fewer test images have uncertain figures
PART_STYLES = {"train": (RUN_COLOURS[0], "o"), "val": (RUN_COLOURS[1], "s"), "test": (RUN_COLOURS[2], "^")}

ClassMetrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


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
    figure, axes = _class_panel("Labels: share of images", names, xlabel="% of the images")
    labels = [f"{part} ({images[part]:,})" for part in parts]
    for part, label in zip(parts, labels, strict=True):
        # of the images whose label is known, which are all unless the record says otherwise
        known = dataset.get("known", {}).get(part, {})
        shares = [100 * counts[part].get(name, 0) / max(known.get(name, images[part]), 1) for name in names]
        colour, marker = PART_STYLES[part]
        shown = [share if share > 0 else np.nan for share in shares]
        (dots,) = axes.plot(shown, range(len(names)), marker, color=colour, ms=4.5, alpha=0.85)
        mark(dots, label)
    plain_log_axis(axes)
    figure.legend(axes.lines, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def average_precision_figure(metrics: ClassMetrics, styles: Styles) -> Figure | None:
    """Draw the average precision of each class in all runs; classes are sorted by their mean, the best on top.

    Classes with few test images are below the others, and pale.

    Args:
        metrics: `per_class` of `evaluate_scores`, by run and class.
        styles: styles by run.
    """
    table, few = average_precisions(metrics), few_images(metrics)
    if not table:
        return None
    names = sorted(table, key=lambda name: (name not in few, np.mean(list(table[name].values()))))
    labels = [f"{shorten(name, 18)} ({few[name]})" if name in few else name for name in names]
    figure, axes = _class_panel(
        "Average precision by class", labels, xlabel="average precision on test", xlim=(-0.02, 1.02)
    )
    for place, name in enumerate(names):
        values = list(table[name].values())
        axes.plot([min(values), max(values)], [place, place], color=FAINT, lw=0.9, zorder=1)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(FAINT if name in few else label.get_color())
    for run, style in styles.items():
        shown = np.array([table[name].get(run, np.nan) for name in names])
        pale = np.array([name in few for name in names])
        for rows, alpha in ((pale, 0.3), (~pale, 0.9)):
            values = np.where(rows, shown, np.nan)
            if not np.isnan(values).all():
                (dots,) = axes.plot(
                    values, range(len(names)), style.marker, color=style.colour, ms=4.5, alpha=alpha
                )
                mark(dots, run)
    add_legend(figure, styles, [run for run in styles if run in metrics], marks=True)
    return figure


def average_precisions(metrics: ClassMetrics) -> dict[str, dict[str, float]]:
    """Return the defined average precisions by class and run."""
    table: dict[str, dict[str, float]] = {}
    for run, classes in metrics.items():
        for name, row in classes.items():
            if row["ap"] is not None:
                table.setdefault(name, {})[run] = row["ap"]
    return table


def few_images(metrics: ClassMetrics) -> dict[str, int]:
    """Return the number of test images of the classes that have fewer than 10 in all runs."""
    most: dict[str, int] = {}
    for classes in metrics.values():
        for name, row in classes.items():
            most[name] = max(most.get(name, 0), row["support"])
    return {name: count for name, count in most.items() if count < FEW_IMAGES}


def frequency_figure(runs: Sequence[ReportedRun], metrics: ClassMetrics, styles: Styles) -> Figure | None:
    """Draw average precision of each class against its number of training images (logarithmic)."""
    figure, axes = new_panel(
        "Average precision by training images",
        xlabel="training images of the class", ylabel="average precision on test", ylim=(-0.02, 1.02),
    )  # fmt: skip
    for run in runs:
        if run.name not in metrics:
            continue
        counts = run.dataset.get("counts", {}).get("train", {})
        table = ap_by_training_images(metrics[run.name], counts).dropna().query("training_images > 0")
        style, enough = styles[run.name], table["support"] >= FEW_IMAGES
        for rows, alpha in ((table[~enough], 0.25), (table[enough], 0.7)):
            x, y = np.asarray(rows["training_images"]), np.asarray(rows["ap"])
            if len(rows):
                (dots,) = axes.plot(x, y, style.marker, color=style.colour, ms=4, alpha=alpha, mew=0)
                mark(dots, run.name, points=rows["class"])
    if not axes.lines:
        return None
    plain_log_axis(axes)
    add_legend(figure, styles, [run.name for run in runs if run.name in metrics], marks=True)
    return figure


def reliability_figure(runs: Sequence[ReportedRun], styles: Styles) -> Figure | None:
    """Draw the share of positives against the mean score in 15 bins, over all test labels."""
    figure, axes = new_panel(
        "Reliability", xlabel="mean score", ylabel="share of positives", xlim=(0, 1.01), ylim=(0, 1.02)
    )
    shown = []
    for run in runs:
        if run.test is not None and ((run.test.scores >= 0) & (run.test.scores <= 1)).all():
            table = reliability_table(run.test.scores, run.test.targets).dropna()
            style = styles[run.name]
            x, y = np.asarray(table["mean_score"]), np.asarray(table["observed_frequency"])
            (line,) = axes.plot(x, y, marker=style.marker, ms=4, color=style.colour)
            mark(line, run.name)
            shown.append(run.name)
    if not shown:
        return None
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", zorder=1)
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


def _class_panel(title: str, names: Sequence[str], **settings: Any) -> tuple[Figure, Axes]:
    """Return a panel with one row per class, the last on top."""
    figure, axes = new_panel(title, height=1.3 + ROW_HEIGHT * len(names), **settings)
    axes.set_yticks(range(len(names)), [shorten(name) for name in names], fontsize=8)
    axes.set_ylim(-0.8, len(names) - 0.2)
    return figure, axes
