"""The figures of a report, drawn, written and sorted into the sections of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlic.errors import InputError
from mlic.figures import EmbeddedFigure, FigureFiles
from mlic.report.answers import answer_figure
from mlic.report.class_figures import (
    average_precision_figure,
    average_precisions,
    co_occurrence_figure,
    few_images,
    frequency_figure,
    label_figure,
    reliability_figure,
)
from mlic.report.comparison import HALF, Comparison
from mlic.report.reading import ReportedRun
from mlic.report.run_figures import (
    CURVE_NAMES,
    TRAINED,
    Styles,
    curve_figure,
    interval_figure,
    penalty_figure,
    training_figure,
)
from mlic.report.run_tables import loss_names

Panels = list[EmbeddedFigure]


def choose_classes(
    wanted: Sequence[str], metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[str]:
    """Return the classes with separate curves: `wanted`, else those with the highest, median and lowest mean AP.

    Classes with fewer than 10 test images are chosen only if there are no others.

    Raises:
        InputError: no run has one of the classes.
    """
    known = sorted({name for classes in metrics.values() for name in classes})
    unknown = [name for name in wanted if name not in known]
    if unknown and known:
        raise InputError(f"classes: no run has {', '.join(unknown)}. Available classes: {', '.join(known)}.")
    if wanted:
        return list(wanted)
    means = {name: float(np.mean(list(row.values()))) for name, row in average_precisions(metrics).items()}
    means = {name: value for name, value in means.items() if name not in few_images(metrics)} or means
    ordered = sorted(means, key=lambda name: (-means[name], name))
    return list(dict.fromkeys(ordered[place] for place in (0, len(ordered) // 2, -1))) if ordered else []


def draw_sections(
    files: FigureFiles,
    runs: Sequence[ReportedRun],
    comparison: Comparison,
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    styles: Styles,
    classes: Sequence[str],
) -> dict[str, Panels]:
    """Draw and write the figures of all runs.

    Args:
        files: writer of the figures.
        runs: runs to draw.
        comparison: comparison with the intervals.
        metrics: result of `class_metrics`.
        styles: styles by run.
        classes: classes with separate curves.

    Returns:
        Embedded figures by section: training, test, classes, data.
    """
    at_half = {run.name: metrics[run.name][HALF] for run in runs if run.name in metrics}
    training: Panels = []
    # values of different loss functions cannot be compared, and are never in one panel
    losses = loss_names([run for run in runs if run.epochs is not None])
    for metric, title in TRAINED.items():
        names = list(dict.fromkeys(losses.values())) if metric == "loss" else [""]
        for number, name in enumerate(names, start=1):
            chosen = [run for run in runs if losses.get(run.name) == name] if name else runs
            key = f"training_{metric}" + (f"_{number}" if number > 1 else "")
            caption = f"{title}{f', {name},' * (len(names) > 1)} over the epochs"
            training += files.save(key, caption, training_figure(chosen, styles, [metric]))
    training += files.save("penalties", "Leave-one-out over the penalties", penalty_figure(runs, styles))
    intervals = interval_figure(comparison, styles) if at_half else None
    test = files.save("test_map", "Test mAP with its interval", intervals)
    for kind, name in CURVE_NAMES.items():
        for average in ("micro", "macro"):
            figure = curve_figure(runs, styles, kind, average)
            test += files.save(f"{kind}_{average}", f"{name} curve, {average}", figure)
    test += files.save("reliability", "Reliability of the scores", reliability_figure(runs, styles))
    test += files.save("answers", "Precision against the labels answered", answer_figure(runs, styles))
    by_class = files.save(
        "average_precision", "Average precision by class", average_precision_figure(at_half, styles)
    )
    by_class += files.save(
        "average_precision_by_training_images",
        "Average precision by training images",
        frequency_figure(runs, at_half, styles),
    )
    for number, class_name in enumerate(classes, start=1):
        for kind, name in CURVE_NAMES.items():
            figure = curve_figure(runs, styles, kind, "class", class_name)
            by_class += files.save(f"{kind}_class_{number}", f"{name} curve of {class_name}", figure)
    return {"training": training, "test": test, "classes": by_class, "data": _draw_data(files, runs)}


def _draw_data(files: FigureFiles, runs: Sequence[ReportedRun]) -> Panels:
    """Draw labels and pairs of labels once for each data set of the runs."""
    panels: Panels = []
    seen: dict[str, str] = {}
    for run in runs:
        identity = str(run.dataset.get("split", {}).get("hash", run.path))
        if identity in seen:
            continue
        seen[identity] = run.name
        ending = "" if len(seen) == 1 else f"_{len(seen)}"
        panels += files.save(f"labels{ending}", f"Labels of {run.name}", label_figure(run.dataset))
        parts = [part for part in (run.val, run.test) if part is not None and part.classes == run.classes]
        if parts:
            targets = np.concatenate([part.targets for part in parts])
            figure = co_occurrence_figure(targets, run.classes)
            panels += files.save(f"co_occurrence{ending}", "Labels that occur together", figure)
    return panels


def draw_run(files: FigureFiles, run: ReportedRun, number: int, styles: Styles) -> Panels:
    """Draw the training curves of one run."""
    return files.save(
        f"training_run_{number}", f"Training of {run.name}", training_figure([run], styles, list(TRAINED))
    )
