"""Tables of test metrics: with intervals, pairwise differences, by class, and calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlic.evaluation.bootstrap import FREQUENT, FREQUENT_MAP, MEAN_OF_FOLDS, Difference, Interval
from mlic.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from mlic.evaluation.metrics import evaluate_scores
from mlic.report.comparison import (
    CALIBRATED,
    HALF,
    METRICS,
    Comparison,
    is_beyond_chance,
    predictions_of,
)
from mlic.report.reading import ReportedRun
from mlic.report.reference import NOTE, TEST_NOTE, ReferenceRun
from mlic.report.run_tables import RUN
from mlic.report.tables import AHEAD, BEST, Column, Table

# header and meaning
SCORES = {
    "map": ("mAP", "mean over classes of the average precision"),
    MEAN_OF_FOLDS: ("mAP, mean of folds", "mean over the folds of the mAP within each"),
    FREQUENT_MAP: (f"mAP, {FREQUENT}+ images", f"mAP over the classes with at least {FREQUENT} test images"),
    "auc_macro": ("AUC", "area under the ROC curve of the scores, mean over classes"),
    "precision_micro": ("precision", "of the labels that it gives, the share that is right (micro)"),
    "recall_micro": ("recall", "of the true labels, the share that it finds (micro)"),
    "cf1": ("CF1", "harmonic mean of macro precision and macro recall"),
    "of1": ("OF1", "micro F1: harmonic mean of precision and recall"),
    "auc_thresholded": (
        "AUC of decisions",
        "mean of (TPR + TNR) / 2 over classes, the area of the 0/1 decisions",
    ),
}
HEADERS = {name: header for name, (header, _) in SCORES.items()}
THRESHOLD_FREE = ("map", MEAN_OF_FOLDS, FREQUENT_MAP, "auc_macro")
OVERVIEW = ("map", FREQUENT_MAP, "auc_macro", "precision_micro", "recall_micro", "of1")
OVERVIEW_RUNS = 8
CHANCE = "chance"
TEST_SET = Column("test images")

SECOND_TRAINING = "Intervals cover the choice of the test images, not a second training with another seed."
FOLD_NOTES = (
    "Cross-validation: each image was scored once, by the run of a fold that was trained without it.",
    "Its mAP and AUC rank the images of all folds together; different scales of the scores of the folds lower both.",
    "The mean of folds ranks within each fold, where a class has fewer images, which raises its average precision.",
    "Its decisions are counted over all images, at the thresholds of the fold of each.",
)


def result_table(comparison: Comparison, references: Sequence[ReferenceRun] = ()) -> Table:
    """Build Table 3, test metrics at 0.5 and at calibrated thresholds, with intervals and marks of the best.

    The last rows are what scores without information reach, and the original report.
    """
    chosen = [(threshold, metric) for threshold, metrics in METRICS.items() for metric in metrics]
    if not any(run.num_folds for run in comparison.runs.values()):
        chosen.remove((HALF, MEAN_OF_FOLDS))
    names = [name for group in comparison.groups for name in comparison.ranking(group)]
    table = _score_table("test", "Table 3. Test", comparison, chosen, names, references)
    level = f"{comparison.level:.0%}"
    table.notes = [
        f"Small numbers: {level} interval, bootstrap over the test images. {SECOND_TRAINING}",
        "A label is predicted if its score is above the threshold: 0.5, or one calibrated threshold per class.",
        "Calibrated thresholds are tuned for the F1 of each class: they raise CF1, but may lower OF1.",
        "They are tuned on val or, without it, on leave-one-out scores.",
        "Bold: best of its column among runs with the same test images.",
        f"Star: significantly better than the next (paired, Holm-corrected, p < {1 - comparison.level:.2g}).",
        "Chance: scores without information. Their average precision is the share of positives.",
        *(FOLD_NOTES if (HALF, MEAN_OF_FOLDS) in chosen else ()),
    ]
    if len(comparison.groups) > 1:
        table.notes.append(
            "Runs were tested on different images or folds: compare only within a set of test images."
        )
    table.notes += [NOTE, TEST_NOTE] if references else []
    return table


def overview_table(comparison: Comparison, setups: Mapping[str, str]) -> Table:
    """Build the small table of the first screen, the best run first, for the largest set of comparable runs.

    All sets are shown if none has several runs.

    Args:
        comparison: comparison of all runs.
        setups: short descriptions of what differs, by run.
    """
    groups = (
        comparison.groups[:1] if comparison.groups and len(comparison.groups[0]) > 1 else comparison.groups
    )
    names = [name for group in groups for name in comparison.ranking(group)]
    shown = names[:OVERVIEW_RUNS]
    chosen = [(HALF, metric) for metric in OVERVIEW]
    table = _score_table("overview", "Results", comparison, chosen, shown)
    if any(setups.values()):
        table.columns = {**table.columns, "setup": Column("what differs")}
        table.frame["setup"] = [setups.get(name) for name in table.frame["run"]]
    if len(groups) < len(comparison.groups):
        table.columns = {name: column for name, column in table.columns.items() if name != "test_set"}
    table.notes = [f"The best {OVERVIEW_RUNS} of {len(names)} runs; all are in Table 3."] * (
        len(names) > len(shown)
    )
    return table


def _score_table(
    key: str,
    title: str,
    comparison: Comparison,
    chosen: Sequence[tuple[str, str]],
    names: Sequence[str],
    references: Sequence[ReferenceRun] = (),
) -> Table:
    many = len(comparison.groups) > 1
    columns = {"run": RUN, **({"test_set": TEST_SET} if many else {})}
    sets = {name: number for number, group in enumerate(comparison.groups, start=1) for name in group}
    rows: list[dict[str, Any]] = [{"run": name, "test_set": f"set {sets[name]}"} for name in names]
    marks: dict[tuple[int, str], str] = {}
    for threshold, metric in chosen:
        free = metric in THRESHOLD_FREE
        group = "of the scores" if free else f"at {threshold}" if threshold == HALF else threshold
        column = metric if threshold == HALF else f"{metric}_{threshold}"
        columns[column] = Column(HEADERS[metric], "score", SCORES[metric][1], "high", group)
        best = comparison.best(threshold, metric)
        for place, name in enumerate(names):
            rows[place] |= interval_cells(column, comparison.interval(name, threshold, metric))
            if name in best:
                marks[place, column] = AHEAD if best[name] else BEST
    groups = [
        (number, group) for number, group in enumerate(comparison.groups, start=1) if {*group} & {*names}
    ]
    floors = [
        {"run": CHANCE, "test_set": f"set {number}", **_chance(comparison, group)} for number, group in groups
    ]
    others = [
        {
            "run": item.name,
            "test_set": "other data",
            "precision_micro": item.test_precision,
            "recall_micro": item.test_recall,
            "auc_thresholded": item.test_auc,
        }
        for item in references
    ]
    faint = range(len(rows), len(rows) + len(floors) + len(others))
    return Table(key, title, columns, pd.DataFrame([*rows, *floors, *others]), faint=faint, marks=marks)


def interval_cells(name: str, interval: Interval | None) -> dict[str, float]:
    """Return the cells of a value and its interval; {} without one."""
    if interval is None:
        return {}
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _chance(comparison: Comparison, group: Sequence[str]) -> dict[str, float]:
    """Return what scores without information reach: the mean share of positives, and an area of one half."""
    test = predictions_of(comparison.runs[group[0]])
    counts = test.positives.sum(axis=0)
    shares = counts / np.maximum(test.known.sum(axis=0), 1)
    floors = {"map": counts > 0, FREQUENT_MAP: counts >= FREQUENT}
    means = {name: float(shares[chosen].mean()) for name, chosen in floors.items() if chosen.any()}
    return {**means, "auc_macro": 0.5, "auc_thresholded": 0.5} if means else {}


def pair_table(comparison: Comparison) -> Table:
    """Build the table of paired differences between runs with the same test images; other pairs with the reason."""
    columns = {
        "metric": Column("metric"),
        "first": Column("run A"),
        "second": Column("run B"),
        "difference": Column("A minus B", "difference"),
        "p_value": Column("p", "probability", "p-value of no difference"),
        "p_holm": Column("p corrected", "probability", "Holm-corrected for all pairs"),
        "verdict": Column("verdict"),
    }
    rows: list[dict[str, Any]] = [
        {
            "metric": metric_label(item.metric, threshold),
            "first": item.first,
            "second": item.second,
            **interval_cells("difference", Interval(item.estimate, item.low, item.high)),
            "p_value": item.p_value,
            "p_holm": item.p_holm,
            "verdict": _verdict(item, comparison.level),
        }
        for threshold, differences in comparison.differences.items()
        for item in differences
    ]
    rows += [
        {"metric": "all", "first": first, "second": second, "verdict": f"not compared: {reason}"}
        for first, second, reason in comparison.refusals
    ]
    note = f"Differences of test metrics on the same images and resamples, with {comparison.level:.0%} intervals."
    frame = pd.DataFrame(rows)
    return Table("pairs", "Differences between runs", columns, frame, [note], filter_column="metric")


def metric_label(metric: str, threshold: str) -> str:
    """Return a label such as "CF1, calibrated"."""
    return HEADERS[metric] if metric in THRESHOLD_FREE else f"{HEADERS[metric]}, {threshold}"


def _verdict(item: Difference, level: float) -> str:
    if np.isnan(item.estimate):
        return "undefined"
    if is_beyond_chance(item, level):
        return f"{item.first if item.estimate > 0 else item.second} is better"
    return "tie"


def calibration_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of calibration errors on test, before and after temperature scaling on held-back scores."""
    columns = {
        "run": RUN,
        "ece": Column("calibration error", "score", "expected calibration error, 15 bins", "low"),
        "temperature": Column("temperature", "number", "above 1: overconfident scores"),
        "ece_temperature": Column("error with temperature", "score", better="low"),
        "thresholds": Column("calibrated thresholds"),
    }
    rows = [{"run": run.name, **_calibration(run)} for run in runs if run.test is not None]
    note = "Expected calibration error on test: mean distance between scores and the share of positives."
    return Table("calibration", "Calibration", columns, pd.DataFrame(rows), [note]).mark_best()


