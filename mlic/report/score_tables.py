"""Tables of test metrics: with intervals, pairwise differences, by class, and calibration."""

from collections.abc import Sequence
from typing import Any

from mlic.evaluation.bootstrap import MEAN_OF_FOLDS, Difference
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
from mlic.report.reference import NOTE, SOURCE, TEST_NOTE, ReferenceRun
from mlic.report.run_tables import RUN
from mlic.report.tables import AHEAD, BEST, Cell, Column, Row, Table, mark_best

HEADERS = {
    "map": "mAP",
    MEAN_OF_FOLDS: "mAP, mean of folds",
    "auc_macro": "AUC",
    "precision_micro": "precision",
    "recall_micro": "recall",
    "cf1": "CF1",
    "of1": "OF1",
    "auc_thresholded": "AUC of decisions",
}
MEANINGS = {
    "map": "mean over classes of the average precision",
    MEAN_OF_FOLDS: "mean over the folds of the mAP within each",
    "auc_macro": "area under the ROC curve of the scores, mean over classes",
    "precision_micro": "micro: over all labels pooled",
    "recall_micro": "micro: over all labels pooled",
    "cf1": "harmonic mean of macro precision and macro recall",
    "of1": "micro F1",
    "auc_thresholded": "area of the 0/1 decisions, mean of (TPR + TNR) / 2 over classes",
}
THRESHOLD_FREE = ("map", MEAN_OF_FOLDS, "auc_macro")


FOLD_NOTES = (
    "Cross-validation: each image was scored once, by the run of a fold that was trained without it.",
    "Its mAP and AUC rank the images of all folds together; different scales of the scores of the folds lower both.",
    "The mean of folds ranks within each fold, where a class has fewer images, which raises its average precision.",
    "Its decisions are counted over all images, at the thresholds of the fold of each.",
)


def _columns(comparison: Comparison) -> list[tuple[str, str, Column]]:
    """Return (threshold, metric, column) of Table 3."""
    columns = []
    with_folds = any(run.num_folds for run in comparison.runs.values())
    for threshold, metrics in METRICS.items():
        for metric in metrics:
            if metric == MEAN_OF_FOLDS and not with_folds:
                continue
            free = metric in THRESHOLD_FREE
            group = "of the scores" if free else f"at {threshold}" if threshold == HALF else threshold
            key = metric if threshold == HALF else f"{metric}_{threshold}"
            shown = Column(key, HEADERS[metric], "score", group, True, "high", MEANINGS[metric])
            columns.append((threshold, metric, shown))
    return columns


def result_table(comparison: Comparison, references: Sequence[ReferenceRun] = ()) -> Table:
    """Build Table 3, test metrics at 0.5 and at calibrated thresholds, with intervals and marks of the best."""
    columns = _columns(comparison)
    best = {column.key: comparison.best(threshold, metric) for threshold, metric, column in columns}
    many = len(comparison.groups) > 1
    rows = []
    for number, group in enumerate(comparison.groups, start=1):
        for name in group:
            cells = [_cell(comparison, name, *entry, best[entry[2].key]) for entry in columns]
            rows.append(Row([Cell(name), *([Cell(f"set {number}")] if many else []), *cells]))
    rows += [_reference_row(item, columns, many) for item in references]
    sets = [Column("test_set", "test images")] if many else []
    table_columns = [RUN, *sets, *(column for *_, column in columns)]
    return Table("test", "Table 3. Test", table_columns, rows, _test_notes(comparison, bool(references)))


def _cell(
    comparison: Comparison, name: str, threshold: str, metric: str, column: Column, best: dict[str, bool]
) -> Cell:
    interval = comparison.interval(name, threshold, metric)
    if interval is None:
        return Cell()
    mark = "" if name not in best else AHEAD if best[name] else BEST
    return Cell(interval.estimate, interval.low, interval.high, mark)


def _reference_row(item: ReferenceRun, columns: Sequence[tuple[str, str, Column]], many: bool) -> Row:
    known = {
        "precision_micro": item.test_precision,
        "recall_micro": item.test_recall,
        "auc_thresholded": item.test_auc,
    }
    cells = [Cell(known.get(column.key)) for *_, column in columns]
    return Row([Cell(f"{item.network} ({SOURCE})"), *([Cell("other data")] if many else []), *cells], True)


def _test_notes(comparison: Comparison, with_reference: bool) -> list[str]:
    level = f"{comparison.level:.0%}"
    notes = [
        f"Small numbers: {level} interval, bootstrap over the test images.",
        "A label is predicted if its score is above the threshold: 0.5, or one calibrated threshold per class.",
        "Calibrated thresholds are tuned for the F1 of each class: they raise CF1, but may lower OF1.",
        "They are tuned on val or, without it, on leave-one-out scores.",
        "Bold: best of its column among runs with the same test images.",
        f"Star: significantly better than the next (paired, Holm-corrected, p < {1 - comparison.level:.2g}).",
    ]
    if any(run.num_folds for run in comparison.runs.values()):
        notes += FOLD_NOTES
    if len(comparison.groups) > 1:
        notes.append(
            "Runs were tested on different images or folds: compare only within a set of test images."
        )
    return notes + ([NOTE, TEST_NOTE] if with_reference else [])


