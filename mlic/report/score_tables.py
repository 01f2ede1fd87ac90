"""Tables of test metrics: with intervals, pairwise differences, by class, calibration, and where a run fails."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mlic.evaluation.bootstrap import FREQUENT, FREQUENT_MAP, MEAN_OF_FOLDS, Interval
from mlic.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from mlic.evaluation.errors import confusions
from mlic.evaluation.metrics import evaluate_scores
from mlic.report.comparison import CALIBRATED, HALF, METRICS, Comparison, predict_rule, predictions_of, winner
from mlic.report.reading import ReportedRun
from mlic.report.reference import NOTE
from mlic.report.run_tables import References
from mlic.report.tables import AHEAD, BEST, RUN, SCORES, Column, Table, interval_cells

THRESHOLD_FREE = ("map", MEAN_OF_FOLDS, FREQUENT_MAP, "auc_macro")
OVERVIEW = ("map", FREQUENT_MAP, "auc_macro", "precision_micro", "recall_micro", "of1")
OVERVIEW_RUNS = 8
CHANCE = "chance"
WEAKEST, CONFUSED = 5, 2  # classes of the first screen, and what they are confused with

SECOND_TRAINING = "Intervals cover the choice of the test images, not a second training with another seed."
FOLD_NOTE = (
    "Cross-validation: each image was scored by the run of a fold that was trained without it. mAP ranks the images of "
    "all folds together, although the scales of their scores may differ; the mean of folds ranks within each, where a "
    "class has fewer images, which raises it. Decisions are counted at the thresholds of the fold of each image."
)


def result_table(comparison: Comparison, references: References = ()) -> Table:
    """Build Table 3, test metrics at 0.5 and at calibrated thresholds, with intervals and marks of the best.

    The last rows are what scores without information reach, and the original report.
    """
    columns = {"run": RUN} | ({"test_set": Column("test images")} if len(comparison.groups) > 1 else {})
    rows: list[dict[str, Any]] = [
        {"run": name, "test_set": f"set {number}"}
        for number, group in enumerate(comparison.groups, start=1)
        for name in comparison.ranking(group)
    ]
    marks: dict[tuple[int, str], str] = {}
    for threshold, metric in [(threshold, metric) for threshold, own in METRICS.items() for metric in own]:
        free = metric in THRESHOLD_FREE
        group = "of the scores" if free else f"at {threshold}" if threshold == HALF else threshold
        column = metric if threshold == HALF else f"{metric}_{threshold}"
        columns[column] = SCORES[metric]._replace(group=group)
        best = comparison.best(threshold, metric)
        for place, row in enumerate(rows):
            row |= interval_cells(column, comparison.interval(row["run"], threshold, metric))
            if row["run"] in best:
                marks[place, column] = AHEAD if best[row["run"]] else BEST
    floors = [
        {"run": CHANCE, "test_set": f"set {number}", **_chance(comparison, group)}
        for number, group in enumerate(comparison.groups, start=1)
    ]
    notes = [
        f"Small numbers: {comparison.level:.0%} interval, bootstrap over the test images. {SECOND_TRAINING}",
        "Calibrated: at one threshold per class, tuned for F1 on val or leave-one-out scores.",
        "Bold: best of its column among runs with the same test images.",
        f"Star: significantly better than the next (paired, Holm-corrected, p < {1 - comparison.level:.2g}).",
        "Chance: scores without information. Their average precision is the share of positives.",
    ]
    notes += [FOLD_NOTE] if any(run.num_folds for run in comparison.runs.values()) else []
    notes += [NOTE] if references else []
    others = [{"test_set": "other data", **row} for row in references]
    frame = pd.DataFrame([*rows, *floors, *others])
    return Table("test", "Table 3. Test", columns, frame, notes, range(len(rows), len(frame)), marks)


def overview_table(comparison: Comparison, setups: Mapping[str, str]) -> Table:
    """Build the small table of the first screen, the best run first, for the largest set of comparable runs.

    All sets are shown if none has several runs.

    Args:
        comparison: comparison of all runs.
        setups: short descriptions of what differs, by run.
    """
    result, groups = result_table(comparison), comparison.groups
    shown = groups[:1] if groups and len(groups[0]) > 1 else groups
    runs = min(sum(map(len, shown)), OVERVIEW_RUNS)  # the first rows
    rows = [*range(runs), *list(result.faint)[: len(shown)]]
    frame = result.frame.iloc[rows]
    frame = frame.assign(setup=[setups.get(name) for name in frame["run"]])
    chosen = ("run", *(["test_set"] if len(shown) > 1 else []), *OVERVIEW)
    columns = {name: column for name, column in result.columns.items() if name in chosen}
    columns["setup"] = Column("what differs")
    marks = {place: mark for place, mark in result.marks.items() if place[0] < runs}
    cut = sum(map(len, shown)) > runs
    level = f"{comparison.level:.0%}"
    notes = [
        f"Decisions at threshold 0.5. Bold: best. Star: ahead of the next beyond chance. Small: {level} interval."
    ]
    notes += [f"The best {runs} runs; all are in Table 3."] if cut else []
    return Table("overview", "Results", columns, frame, notes, range(runs, len(rows)), marks)


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
    rows: list[dict[str, Any]] = []
    for threshold, differences in comparison.differences.items():
        for item in differences:
            rule = "" if item.metric in THRESHOLD_FREE else f", {threshold}"
            cells = interval_cells("difference", Interval(item.estimate, item.low, item.high))
            better = winner(item, comparison.level)
            verdict = f"{better} is better" if better else "tie"
            rows.append(
                {**asdict(item), **cells, "metric": SCORES[item.metric].header + rule, "verdict": verdict}
            )
    rows += [
        {"metric": "all", "first": first, "second": second, "verdict": f"not compared: {reason}"}
        for first, second, reason in comparison.refusals
    ]
    note = f"Differences of test metrics on the same images and resamples, with {comparison.level:.0%} intervals."
    frame = pd.DataFrame(rows)
    return Table("pairs", "Differences between runs", columns, frame, [note], filter_column="metric")


def calibration_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of calibration errors on test, before and after temperature scaling on held-back scores."""
    columns = {
        "run": RUN,
        "ece": Column("calibration error", "score", "expected calibration error, 15 bins"),
        "temperature": Column("temperature", "number", "above 1: overconfident scores"),
        "ece_temperature": Column("error with temperature", "score"),
    }
    rows = [{"run": run.name, **_calibration(run)} for run in runs]
    note = "Expected calibration error on test: mean distance between scores and the share of positives."
    return Table("calibration", "Calibration", columns, pd.DataFrame(rows), [note])