def _calibration(run: ReportedRun) -> dict[str, Any]:
    test = predictions_of(run)
    found: dict[str, Any] = {"thresholds": run.thresholds_from or None}
    if ((test.scores >= 0) & (test.scores <= 1)).all():
        found["ece"] = expected_calibration_error(test.scores, test.targets)
        held_back = run.held_back
        if held_back is not None and len(held_back):
            temperature = fit_temperature(held_back.scores, held_back.targets)
            after = expected_calibration_error(apply_temperature(test.scores, temperature), test.targets)
            found |= {"temperature": temperature, "ece_temperature": after}
    return found


def class_metrics(runs: Sequence[ReportedRun]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `per_class` of `evaluate_scores` on test by run and threshold (HALF, CALIBRATED)."""
    return {
        run.name: {
            key: evaluate_scores(run.test.scores, run.test.targets, run.classes, values)["per_class"]
            for key, values in ((HALF, 0.5), (CALIBRATED, run.thresholds))
            if values is not None
        }
        for run in runs
        if run.test is not None
    }


def class_table(comparison: Comparison, metrics: dict[str, dict[str, dict[str, Any]]]) -> Table:
    """Build the table of the average precision of each class in each run, with intervals and numbers of images."""
    tested = comparison.runs
    columns = {
        "class": Column("class"),
        "train_images": Column("train images", "integer", "maximum over runs"),
        "test_images": Column("test images", "integer", "maximum over runs"),
        "test_known": Column("of known", "integer", "test images whose label is known"),
    }
    if not any("known" in item for name in tested for item in metrics[name][HALF].values()):
        del columns["test_known"]
    rows = []
    for name in sorted({name for run in tested.values() for name in run.classes}):
        found = [metrics[run][HALF].get(name, {}) for run in tested]
        counts = {
            "train_images": [
                run.dataset.get("counts", {}).get("train", {}).get(name) for run in tested.values()
            ],
            "test_images": [item.get("support") for item in found],
            "test_known": [item.get("known") for item in found],
        }
        row: dict[str, Any] = {"class": name}
        row |= {key: max((n for n in own if n is not None), default=None) for key, own in counts.items()}
        for run in tested.values():
            if name in run.classes:
                bootstrap = comparison.bootstraps[HALF][run.name]
                row |= interval_cells(f"{run.name}:ap", bootstrap.class_interval(run.classes.index(name)))
        rows.append(row)
    columns |= {f"{name}:ap": Column(name, "score", "", "high", "average precision") for name in tested}
    faint = [place for place, row in enumerate(rows) if (row["test_images"] or 0) < FREQUENT]
    notes = [
        f"Small numbers: {comparison.level:.0%} interval over the choice of the test images. Bold: best of each class.",
        f"Grey: fewer than {FREQUENT} test images. Without any, a class has no average precision.",
    ]
    table = Table("classes", "Average precision of each class", columns, pd.DataFrame(rows), notes, faint)
    for place, row in enumerate(
        rows
    ):  # the best of each row, where other tables have the best of each column
        known = {key: row[key] for key in columns if key.endswith(":ap") and key in row}
        if place not in faint and len(set(known.values())) > 1:
            best = max(known.values())
            table.marks |= {(place, key): BEST for key, value in known.items() if value == best}
    return table