def pair_table(comparison: Comparison) -> Table:
    """Build the table of paired differences between runs with the same test images; other pairs with the reason."""
    columns = (
        Column("metric", "metric"),
        Column("first", "run A"),
        Column("second", "run B"),
        Column("difference", "A minus B", "difference", interval=True),
        Column("p_value", "p", "probability", meaning="p-value of no difference"),
        Column("p_holm", "p corrected", "probability", meaning="Holm-corrected for all pairs"),
        Column("verdict", "verdict"),
    )
    rows = []
    for threshold, differences in comparison.differences.items():
        rows += [Row(_pair_cells(comparison, threshold, item)) for item in differences]
    for first, second, reason in comparison.refusals:
        cells = [
            Cell("all"),
            Cell(first),
            Cell(second),
            Cell(),
            Cell(),
            Cell(),
            Cell(f"not compared: {reason}"),
        ]
        rows.append(Row(cells))
    note = (
        f"Differences of test metrics on the same images and resamples, with "
        f"{comparison.level:.0%} intervals."
    )
    return Table("pairs", "Differences between runs", columns, rows, [note], filter_column="metric")


def metric_label(metric: str, threshold: str) -> str:
    """Return a label such as "CF1, calibrated"."""
    return HEADERS[metric] if metric in THRESHOLD_FREE else f"{HEADERS[metric]}, {threshold}"


def _pair_cells(comparison: Comparison, threshold: str, item: Difference) -> list[Cell]:
    def known(value: float) -> float | None:
        return None if value != value else value

    if known(item.estimate) is None:
        verdict = "undefined"
    elif is_beyond_chance(item, comparison.level):
        verdict = f"{item.first if item.estimate > 0 else item.second} is better"
    else:
        verdict = "not significant"
    return [
        Cell(metric_label(item.metric, threshold)),
        Cell(item.first),
        Cell(item.second),
        Cell(known(item.estimate), known(item.low), known(item.high)),
        Cell(known(item.p_value)),
        Cell(known(item.p_holm)),
        Cell(verdict),
    ]


def calibration_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of calibration errors on test, before and after temperature scaling on held-back scores."""
    columns = (
        RUN,
        Column(
            "ece", "calibration error", "score", better="low", meaning="expected calibration error, 15 bins"
        ),
        Column("temperature", "temperature", "number", meaning="above 1: overconfident scores"),
        Column("ece_temperature", "error with temperature", "score", better="low"),
        Column("thresholds", "calibrated thresholds"),
    )
    rows = [Row([Cell(run.name), *map(Cell, _calibration(run))]) for run in runs if run.test is not None]
    note = "Expected calibration error on test: mean distance between scores and the share of positives."
    return mark_best(Table("calibration", "Calibration", columns, rows, [note]))


def _calibration(run: ReportedRun) -> list[Any]:
    test, source = predictions_of(run), run.thresholds_from or None
    if not ((test.scores >= 0) & (test.scores <= 1)).all():
        return [None, None, None, source]
    before = expected_calibration_error(test.scores, test.targets)
    held_back = run.held_back
    if held_back is None or not len(held_back):
        return [before, None, None, source]
    temperature = fit_temperature(held_back.scores, held_back.targets)
    after = expected_calibration_error(apply_temperature(test.scores, temperature), test.targets)
    return [before, temperature, after, source]


def class_metrics(runs: Sequence[ReportedRun]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `per_class` of `evaluate_scores` on test by run and threshold (HALF, CALIBRATED)."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        if run.test is not None:
            choices = ((HALF, 0.5), (CALIBRATED, run.thresholds))
            found[run.name] = {
                key: evaluate_scores(run.test.scores, run.test.targets, run.classes, values)["per_class"]
                for key, values in choices
                if values is not None
            }
    return found


def class_table(runs: Sequence[ReportedRun], metrics: dict[str, dict[str, dict[str, Any]]]) -> Table:
    """Build the table of the average precision of each class in each run, with its numbers of images."""
    tested = [run for run in runs if run.name in metrics]
    names = sorted({name for run in tested for name in run.classes})
    some_unknown = any("known" in item for run in tested for item in metrics[run.name][HALF].values())
    columns = [
        Column("class", "class"),
        Column("train_images", "train images", "integer", meaning="maximum over runs"),
        Column("test_images", "test images", "integer", meaning="maximum over runs"),
        *(
            [Column("test_known", "of known", "integer", meaning="test images whose label is known")]
            * some_unknown
        ),
        *(Column(f"ap:{run.name}", run.name, "score", "average precision", better="high") for run in tested),
    ]
    rows = []
    for name in names:
        train = [run.dataset.get("counts", {}).get("train", {}).get(name) for run in tested]
        found = [metrics[run.name][HALF].get(name, {}) for run in tested]
        counts = [
            train,
            *([item.get(key) for item in found] for key in ("support", "known")[: 1 + some_unknown]),
        ]
        cells = [Cell(max((n for n in values if n is not None), default=None)) for values in counts]
        scores = [item.get("ap") for item in found]
        rows.append(Row([Cell(name), *cells, *_best_of(scores)]))
    note = "Bold: best of each class. A class without test images has no average precision."
    return Table("classes", "Average precision of each class", columns, rows, [note])


def _best_of(values: Sequence[float | None]) -> list[Cell]:
    known = [value for value in values if value is not None]
    best = max(known) if len(set(known)) > 1 else None
    return [Cell(value, mark=BEST if value is not None and value == best else "") for value in values]