def _calibration(run: ReportedRun) -> dict[str, float]:
    test, held_back = predictions_of(run), run.held_back
    found = {"ece": expected_calibration_error(test.scores, test.targets)}
    if held_back is not None and len(held_back):
        found["temperature"] = fit_temperature(held_back.scores, held_back.targets)
        scaled = apply_temperature(test.scores, found["temperature"])
        found["ece_temperature"] = expected_calibration_error(scaled, test.targets)
    return found


def class_metrics(runs: Sequence[ReportedRun]) -> pd.DataFrame:
    """Tabulate the test metrics of each class.

    Args:
        runs: runs with test predictions.

    Returns:
        Columns run, threshold (HALF, CALIBRATED), class, train_images, and those of `per_class` of `evaluate_scores`.
    """
    rows = [
        {
            "run": run.name,
            "threshold": threshold,
            "class": name,
            "train_images": run.dataset.get("counts", {}).get("train", {}).get(name),
            **row,
        }
        for run in runs
        for threshold, limits in ((HALF, 0.5), (CALIBRATED, run.thresholds))
        if limits is not None
        for name, row in _evaluate(run, limits).items()
    ]
    names = ["run", "threshold", "class", "train_images", "ap", "auc", "precision", "recall", "f1", "support"]
    return pd.DataFrame(rows, columns=[*names, "known"]).astype(dict.fromkeys([*names[3:], "known"], float))


