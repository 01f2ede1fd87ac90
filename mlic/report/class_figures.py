"""Figures of classes: frequency, average precision, and labels that occur together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlic.evaluation.bootstrap import FREQUENT
from mlic.figures import FAINT, PANEL_WIDTH, RUN_COLOURS, new_figure, plain_log_axis, shorten
from mlic.report.run_figures import Styles, add_legend, new_panel
from mlic.svg import mark

ROW_HEIGHT = 0.175  # inches per class
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
    found = pd.DataFrame({part: counts[part] for part in parts}).fillna(0)
    # of the images whose label is known, which are all unless the record says otherwise
    known = pd.DataFrame({part: dataset.get("known", {}).get(part, {}) for part in parts}, found.index)
    shares = 100 * found / known.fillna(images).clip(lower=1)
    shares = shares.loc[found.sum(axis=1).sort_values(kind="stable").index].replace(0, np.nan)
    figure, axes = _class_panel("Labels: share of images", list(shares.index), xlabel="% of the images")
    labels = [f"{part} ({images[part]:,})" for part in parts]
    for part, label in zip(parts, labels, strict=True):
        colour, marker = PART_STYLES[part]
        (dots,) = axes.plot(shares[part], range(len(shares)), marker, color=colour, ms=4.5, alpha=0.85)
        mark(dots, label)
    plain_log_axis(axes)
    figure.legend(axes.lines, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def average_precision_figure(metrics: pd.DataFrame, styles: Styles) -> Figure | None:
    """Draw the average precision of each class in all runs; classes are sorted by their mean, the best on top.

    Classes with few test images are below the others, and pale.

    Args:
        metrics: rows of `class_metrics` at one threshold.
        styles: styles by run.
    """
    defined = metrics.dropna(subset="ap")
    if defined.empty:
        return None
    by_class = defined.groupby("class").agg(ap=("ap", "mean"), support=("support", "max"))
    by_class["enough"] = by_class["support"] >= FREQUENT
    by_class = by_class.sort_values(["enough", "ap"])
    labels = [
        str(name) if row.enough else f"{shorten(str(name), 18)} ({row.support:.0f})"
        for name, row in by_class.iterrows()
    ]
    table = defined.pivot(index="class", columns="run", values="ap").loc[by_class.index]
    figure, axes = _class_panel(
        "Average precision by class", labels, xlabel="average precision on test", xlim=(-0.02, 1.02)
    )
    axes.hlines(range(len(table)), table.min(axis=1), table.max(axis=1), color=FAINT, lw=0.9, zorder=1)
    enough = by_class["enough"].to_numpy()
    for label in np.array(axes.get_yticklabels())[~enough]:
        label.set_color(FAINT)
    for run in [run for run in styles if run in table]:
        for rows, alpha in ((~enough, 0.3), (enough, 0.9)):
            values = table[run].where(rows)
            if values.notna().any():
                (dots,) = axes.plot(
                    values,
                    range(len(table)),
                    styles[run].marker,
                    color=styles[run].colour,
                    ms=4.5,
                    alpha=alpha,
                )
                mark(dots, run)
    add_legend(figure, styles, [run for run in styles if run in table], marks=True)
    return figure


def frequency_figure(metrics: pd.DataFrame, styles: Styles) -> Figure | None:
    """Draw average precision of each class against its number of training images (logarithmic).

    Args:
        metrics: rows of `class_metrics` at one threshold.
        styles: styles by run.
    """
    known = metrics.dropna(subset="ap").query("train_images > 0")
    if known.empty:
        return None
    figure, axes = new_panel(
        "Average precision by training images",
        xlabel="training images of the class", ylabel="average precision on test", ylim=(-0.02, 1.02),
    )  # fmt: skip
    for run in known["run"].unique():
        for condition, alpha in ((f"support < {FREQUENT}", 0.25), (f"support >= {FREQUENT}", 0.7)):
            rows, style = known.query(f"run == @run and {condition}"), styles[run]
            (dots,) = axes.plot(
                rows["train_images"], rows["ap"], style.marker, color=style.colour, ms=4, alpha=alpha, mew=0
            )
            mark(dots, run, points=rows["class"])
    plain_log_axis(axes)
    add_legend(figure, styles, list(known["run"].unique()), marks=True)
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