def _evaluate(run: ReportedRun, limits: float | np.ndarray) -> dict[str, dict[str, Any]]:
    test = predictions_of(run)
    return evaluate_scores(test.scores, test.targets, test.classes, limits)["per_class"]


def class_table(comparison: Comparison, metrics: pd.DataFrame) -> Table:
    """Build the table of the average precision of each class in each run, with intervals and numbers of images.

    Args:
        comparison: comparison of the runs.
        metrics: result of `class_metrics`.
    """
    columns = {
        "class": Column("class"),
        "train_images": Column("train images", "integer", "maximum over runs"),
        "test_images": Column("test images", "integer", "maximum over runs"),
        "test_known": Column("of known", "integer", "test images whose label is known"),
        **{
            f"{name}:ap": SCORES["map"]._replace(header=name, meaning="average precision")
            for name in comparison.runs
        },
    }
    rows = []
    for name, own in metrics.groupby("class"):
        counts = own[["train_images", "support", "known"]].max().tolist()
        row = dict(zip(columns, (name, *counts), strict=False))
        for run in comparison.runs.values():
            if name in run.classes:
                interval = comparison.bootstraps[HALF][run.name].class_interval(run.classes.index(str(name)))
                row |= interval_cells(f"{run.name}:ap", interval)
        rows.append(row)
    notes = [
        f"Small numbers: {comparison.level:.0%} interval over the choice of the test images. Bold: best of each class.",
        f"Grey: fewer than {FREQUENT} test images. Without any, a class has no average precision.",
    ]
    faint = [place for place, row in enumerate(rows) if row["test_images"] < FREQUENT]
    table = Table("classes", "Average precision of each class", columns, pd.DataFrame(rows), notes, faint)
    if rows:  # the best of each row, where other tables have the best of each column
        names = [f"{name}:ap" for name in comparison.runs]
        values = table.frame[names].to_numpy(np.float64)
        lowest, highest = (
            reduce(values, axis=1, keepdims=True) for reduce in (np.fmin.reduce, np.fmax.reduce)
        )
        best = np.argwhere((values == highest) & (lowest < highest)).tolist()
        table.marks = {(row, names[column]): BEST for row, column in best if row not in faint}
    return table


def weakest_classes(comparison: Comparison, name: str) -> Table:
    """Build the table of the classes with the lowest average precision that have enough test images.

    What they are confused with is counted at the thresholds of `mlic.predict`.
    """
    run = comparison.runs[name]
    test, bootstrap = predictions_of(run), comparison.bootstraps[HALF][name]
    columns = {
        "class": Column("class"),
        "test_images": Column("test images", "integer"),
        "ap": Column("average precision", "score"),
        "confused_with": Column(
            "predicted in its place", meaning="number of images on which the class is missed"
        ),
    }
    confused = confusions(test, predict_rule(run), top=CONFUSED)
    words = confused["confused_with"] + " (" + confused["images"].astype(str) + ")"
    counts = test.positives.sum(axis=0)
    rows = [
        {
            "class": run.classes[place],
            "test_images": int(counts[place]),
            **interval_cells("ap", bootstrap.class_interval(place)),
            "confused_with": ", ".join(words[confused["class"] == run.classes[place]]) or "nothing",
        }
        for place in np.flatnonzero(counts >= FREQUENT).tolist()
    ]
    rows.sort(key=lambda row: row["ap"])
    return Table(
        "weakest",
        f"Where {name} fails: its weakest classes of at least {FREQUENT} test images",
        columns,
        pd.DataFrame(rows[:WEAKEST]),
    )
